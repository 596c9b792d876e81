"""Answers as Anthropic gives them on its messages endpoints, for tests with real SDKs."""

import asyncio
import json
from typing import Any

from support.scripted_upstream import Behaviour, ScriptedUpstream, http, ok, raw

USAGE = {"input_tokens": 4, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 2, "output_tokens": 5}
TOTAL = 14
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "upstream-demo",
    "content": [{"type": "text", "text": "Hello there."}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": USAGE,
}
EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}},
    {"type": "ping"},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "there."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": USAGE},
    {"type": "message_stop"},
]
STREAM = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in EVENTS).encode()


def as_anthropic(upstream: ScriptedUpstream, reported: list[int]) -> Behaviour:
    """Answer the last request as Anthropic would, and append the tokens of each answer to `reported`."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        request = upstream.requests[-1]
        if b"/count_tokens" in request.partition(b"\r\n")[0]:
            await ok(b'{"input_tokens":8}')(writer)
            return
        reported.append(TOTAL)
        if b'"stream":true' in request:
            await raw(http(STREAM, headers="content-type: text/event-stream\r\n"))(writer)
        else:
            await ok(json.dumps(MESSAGE).encode())(writer)

    return behave
