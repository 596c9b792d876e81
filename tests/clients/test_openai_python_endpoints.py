"""OpenAI's official SDK for Python against a running server: embeddings and responses."""

import asyncio
import base64
import json
import struct
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from support.gateways import ServerProcess, prepared
from support.scripted_upstream import Behaviour, ScriptedUpstream, http, ok, raw

pytestmark = pytest.mark.anyio

MORE = 'endpoints = ["embeddings", "responses"]\n[server]\nstreaming = true\n'
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


class Person(BaseModel):
    """What a structured answer holds."""

    name: str


def by_request(upstream: ScriptedUpstream) -> Behaviour:
    """Answer the last request as OpenAI would."""

    async def behave(writer: asyncio.StreamWriter) -> None:
        body = json.loads(upstream.bodies[-1])
        if b"/embeddings" not in upstream.requests[-1].partition(b"\r\n")[0]:
            answer = raw(http(STREAM, headers="content-type: text/event-stream\r\n"))
            await (answer if body.get("stream") else ok(json.dumps(RESPONSE).encode()))(writer)
            return
        inputs = body["input"]
        count = len(inputs) if type(inputs) is list and type(inputs[0]) is not int else 1
        vector: Any = VECTOR if body.get("encoding_format") == "base64" else [0.5, -1.0]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(count)]
        usage = {"prompt_tokens": 3 * count, "total_tokens": 3 * count}
        answer_body = {"object": "list", "model": "upstream-demo", "data": data, "usage": usage}
        await ok(json.dumps(answer_body).encode())(writer)

    return behave


async def test_embeddings_and_responses_are_what_the_sdk_expects(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        upstream.behaviour = by_request(upstream)
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=MORE)
        async with (
            ServerProcess(tmp_path) as server,
            openai.AsyncOpenAI(base_url=server.base_url, api_key=api_key, max_retries=0) as client,
        ):
            await embeddings(client)
            await responses(client)
            with pytest.raises(openai.BadRequestError) as refused:
                await client.responses.create(model="demo", input="Hello", store=True)
            assert refused.value.param == "store"
            with pytest.raises(openai.BadRequestError, match="POST /v1/embeddings and POST /v1/responses"):
                await client.chat.completions.create(model="demo", messages=[{"role": "user", "content": "Hello"}])
            balance = await client.get("/balance", cast_to=dict[str, Any])
    assert (balance["posted"], balance["pending"]) == (1_000_000 - 7 * 3 - 3 * 11, 0)


async def embeddings(client: openai.AsyncOpenAI) -> None:
    """Texts and tokens, one and several, in both formats."""
    inputs: list[Any] = ["Hello", ["Hello", "World"], [1, 2, 3], [[1, 2], [3]]]
    for given, count in zip(inputs, (1, 2, 1, 2), strict=True):
        found = await client.embeddings.create(model="demo", input=given)
        assert [item.embedding for item in found.data] == [[0.5, -1.0]] * count
        assert (found.model, found.usage.total_tokens) == ("demo", 3 * count)
    found = await client.embeddings.create(model="demo", input="Hello", encoding_format="float", dimensions=2)
    assert found.data[0].embedding == [0.5, -1.0]


async def responses(client: openai.AsyncOpenAI) -> None:
    """Whole, streamed, and parsed."""
    whole = await client.responses.create(model="demo", input="Hello", instructions="Be brief.")
    assert (whole.model, whole.output_text) == ("demo", TEXT)
    async with client.responses.stream(model="demo", input="Hello", text_format=Person) as stream:
        types = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert types[0] == "response.created"
    assert types[-1] == "response.completed"
    assert final.output_parsed == Person(name="Ada")
    parsed = await client.responses.parse(model="demo", input="Hello", text_format=Person)
    assert parsed.output_parsed == Person(name="Ada")
    assert parsed.usage is not None
    assert parsed.usage.total_tokens == 11
