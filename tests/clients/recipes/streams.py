"""Streams from a running Tok0n with LangChain, LlamaIndex and LiteLLM, and prints the results as one JSON document."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any

import litellm
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_openai import ChatOpenAI
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai_like import OpenAILike

BASE_URL, API_KEY = os.environ["TOK0N_BASE_URL"], os.environ["TOK0N_API_KEY"]
TOOL = json.loads(os.environ["TOK0N_TOOL"])

langchain = ChatOpenAI(model="demo", base_url=BASE_URL, api_key=API_KEY, stream_usage=True)
llama_index = OpenAILike(model="demo", api_base=BASE_URL, api_key=API_KEY, is_chat_model=True)


def read_langchain(prompt: str, *, tools: Any = ()) -> dict[str, Any]:
    model = langchain.bind_tools(tools) if tools else langchain
    first, *rest = model.stream(prompt)
    whole: Any = sum(rest, start=first)
    calls = [[call["id"], call["name"], call["args"]] for call in whole.tool_calls]
    return {"text": whole.content, "calls": calls, "total": whole.usage_metadata["total_tokens"]}


def loop_langchain(prompt: str) -> dict[str, Any]:
    """Answer the calls of a streamed message, which goes back as it is."""
    model = langchain.bind_tools([TOOL])
    first, *rest = model.stream(prompt)
    message = sum(rest, start=first)
    results = [ToolMessage("3", tool_call_id=call["id"]) for call in message.tool_calls]
    return {"text": "".join(str(chunk.content) for chunk in model.stream([HumanMessage(prompt), message, *results]))}


async def read_langchain_async(prompt: str) -> dict[str, Any]:
    return {"text": "".join([str(chunk.content) async for chunk in langchain.astream(prompt)])}


def read_llama_index(prompt: str) -> dict[str, Any]:
    return {"text": "".join(answer.delta or "" for answer in llama_index.stream_chat([ChatMessage(content=prompt)]))}


async def read_llama_index_async(prompt: str) -> dict[str, Any]:
    answers = await llama_index.astream_chat([ChatMessage(content=prompt)])
    return {"text": "".join([answer.delta or "" async for answer in answers])}


def request_of(prompt: str, more: dict[str, Any]) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    options = {"stream": True, "stream_options": {"include_usage": True}, "max_retries": 0}
    return {"model": "openai/demo", "api_base": BASE_URL, "api_key": API_KEY, "messages": messages} | options | more


def whole_of(chunks: list[Any]) -> dict[str, Any]:
    whole = litellm.stream_chunk_builder(chunks)
    message = whole.choices[0].message
    calls = [[call.id, call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls or []]
    reasoning = getattr(message, "reasoning_content", None)
    return {"text": message.content, "calls": calls, "reasoning": reasoning, "total": whole.usage.total_tokens}


def read_litellm(prompt: str, **more: Any) -> dict[str, Any]:
    return whole_of(list(litellm.completion(**request_of(prompt, more))))


async def read_litellm_async(prompt: str, **more: Any) -> dict[str, Any]:
    return whole_of([chunk async for chunk in await litellm.acompletion(**request_of(prompt, more))])


def loop_litellm(prompt: str) -> dict[str, Any]:
    """Answer the calls of a streamed message, which goes back as it is."""
    request = request_of(prompt, {"tools": [TOOL]})
    message = litellm.stream_chunk_builder(list(litellm.completion(**request))).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "3"} for call in message.tool_calls]
    return whole_of(list(litellm.completion(**request | {"messages": [*request["messages"], message, *results]})))


def attempt(read: Callable[..., Any], prompt: str, **more: Any) -> Any:
    try:
        result = read(prompt, **more)
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
is_rejected = sys.argv[1:] == ["rejected"]
prompts = ["text"] if is_rejected else ["text", "error"]
results = {name: {prompt: attempt(read, prompt) for prompt in prompts} for name, read in READERS.items()}
if not is_rejected:
    for name in ("LangChain", "LiteLLM", "LiteLLM, async"):
        results[name]["tools"] = attempt(READERS[name], "tools", tools=[TOOL])
    results["LangChain"]["loop"] = attempt(loop_langchain, "tools")
    results["LiteLLM"]["loop"] = attempt(loop_litellm, "tools")
    results["LiteLLM"]["reasoning"] = attempt(read_litellm, "reasoning")
sys.stdout.write(json.dumps(results))
