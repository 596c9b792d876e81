"""Streams with LangChain, LlamaIndex and LiteLLM, and prints the results as one JSON document.

It calls a gateway that streams, and then one that doesn't: importing the three takes longer than all calls.
"""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import litellm
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

TOOL = json.loads(os.environ["TOK0N_TOOL"])


class Gateway(NamedTuple):
    """Where to send requests."""

    base_url: str
    api_key: Any

    @property
    def langchain(self) -> Any:
        return ChatOpenAI(model="demo", base_url=self.base_url, api_key=self.api_key, stream_usage=True)

    @property
    def llama_index(self) -> Any:
        return OpenAILike(model="demo", api_base=self.base_url, api_key=self.api_key, is_chat_model=True)

    def litellm_request(self, prompt: str, more: dict[str, Any]) -> dict[str, Any]:
        messages = [{"role": "user", "content": prompt}]
        options = {"stream": True, "stream_options": {"include_usage": True}, "max_retries": 0}
        access = {"model": "openai/demo", "api_base": self.base_url, "api_key": self.api_key}
        return access | {"messages": messages} | options | more


STREAMING = Gateway(os.environ["TOK0N_BASE_URL"], os.environ["TOK0N_API_KEY"])
WHOLE = Gateway(os.environ["TOK0N_WHOLE_BASE_URL"], os.environ["TOK0N_WHOLE_API_KEY"])


def read_langchain(gateway: Gateway, prompt: str, *, tools: Any = ()) -> dict[str, Any]:
    model = gateway.langchain.bind_tools(tools) if tools else gateway.langchain
    first, *rest = model.stream(prompt)
    whole: Any = sum(rest, start=first)
    calls = [[call["id"], call["name"], call["args"]] for call in whole.tool_calls]
    return {"text": whole.content, "calls": calls, "total": whole.usage_metadata["total_tokens"]}


def loop_langchain(gateway: Gateway, prompt: str) -> dict[str, Any]:
    """Answer the calls of a streamed message, which goes back as it is."""
    model = gateway.langchain.bind_tools([TOOL])
    first, *rest = model.stream(prompt)
    message = sum(rest, start=first)
    results = [ToolMessage("3", tool_call_id=call["id"]) for call in message.tool_calls]
    return {"text": "".join(str(chunk.content) for chunk in model.stream([HumanMessage(prompt), message, *results]))}


async def read_langchain_async(gateway: Gateway, prompt: str) -> dict[str, Any]:
    return {"text": "".join([str(chunk.content) async for chunk in gateway.langchain.astream(prompt)])}


def read_llama_index(gateway: Gateway, prompt: str) -> dict[str, Any]:
    return {
        "text": "".join(answer.delta or "" for answer in gateway.llama_index.stream_chat([ChatMessage(content=prompt)]))
    }


async def read_llama_index_async(gateway: Gateway, prompt: str) -> dict[str, Any]:
    answers = await gateway.llama_index.astream_chat([ChatMessage(content=prompt)])
    return {"text": "".join([answer.delta or "" async for answer in answers])}


def whole_of(chunks: list[Any]) -> dict[str, Any]:
    whole = litellm.stream_chunk_builder(chunks)
    message = whole.choices[0].message
    calls = [[call.id, call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls or []]
    reasoning = getattr(message, "reasoning_content", None)
    return {"text": message.content, "calls": calls, "reasoning": reasoning, "total": whole.usage.total_tokens}


def read_litellm(gateway: Gateway, prompt: str, **more: Any) -> dict[str, Any]:
    return whole_of(list(litellm.completion(**gateway.litellm_request(prompt, more))))


async def read_litellm_async(gateway: Gateway, prompt: str, **more: Any) -> dict[str, Any]:
    return whole_of([chunk async for chunk in await litellm.acompletion(**gateway.litellm_request(prompt, more))])


def loop_litellm(gateway: Gateway, prompt: str) -> dict[str, Any]:
    """Answer the calls of a streamed message, which goes back as it is."""
    request = gateway.litellm_request(prompt, {"tools": [TOOL]})
    message = litellm.stream_chunk_builder(list(litellm.completion(**request))).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "3"} for call in message.tool_calls]
    return whole_of(list(litellm.completion(**request | {"messages": [*request["messages"], message, *results]})))


def attempt(read: Callable[..., Any], prompt: str, *, gateway: Gateway = STREAMING, **more: Any) -> Any:
    try:
        result = read(gateway, prompt, **more)
        return asyncio.run(result) if asyncio.iscoroutine(result) else result
    except Exception as error:  # noqa: BLE001  each client has exceptions of its own
        return {"exception": type(error).__name__, "message": str(error)}


READERS: dict[str, Callable[..., Any]] = {
    "LangChain": read_langchain,
    "LangChain, async": read_langchain_async,
    "LlamaIndex": read_llama_index,
    "LlamaIndex, async": read_llama_index_async,
    "LiteLLM": read_litellm,
    "LiteLLM, async": read_litellm_async,
}
results = {
    name: {prompt: attempt(read, prompt) for prompt in ("text", "quiet", "error")} for name, read in READERS.items()
}
for name in ("LangChain", "LiteLLM", "LiteLLM, async"):
    results[name]["tools"] = attempt(READERS[name], "tools", tools=[TOOL])
results["LangChain"]["loop"] = attempt(loop_langchain, "tools")
results["LiteLLM"]["loop"] = attempt(loop_litellm, "tools")
results["LiteLLM"]["reasoning"] = attempt(read_litellm, "reasoning")
for name, read in READERS.items():
    results[name]["rejected"] = attempt(read, "text", gateway=WHOLE)
sys.stdout.write(json.dumps(results))
