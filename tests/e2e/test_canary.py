"""What customers write and what secrets there are is nowhere: not in the database, its WAL, or the logs at debug."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from support.endpoint_cases import DONE, REPORT, ROLE, STOP, chunk
from support.fakes import ANSWER
from support.gateways import ServerProcess, funded, prepared
from support.http import chat, chat_body
from support.scripted_upstream import FAULTS, ScriptedUpstream, hang, ok, status
from support.streaming_client import StreamClient
from support.streaming_upstream import StreamingUpstream

pytestmark = pytest.mark.anyio

PROMPT = "canary-prompt-7f3a9c"
ANSWERED = "canary-answer-51be02"
LINES = 15
"""The requests that `everything` makes and that are answered."""

UPSTREAM_KEY = "sk-operator-secret-123456"


async def test_no_content_and_no_secret_is_ever_kept(tmp_path: Path) -> None:
    answer = ANSWER.replace(b"Hello.", ANSWERED.encode())
    async with ScriptedUpstream(ok(answer)) as upstream:
        more = '[logs]\nlevel = "debug"\nformat = "json"\n'
        api_key = await funded(tmp_path, upstream_url=upstream.base_url, tokens=1_000_000, more=more)
        async with ServerProcess(tmp_path) as server:
            await everything(server.base_url, api_key, upstream, answer)
            async with asyncio.timeout(10):
                while server.log.read_bytes().count(b"req_") < LINES:
                    await asyncio.sleep(0)
            await server.kill()
    assert_nothing_is_kept(tmp_path, api_key)


async def test_no_content_of_a_stream_is_ever_kept(tmp_path: Path) -> None:
    more = '[server]\nstreaming = true\n[logs]\nlevel = "debug"\nformat = "json"\n'
    async with StreamingUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=more)
        async with ServerProcess(tmp_path) as server:
            await every_stream(server.base_url, api_key, upstream)
            async with asyncio.timeout(10):
                while server.log.read_bytes().count(b'"stream":true') < 2 * len(stream_ends()):
                    await asyncio.sleep(0)
            async with StreamClient(server.base_url, api_key, stream_body()) as client:
                (await upstream.next()).send(chunk(ANSWERED))
                await client.begun()
                await server.kill()
    assert_nothing_is_kept(tmp_path, api_key)


def stream_body() -> bytes:
    return chat_body(PROMPT, user=PROMPT, stream=True, stream_options={"include_usage": True})


def stream_ends() -> list[bytes]:
    """What an upstream sends last: the end of an answer, and every kind of failure whose events hold content."""
    words = f"{PROMPT} {ANSWERED} {UPSTREAM_KEY}"
    error = {"message": words, "type": ANSWERED, "code": PROMPT}
    return [
        STOP + REPORT + DONE,
        chunk(ANSWERED)[:-10],
        b"data: " + words.encode() + b"\n\n",
        b"data: %b\n\n" % msgspec.json.encode({"error": error}),
        b"data: %b\n\n" % msgspec.json.encode({"error": error | {"code": 400}}),
        b"data: %b\n\n" % msgspec.json.encode([{words: words}]),
        b"data: %b\n\n" % msgspec.json.encode({"choices": [words]}),
        b"data: %b\n\n" % msgspec.json.encode({"choices": [{"error": error}]}),
        words.encode() + b": \xff\n\n",
        f"event: {words}\ndata: 1\n\n".encode(),
        STOP + chunk(choices=[], usage={words: words, "total_tokens": words}) + DONE,
    ]


async def every_stream(base_url: str, api_key: str, upstream: StreamingUpstream) -> None:
    """Streams with each ending, before and after content, whose client stays to the end."""
    for end in stream_ends():
        for beginning in (ROLE, chunk(ANSWERED)):
            async with StreamClient(base_url, api_key, stream_body()) as client:
                (await upstream.next()).complete(beginning + end)
                async with asyncio.timeout(10):
                    assert await client.reader.readline()
                await client.reset()


def assert_nothing_is_kept(folder: Path, api_key: str) -> None:
    """Assert that no file of the folder holds content or a secret."""
    kept = {path: path.read_bytes() for path in folder.iterdir() if path.name != "upstream.key"}
    assert any(path.name.endswith("-wal") and content for path, content in kept.items()), "the WAL is looked at too"
    for path, content in kept.items():
        for secret in (PROMPT, ANSWERED, api_key, UPSTREAM_KEY):
            assert secret.encode() not in content, (path.name, secret)
            assert secret.encode("utf-16-le") not in content, (path.name, secret)


async def everything(base_url: str, api_key: str, upstream: ScriptedUpstream, answer: bytes) -> None:
    """Good calls, bad ones, and every kind of failure whose answer holds content."""
    body = chat_body(PROMPT, user=PROMPT, metadata={"a": PROMPT}, stop=[PROMPT])
    assert (await chat(base_url, api_key, body)).status == 200
    for broken in (body[:-1], body + b"x", body.replace(b'"stop"', PROMPT.encode()), chat_body(**{PROMPT: PROMPT})):
        assert (await chat(base_url, api_key, broken)).status == 400
    assert (await chat(base_url, api_key, chat_body(model=PROMPT))).status == 400
    wrong_key = api_key[:-1] + ("1" if api_key.endswith("0") else "0")
    assert (await chat(base_url, wrong_key, body)).status == 401
    echo = msgspec.json.encode({"error": {"message": f"{PROMPT} {UPSTREAM_KEY}", "type": PROMPT, "code": ANSWERED}})
    for behaviour in (
        ok(answer.replace(b'"total_tokens":12', b'"total_tokens":11')),
        ok(answer[:-3]),
        ok(answer.replace(b"Hello", b"\xff")[:-1]),
        status(500, echo),
        status(400, echo),
        FAULTS["reset"],
        FAULTS["html"],
    ):
        upstream.behaviour = behaviour
        assert (await chat(base_url, api_key, body)).status in {400, 502}
    details = b'"prompt_tokens_details":{"' + ANSWERED.replace("-", "_").encode() + b'":1,"cached_tokens":2}'
    upstream.behaviour = ok(answer.replace(b'"total_tokens":12', b'"total_tokens":12,' + details))
    assert (await chat(base_url, api_key, body)).status == 200
    upstream.behaviour = hang
    waiting = asyncio.create_task(chat(base_url, api_key, body))
    seen = len(upstream.requests)
    await upstream.until(lambda: len(upstream.requests) > seen)
    waiting.cancel()
