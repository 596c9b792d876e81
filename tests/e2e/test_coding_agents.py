"""What coding agents need from errors, streams and limits, on every endpoint that they call.

`tests/test_coding_agent_rows.py` has the number of the need that each test is for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from support.anthropic_api import MESSAGE
from support.anthropic_api import STREAM as MESSAGES_STREAM
from support.client_streams import charged_tokens
from support.endpoint_cases import CASES
from support.gateways import Running, running
from support.http import Answer, request
from support.openai_api import RESPONSE
from support.openai_api import STREAM as RESPONSES_STREAM
from support.scripted_upstream import ScriptedUpstream, http, ok, raw, status
from support.streaming_client import StreamClient
from support.streaming_upstream import StreamingUpstream

pytestmark = pytest.mark.anyio

CASE_OF = {case.path: case for case in CASES}

MORE = 'endpoints = ["chat", "responses", "messages"]\n[server]\nstreaming = true\n'
ASKED: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": ASKED},
    "/v1/responses": {"input": "Hello"},
    "/v1/messages": {"messages": ASKED, "max_tokens": 50},
    "/v1/messages/count_tokens": {"messages": ASKED},
}
ANTHROPIC = ("/v1/messages", "/v1/messages/count_tokens")
STREAMS = {"/v1/responses": RESPONSES_STREAM, "/v1/messages": MESSAGES_STREAM}
WHOLE = {"/v1/responses": RESPONSE, "/v1/messages": MESSAGE}
EVERY_PATH = pytest.mark.parametrize("path", BODIES)
EVERY_STREAM = pytest.mark.parametrize("path", STREAMS)


@contextlib.asynccontextmanager
async def opened(folder: Path, upstream: ScriptedUpstream | StreamingUpstream, **more: Any) -> AsyncIterator[Running]:
    """Open a gateway with every endpoint that a coding agent calls, streaming on."""
    async with upstream, running(folder, upstream_url=upstream.base_url, more=MORE, **more) as gateway:
        yield gateway


def body_of(path: str, **more: object) -> bytes:
    """Return a small valid request."""
    return msgspec.json.encode({"model": "demo"} | BODIES[path] | more)


async def post(gateway: Running, path: str, *, api_key: str | None = None, **more: object) -> Answer:
    """Send a request that is valid but for `more`."""
    headers = {"authorization": f"Bearer {api_key or gateway.api_key}"}
    return await request(gateway.base_url, "POST", path, body_of(path, **more), headers)


def message_of(answer: Answer, path: str) -> str:
    """Return the sentence of an error, once its shape and the IDs are those that the clients of `path` read."""
    body = answer.json
    request_id = answer.headers["x-request-id"]
    if path in ANTHROPIC:
        assert (body.keys(), body["type"]) == ({"type", "error", "request_id"}, "error")
        assert body["error"].keys() == {"type", "message"}
        assert answer.headers["request-id"] == body["request_id"] == request_id
    else:
        assert body.keys() == {"error"}
        assert body["error"].keys() == {"message", "type", "param", "code"}
    message: str = body["error"]["message"]
    return message


@EVERY_PATH
async def test_a_wrong_key_is_told_not_to_retry(tmp_path: Path, path: str) -> None:
    async with opened(tmp_path, ScriptedUpstream()) as gateway:
        answer = await post(gateway, path, api_key="sk-wrong")
        assert (answer.status, answer.headers["x-should-retry"]) == (401, "false")
        assert message_of(answer, path).endswith(".")


@EVERY_PATH
async def test_a_rate_limit_says_when_to_retry(tmp_path: Path, path: str) -> None:
    async with opened(tmp_path, ScriptedUpstream(status(500)), limits=1) as gateway:
        await post(gateway, path)
        answer = await post(gateway, path)
        assert answer.status == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert "x-should-retry" not in answer.headers
        assert message_of(answer, path).endswith(".")


@EVERY_STREAM
async def test_an_overloaded_server_says_when_to_retry(tmp_path: Path, path: str) -> None:
    upstream = StreamingUpstream()
    async with (
        opened(tmp_path, upstream, overrides={"server.streams_max": 1}) as gateway,
        StreamClient(gateway.base_url, gateway.api_key, body_of(path, stream=True), case=CASE_OF[path]) as first,
    ):
        exchange = await upstream.next()
        answer = await post(gateway, path, stream=True)
        assert (answer.status, int(answer.headers["retry-after"])) == (503, 1)
        assert message_of(answer, path).endswith(".")
        exchange.complete(STREAMS[path])
        await first.begun()


@EVERY_PATH
async def test_failing_requests_take_no_slot_and_cost_nothing(tmp_path: Path, path: str) -> None:
    """Codex sends up to 30 requests for one turn that fails."""
    one = {"limits.concurrent_requests_per_account": 1}
    async with opened(tmp_path, ScriptedUpstream(status(500)), overrides=one) as gateway:
        for _ in range(30):
            answer = await post(gateway, path)
            assert answer.status == 502
            assert message_of(answer, path).endswith("You were not charged.")
        assert await charged_tokens(gateway) == 0


@EVERY_PATH
async def test_the_message_of_a_402_says_everything_by_itself(tmp_path: Path, path: str) -> None:
    upstream = ScriptedUpstream()
    async with opened(tmp_path, upstream, tokens=0) as gateway:
        answer = await post(gateway, path)
        message = message_of(answer, path)
        assert (answer.status, answer.headers["x-should-retry"]) == (402, "false")
        assert "This request needs up to" in message
        assert "0 available" in message
        assert message.endswith("Tokens on this service are granted, not sold. Contact support to get tokens.")
        assert upstream.requests == []


@EVERY_PATH
async def test_an_error_has_the_shape_and_the_ids_that_each_client_reads(tmp_path: Path, path: str) -> None:
    async with opened(tmp_path, ScriptedUpstream()) as gateway:
        answer = await post(gateway, path, nonsense=True)
        assert answer.status == 400
        assert "nonsense" in message_of(answer, path)


@EVERY_STREAM
async def test_a_stream_is_never_answered_with_json_and_200(tmp_path: Path, path: str) -> None:
    """opencode repeats such a request without end, and each is charged."""
    upstream = ScriptedUpstream(ok(msgspec.json.encode(WHOLE[path])))
    async with opened(tmp_path, upstream) as gateway:
        answer = await post(gateway, path, stream=True)
        assert answer.status == 502
        message_of(answer, path)
        assert await charged_tokens(gateway) == 0


@EVERY_STREAM
async def test_a_stream_has_named_events(tmp_path: Path, path: str) -> None:
    upstream = ScriptedUpstream(raw(http(STREAMS[path], headers="content-type: text/event-stream\r\n")))
    async with (
        opened(tmp_path, upstream) as gateway,
        StreamClient(gateway.base_url, gateway.api_key, body_of(path, stream=True), case=CASE_OF[path]) as client,
    ):
        await client.begun()
        await client.ended()
        assert client.headers["content-type"].partition(";")[0] == "text/event-stream"
        events = client.received.decode().strip().split("\n\n")
        assert len(events) == STREAMS[path].count(b"\n\n")
        for event in events:
            name, data = event.split("\n")
            assert name == f"event: {msgspec.json.decode(data.removeprefix('data: '))['type']}"


@EVERY_STREAM
async def test_four_streams_of_one_account_run_at_once_by_default(tmp_path: Path, path: str) -> None:
    """A turn, its title, a sub-agent and a guardian."""
    upstream = StreamingUpstream()
    async with opened(tmp_path, upstream, limits=None) as gateway, contextlib.AsyncExitStack() as stack:
        body = body_of(path, stream=True)
        clients = [
            await stack.enter_async_context(StreamClient(gateway.base_url, gateway.api_key, body, case=CASE_OF[path]))
            for _ in range(4)
        ]
        exchanges = [await upstream.next() for _ in clients]
        for exchange in exchanges:
            exchange.complete(STREAMS[path])
        for client in clients:
            await client.begun()


async def test_24_counts_at_once_are_served_by_default(tmp_path: Path) -> None:
    path = "/v1/messages/count_tokens"
    async with opened(tmp_path, ScriptedUpstream(ok(b'{"input_tokens":8}')), limits=None) as gateway:
        answers = await asyncio.gather(*(post(gateway, path) for _ in range(24)))
        assert [(answer.status, answer.json) for answer in answers] == [(200, {"input_tokens": 8})] * 24
        assert await charged_tokens(gateway) == 0


async def test_a_websocket_is_declined_with_426(tmp_path: Path) -> None:
    async with opened(tmp_path, ScriptedUpstream()) as gateway:
        offer = {
            "connection": "Upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "AAAAAAAAAAAAAAAAAAAAAA==",
            "authorization": f"Bearer {gateway.api_key}",
            "openai-beta": "responses_websockets=2026-02-06",
        }
        answer = await request(gateway.base_url, "GET", "/v1/responses", headers=offer)
        assert (answer.status, answer.error["code"]) == (426, "upgrade_required")


@pytest.mark.parametrize("path", ["/", "/api/hello"])
async def test_the_first_request_of_claude_code_needs_no_key(tmp_path: Path, path: str) -> None:
    async with opened(tmp_path, ScriptedUpstream()) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url, timeout=10) as client:
            answer = await client.head(path)
        assert answer.status_code < 500


@pytest.mark.parametrize("path", WHOLE)
async def test_unknown_headers_are_accepted_and_not_forwarded(tmp_path: Path, path: str) -> None:
    upstream = ScriptedUpstream(ok(msgspec.json.encode(WHOLE[path])))
    async with opened(tmp_path, upstream) as gateway:
        headers = {"authorization": f"Bearer {gateway.api_key}", "x-codex-turn-metadata": '{"cwd":"/secret"}'}
        answer = await request(gateway.base_url, "POST", path, body_of(path), headers | {"x-app": "cli"})
        assert answer.status == 200
        assert b"/secret" not in upstream.requests[0]


async def test_the_list_of_models_has_openais_shape(tmp_path: Path) -> None:
    async with opened(tmp_path, ScriptedUpstream()) as gateway:
        for query in ("", "?limit=1000", "?client_version=0.171.0"):
            listed = (await request(gateway.base_url, "GET", f"/v1/models{query}")).json
            assert listed["object"] == "list"
            assert [(model["id"], model["object"]) for model in listed["data"]] == [("demo", "model")]
