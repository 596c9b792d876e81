"""Answers as OpenAI gives them on its embeddings and responses endpoints, for tests with real SDKs."""

import asyncio
import base64
import json
import struct
from typing import Any

from support.scripted_upstream import Behaviour, ScriptedUpstream, http, ok, raw

VECTOR = base64.b64encode(struct.pack("<2f", 0.5, -1.0)).decode()
TEXT = '{"name":"Ada"}'
PART = {"type": "output_text", "text": TEXT, "annotations": []}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [PART]}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "upstream-demo",
    "output": [ITEM],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 6,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 11,
    },
}
AT = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
EVENTS: list[dict[str, Any]] = [
    {"type": "response.created", "response": RESPONSE | {"status": "in_progress", "output": [], "usage": None}},
    {"type": "response.output_item.added", "output_index": 0, "item": ITEM | {"content": [], "status": "in_progress"}},
    {"type": "response.content_part.added", **AT, "part": PART | {"text": ""}},
    {"type": "response.output_text.delta", **AT, "delta": TEXT, "logprobs": []},
    {"type": "response.output_text.done", **AT, "text": TEXT, "logprobs": []},
    {"type": "response.content_part.done", **AT, "part": PART},
    {"type": "response.output_item.done", "output_index": 0, "item": ITEM},
    {"type": "response.completed", "response": RESPONSE},
]
STREAM = "".join(
    f"event: {event['type']}\ndata: {json.dumps(event | {'sequence_number': number})}\n\n"
    for number, event in enumerate(EVENTS)
).encode()


def as_openai(upstream: ScriptedUpstream, reported: list[int]) -> Behaviour:
    """Answer the last request as OpenAI would, and append the tokens of each answer to `reported`."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        body = json.loads(upstream.bodies[-1])
        if b"/embeddings" not in upstream.requests[-1].partition(b"\r\n")[0]:
            reported.append(RESPONSE["usage"]["total_tokens"])
            answer = raw(http(STREAM, headers="content-type: text/event-stream\r\n"))
            await (answer if body.get("stream") else ok(json.dumps(RESPONSE).encode()))(writer)
            return
        inputs = body["input"]
        count = len(inputs) if type(inputs) is list and type(inputs[0]) is not int else 1
        vector: Any = VECTOR if body.get("encoding_format") == "base64" else [0.5, -1.0]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
        usage = {"prompt_tokens": 3 * count, "total_tokens": 3 * count}
        reported.append(usage["total_tokens"])
        answer_body = {"object": "list", "model": "upstream-demo", "data": data, "usage": usage}
        await ok(json.dumps(answer_body).encode())(writer)

    return behave
