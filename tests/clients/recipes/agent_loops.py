"""Hold a conversation with a tool call in each of several libraries, and print the results as one JSON document.

The name of the group of packages that this environment has is the argument. The prompt makes the demo's model call the
tool. Each result is the second answer and the tokens that the library counted.
"""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

PROMPT = 'Add.\n[call add {"a": 1, "b": 2}]'
BASE_URL, API_KEY = os.environ["TOK0N_BASE_URL"], os.environ["TOK0N_API_KEY"]
ROOT_URL = BASE_URL.removesuffix("/v1")


def add(a: int, b: int) -> str:
    """Add two numbers."""
    return f"the sum is {a + b}"


def langchain(**more: Any) -> list[Any]:
    from langchain_core.messages import HumanMessage  # noqa: PLC0415  each environment has some of the libraries
    from langchain_core.tools import tool  # noqa: PLC0415
    from langchain_openai import ChatOpenAI  # noqa: PLC0415

    tools = [tool(add)]
    access: dict[str, Any] = {"model": "demo", "base_url": BASE_URL, "api_key": API_KEY}
    model = ChatOpenAI(**access, use_responses_api=True, **more).bind_tools(tools)
    asked = HumanMessage(PROMPT)
    first: Any = model.invoke([asked])
    second: Any = model.invoke([asked, first, *(tools[0].invoke(call) for call in first.tool_calls)])
    third: Any = model.invoke([asked, first, *(tools[0].invoke(call) for call in first.tool_calls), second, "More"])
    return [second.text, sum(found.usage_metadata["total_tokens"] for found in (first, second, third))]


def litellm_responses() -> list[Any]:
    import litellm  # noqa: PLC0415

    access: dict[str, Any] = {"model": "openai/demo", "api_base": BASE_URL, "api_key": API_KEY}
    parameters = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}
    tools = [{"type": "function", "name": "add", "description": "Add two numbers.", "parameters": parameters}]
    items: list[Any] = [{"role": "user", "content": PROMPT}]
    first: Any = litellm.responses(input=items, tools=tools, **access)
    call = next(item for item in first.output if item.type == "function_call")
    called = {"type": "function_call", "call_id": call.call_id, "name": call.name, "arguments": call.arguments}
    result = {"type": "function_call_output", "call_id": call.call_id, "output": add(**json.loads(call.arguments))}
    second: Any = litellm.responses(input=[*items, called, result], tools=tools, **access)
    return [second.output_text, first.usage.total_tokens + second.usage.total_tokens]


def pydantic_ai_loop(model: Any) -> list[Any]:
    from pydantic_ai import Agent  # noqa: PLC0415

    agent = Agent(model, tools=[add], model_settings={"max_tokens": 200})
    first = agent.run_sync(PROMPT)
    second = agent.run_sync("More", message_history=first.all_messages())
    return [first.output, first.usage.total_tokens + second.usage.total_tokens]


def pydantic_ai_openai() -> list[Any]:
    from pydantic_ai.models.openai import OpenAIResponsesModel  # noqa: PLC0415
    from pydantic_ai.providers.openai import OpenAIProvider  # noqa: PLC0415

    provider = OpenAIProvider(base_url=BASE_URL, api_key=API_KEY)
    return pydantic_ai_loop(OpenAIResponsesModel("demo", provider=provider))


def pydantic_ai_anthropic() -> list[Any]:
    from pydantic_ai.models.anthropic import AnthropicModel  # noqa: PLC0415
    from pydantic_ai.providers.anthropic import AnthropicProvider  # noqa: PLC0415

    return pydantic_ai_loop(AnthropicModel("demo", provider=AnthropicProvider(base_url=ROOT_URL, api_key=API_KEY)))


def openai_agents() -> list[Any]:
    from agents import Agent, Runner, function_tool, set_default_openai_client, set_tracing_disabled  # noqa: PLC0415
    from openai import AsyncOpenAI  # noqa: PLC0415

    set_tracing_disabled(True)
    set_default_openai_client(AsyncOpenAI(base_url=BASE_URL, api_key=API_KEY), use_for_tracing=False)
    agent: Any = Agent(name="Assistant", model="demo", tools=[function_tool(add)])
    first = Runner.run_sync(agent, PROMPT)
    second = Runner.run_sync(agent, [*first.to_input_list(), {"role": "user", "content": "More"}])
    return [first.final_output, sum(found.context_wrapper.usage.total_tokens for found in (first, second))]


LOOPS: dict[str, dict[str, Callable[[], list[Any]]]] = {
    "libraries": {
        "LangChain": langchain,
        "LangChain, streamed": lambda: langchain(streaming=True),
        "LiteLLM": litellm_responses,
    },
    "agents": {
        "pydantic-ai, responses": pydantic_ai_openai,
        "pydantic-ai, messages": pydantic_ai_anthropic,
        "OpenAI Agents SDK": openai_agents,
    },
}

if __name__ == "__main__":
    sys.stdout.write(json.dumps({name: loop() for name, loop in LOOPS[sys.argv[1]].items()}))
