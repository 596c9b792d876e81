"""What customers write and what secrets there are is nowhere: not in the database, its WAL, or the logs at debug.

A server gets every kind of call of every endpoint.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.endpoint_cases import CASES, SERVED, STREAMS, EndpointCase, StreamCase, chunk
from support.gateways import ServerProcess, funded, prepared
from support.http import call, request
from support.scripted_upstream import FAULTS, ScriptedUpstream, hang, ok, status
from support.streaming_client import StreamClient
from support.streaming_upstream import StreamingUpstream

pytestmark = pytest.mark.anyio

PROMPT = "canary-prompt-7f3a9c"
ANSWERED = "canary-answer-51be02"
MORE = f'{SERVED}[server]\nstreaming = true\n[logs]\nlevel = "debug"\nformat = "json"\n'

UPSTREAM_KEY = "sk-operator-secret-123456"


async def test_no_content_and_no_secret_is_ever_kept(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        more = MORE.replace("streaming = true", "streaming = false")
        api_key = await funded(tmp_path, upstream_url=upstream.base_url, tokens=1_000_000, more=more)
        async with ServerProcess(tmp_path) as server:
            answered = 0
            for case in CASES:
                answered += await everything(case, server.base_url, api_key, upstream)
            async with asyncio.timeout(10):
                while server.log.read_bytes().count(b'"event":"request"') < answered:
                    await asyncio.sleep(0)
            await until_rejections_are_stored(server.base_url, api_key)
            await server.kill()
    assert_nothing_is_kept(tmp_path, api_key)


async def until_rejections_are_stored(base_url: str, api_key: str) -> None:
    """Wait until rejected requests of every endpoint have rows."""
    found: set[str] = set()
    headers = {"authorization": f"Bearer {api_key}"}
    async with asyncio.timeout(20):
        while not found >= {case.name for case in CASES}:
            listed = await request(base_url, "GET", "/v1/requests?status=rejected&limit=100", headers=headers)
            found = {row["endpoint"] for row in listed.json["data"]}


async def test_no_content_of_a_stream_is_ever_kept(tmp_path: Path) -> None:
    async with StreamingUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=MORE)
        async with ServerProcess(tmp_path) as server:
            streams = 0
            for case in STREAMS:
                streams += await every_stream(case, server.base_url, api_key, upstream)
            async with asyncio.timeout(10):
                while server.log.read_bytes().count(b'"stream":true') < streams:
                    await asyncio.sleep(0)
            async with contextlib.AsyncExitStack() as stack:
                for case in STREAMS:
                    client = StreamClient(server.base_url, api_key, stream_body(case), case=case)
                    await stack.enter_async_context(client)
                    (await upstream.next()).send(case.streaming.beginning + case.streaming.content(ANSWERED))
                    await client.begun()
                await server.kill()
    assert_nothing_is_kept(tmp_path, api_key)


EXTRAS: dict[str, dict[str, Any]] = {
    "chat": {"user": PROMPT, "metadata": {"a": PROMPT}, "stop": [PROMPT]},
    "embeddings": {"user": PROMPT},
    "responses": {"user": PROMPT, "metadata": {"a": PROMPT}, "instructions": PROMPT},
    "messages": {"metadata": {"user_id": PROMPT}, "system": PROMPT, "stop_sequences": [PROMPT]},
    "count_tokens": {"system": PROMPT},
}
"""More fields of a request that hold what a customer writes."""


def stream_body(case: EndpointCase) -> bytes:
    return case.body(PROMPT, is_stream=True, **EXTRAS[case.name])


def stream_ends(stream: StreamCase) -> list[bytes]:
    """What an upstream sends last: the end of an answer, and every kind of failure whose events hold content."""
    words = f"{PROMPT} {ANSWERED} {UPSTREAM_KEY}"
    error = {"message": words, "type": ANSWERED, "code": PROMPT}
    data: list[object] = [{"error": error}, {"error": error | {"code": 400}}, [{words: words}], {"choices": [words]}]
    data += [{"choices": [{"error": error}]}, {"type": words}, {"type": "error", "error": error}]
    data += [{"type": "response.failed", "response": {"error": error}}, {"type": "message_start", "message": words}]
    return [
        stream.end,
        stream.failure({"message": words}),
        stream.without_usage,
        stream.content(ANSWERED)[:-10],
        b"data: " + words.encode() + b"\n\n",
        *(b"data: %b\n\n" % msgspec.json.encode(values) for values in data),
        words.encode() + b": \xff\n\n",
        f"event: {words}\ndata: 1\n\n".encode(),
        chunk(choices=[], usage={words: words, "total_tokens": words}) + stream.without_usage,
        b'data: {"type":"message_delta","delta":{"stop_reason":"%b"},"usage":{"%b":"%b"}}\n\n'
        % (ANSWERED.encode(), words.encode(), words.encode()),
    ]


async def every_stream(case: EndpointCase, base_url: str, api_key: str, upstream: StreamingUpstream) -> int:
    """Streams with each ending, before and after content, whose client stays to the end. Returns how many."""
    stream = case.streaming
    beginnings = (stream.beginning, stream.beginning + stream.content(ANSWERED))
    for end in stream_ends(stream):
        for beginning in beginnings:
            async with StreamClient(base_url, api_key, stream_body(case), case=case) as client:
                (await upstream.next()).complete(beginning + end)
                async with asyncio.timeout(10):
                    assert await client.reader.readline()
                await client.reset()
    return len(beginnings) * len(stream_ends(stream))


def assert_nothing_is_kept(folder: Path, api_key: str) -> None:
    """Assert that no file of the folder holds content or a secret."""
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.name != "upstream.key"}
    assert any(path.name.endswith("-wal") and content for path, content in kept.items()), "the WAL is looked at too"
    for path, content in kept.items():
        for secret in (PROMPT, ANSWERED, api_key, UPSTREAM_KEY):
            assert secret.encode() not in content, (path.name, secret)
            assert secret.encode("utf-16-le") not in content, (path.name, secret)


async def everything(case: EndpointCase, base_url: str, api_key: str, upstream: ScriptedUpstream) -> int:
    """Good calls, bad ones, and every kind of failure whose answer holds content. Returns how many were answered."""
    answered = 0

    async def asked(body: bytes, *statuses: int, key: str = api_key) -> None:
        nonlocal answered
        got = await call(case, base_url, key, body)
        assert got.status in statuses, (case.name, got)
        answered += 1

    unknown: dict[str, Any] = {PROMPT: PROMPT}
    answer = case.answer(ANSWERED)
    upstream.behaviour = ok(msgspec.json.encode(answer))
    body = case.body(PROMPT, **EXTRAS[case.name])
    await asked(body, 200)
    for broken in (body[:-1], body + b"x", body.replace(b'"model"', PROMPT.encode()), case.body(**unknown)):
        await asked(broken, 400)
    await asked(case.body(model=PROMPT), 400)
    await asked(body, 401, key=api_key[:-1] + ("1" if api_key.endswith("0") else "0"))
    echo = msgspec.json.encode({"error": {"message": f"{PROMPT} {UPSTREAM_KEY}", "type": PROMPT, "code": ANSWERED}})
    whole = msgspec.json.encode(answer)
    for behaviour in (
        ok(whole.replace(b'"%b":' % case.count.encode(), b'"%b":-' % case.count.encode())),
        ok(whole[:-3]),
        ok(whole.replace(ANSWERED.encode(), ANSWERED.encode() + b"\xff")[:-1]),
        status(500, echo),
        status(400, echo),
        FAULTS["reset"],
        FAULTS["html"],
    ):
        upstream.behaviour = behaviour
        await asked(body, 400, 502)
    if "usage" in answer:
        details = {ANSWERED.replace("-", "_"): 1, "cached_tokens": 2}
        usage = {f"{case.count}_details": details, ANSWERED: PROMPT}
        upstream.behaviour = ok(msgspec.json.encode(answer | {"usage": answer["usage"] | usage}))
        await asked(body, 200)
    upstream.behaviour = hang
    waiting = asyncio.create_task(call(case, base_url, api_key, body))
    seen = len(upstream.requests)
    await upstream.until(lambda: len(upstream.requests) > seen)
    waiting.cancel()
    return answered
