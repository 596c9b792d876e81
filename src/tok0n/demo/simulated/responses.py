"""`POST /responses` of the simulated upstream, in OpenAI's format."""

import time
import uuid
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

import msgspec

from tok0n.demo.simulated.chat import OUTPUT_TOKENS_DEFAULT
from tok0n.demo.simulated.replies import (
    ITEM_TOKENS,
    Conversation,
    Item,
    Reply,
    Tool,
    json_of,
    reply_to,
    strings_of,
    tokens_of,
)
from tok0n.demo.simulated_stream import words_of

_READ = ("content", "name", "arguments", "input", "output", "summary")
"""Members of an input item that hold text for the model."""

_RESULTS = frozenset({"function_call_output", "custom_tool_call_output", "tool_search_output"})


class ResponsesBody(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request that the simulation uses. It ignores the others."""

    prompt_field: ClassVar[str] = "input"

    model: str
    input: str | Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
    instructions: str | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    stream: bool | None = None
    text: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None

    stream_options = None

    def conversation(self) -> Conversation:
        """Return what the simulated model reads. Tools can stand in `tools`, in input items and in namespaces."""
        input_items: list[dict[str, Any]] = (
            [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        )
        instructions = [{"role": "developer", "content": self.instructions}] if self.instructions else []
        tools: list[dict[str, Any]] = [
            *(self.tools or []),
            *(tool for item in input_items for tool in item.get("tools") or []),
        ]
        answer_format = (self.text or {}).get("format") or {}
        choice = self.tool_choice or "auto"
        return Conversation(
            model=self.model,
            items=[_item(item) for item in [*instructions, *input_items]],
            limit=self.max_output_tokens or OUTPUT_TOKENS_DEFAULT,
            tools=list(_tools(tools)),
            tools_tokens=tokens_of(json_of(tools)) if tools else 0,
            tool_choice="auto" if isinstance(choice, dict) and "name" not in choice else choice,
            response_format=msgspec.convert(answer_format.get("type"), str | None),
            schema=answer_format.get("schema"),
        )

    def answer(self, conversation: Conversation) -> dict[str, Any]:
        """Return a response."""
        reply = reply_to(conversation)
        input_tokens = conversation.prompt_tokens
        now = int(time.time())
        return {
            "id": f"resp_simulated_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": now,
            "completed_at": None if reply.is_cut else now,
            "status": "incomplete" if reply.is_cut else "completed",
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if reply.is_cut else None,
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": {},
            "model": self.model,
            "output": [_output(reply)],
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0,
            "text": self.text or {"format": {"type": "text"}},
            "tool_choice": self.tool_choice or "auto",
            "tools": self.tools or [],
            "top_p": 1.0,
            "usage": {
                "input_tokens": input_tokens,
                "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                "output_tokens": reply.tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": input_tokens + reply.tokens,
            },
        }

    def events(self, answer: dict[str, Any]) -> list[bytes]:
        """Return the typed events of a response. An answer without usage streams none."""
        events = [event | {"sequence_number": number} for number, event in enumerate(_events(answer))]
        return [b"event: %b\ndata: %b\n\n" % (event["type"].encode(), msgspec.json.encode(event)) for event in events]


def _item(item: dict[str, Any]) -> Item:
    kind = item.get("type", "message")
    read = {name: item[name] for name in _READ if name in item}
    for name in ("content", "output"):
        if isinstance(read.get(name), list):
            read[name] = [part.get("text", "") for part in read[name]]
    role = item.get("role", "assistant")
    content = read.get("output" if kind in _RESULTS else "content", "")
    text = " ".join(content) if isinstance(content, list) else content or ""
    tokens = ITEM_TOKENS + tokens_of(strings_of(read))
    return msgspec.convert({"role": "tool" if kind in _RESULTS else role, "text": text, "tokens": tokens}, Item)


def _tools(tools: list[dict[str, Any]], namespace: str | None = None) -> Iterator[Tool]:
    """Yield the tools that the client runs."""
    for tool in tools:
        kind = tool.get("type")
        if kind == "namespace":
            yield from _tools(tool.get("tools") or [], tool["name"])
        elif kind in {"function", "custom"}:
            values = {"name": tool["name"], "parameters": tool.get("parameters"), "is_custom": kind == "custom"}
            yield msgspec.convert(values | {"namespace": namespace}, Tool)


def _output(reply: Reply) -> dict[str, Any]:
    """Return the only output item."""
    status = "incomplete" if reply.is_cut else "completed"
    if reply.tool is None:
        part = {"type": "output_text", "text": reply.text, "annotations": [], "logprobs": []}
        message_id = f"msg_{uuid.uuid4().hex}"
        return {"type": "message", "id": message_id, "status": status, "role": "assistant", "content": [part]}
    call: dict[str, Any] = {"call_id": f"call_{uuid.uuid4().hex}", "name": reply.tool.name, "status": status}
    if reply.tool.namespace is not None:
        call["namespace"] = reply.tool.namespace
    if reply.tool.is_custom:
        return {"type": "custom_tool_call", "id": f"ctc_{uuid.uuid4().hex}", "input": reply.text} | call
    return {"type": "function_call", "id": f"fc_{uuid.uuid4().hex}", "arguments": reply.text} | call


def _events(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the events without their sequence numbers."""
    begun = answer | {"status": "in_progress", "output": [], "completed_at": None, "incomplete_details": None}
    begun |= {"usage": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    (item,) = answer["output"]
    item_fields = {"output_index": 0, "item_id": item["id"]}
    emptied: dict[str, Any] = {"content": []} if item["type"] == "message" else {_member(item): ""}
    yield {"type": "response.output_item.added", "output_index": 0, "item": item | emptied | {"status": "in_progress"}}
    yield from _message_events(item, item_fields) if item["type"] == "message" else _call_events(item, item_fields)
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": f"response.{answer['status']}", "response": answer}


def _message_events(item: dict[str, Any], item_fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    (part,) = item["content"]
    item_fields |= {"content_index": 0}
    yield {"type": "response.content_part.added", "part": part | {"text": ""}} | item_fields
    for word in words_of(part["text"]):
        yield {"type": "response.output_text.delta", "delta": word, "logprobs": []} | item_fields
    yield {"type": "response.output_text.done", "text": part["text"], "logprobs": []} | item_fields
    yield {"type": "response.content_part.done", "part": part} | item_fields


def _call_events(item: dict[str, Any], item_fields: dict[str, Any]) -> Iterator[dict[str, Any]]:
    member = _member(item)
    kind = "function_call_arguments" if member == "arguments" else "custom_tool_call_input"
    for word in words_of(item[member]):
        yield {"type": f"response.{kind}.delta", "delta": word} | item_fields
    name = {"name": item["name"]} if member == "arguments" else {}
    yield {"type": f"response.{kind}.done", member: item[member]} | name | item_fields


def _member(item: dict[str, Any]) -> str:
    return "arguments" if item["type"] == "function_call" else "input"
