"""The endpoints beside chat, over HTTP: what a customer sends, what the upstream gets, and what is billed."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.gateways import ServerProcess, prepared
from support.http import Answer, chat, chat_body, request
from support.scripted_upstream import ScriptedUpstream, hang, ok, status
from support.streaming_client import StreamClient
from support.streaming_upstream import StreamingUpstream

pytestmark = pytest.mark.anyio

ENDPOINTS = 'endpoints = ["chat", "embeddings", "responses", "messages"]'
STREAMING = "\n[server]\nstreaming = true\n"
EMBEDDING = {"object": "embedding", "index": 0, "embedding": "AACAPw=="}
EMBEDDINGS = {
    "object": "list",
    "model": "upstream-demo",
    "data": [EMBEDDING],
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "upstream-demo",
    "content": [{"type": "text", "text": "Hello."}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 4, "cache_read_input_tokens": 2, "output_tokens": 3},
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "upstream-demo",
    "output": [
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Hello.", "annotations": []}],
        }
    ],
    "usage": {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11},
}
CALLS: dict[str, tuple[str, dict[str, Any], dict[str, Any], int]] = {
    "embeddings": ("/v1/embeddings", {"input": "Hello"}, EMBEDDINGS, 7),
    "responses": ("/v1/responses", {"input": "Hello"}, RESPONSE, 11),
    "messages": ("/v1/messages", {"max_tokens": 50, "messages": [{"role": "user", "content": "Hello"}]}, MESSAGE, 9),
}
"""The path, the request without its model, the upstream's answer, and what is charged."""


async def post(base_url: str, path: str, body: dict[str, Any], **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return await request(base_url, "POST", path, msgspec.json.encode({"model": "demo"} | body), fields)


@pytest.mark.parametrize("name", CALLS)
async def test_an_answer_is_charged_exactly_and_named_in_its_receipt(tmp_path: Path, name: str) -> None:
    path, body, answer, charged = CALLS[name]
    async with ScriptedUpstream(ok(msgspec.json.encode(answer))) as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=ENDPOINTS)
        async with ServerProcess(tmp_path) as server:
            got = await post(server.base_url, path, body, authorization=f"Bearer {api_key}")
            assert got.status == 200, got.body
            assert msgspec.json.decode(got.body) == answer | {"model": "demo"}
            assert int(got.headers["x-tok0n-charged"]) == charged
            receipt = await request(
                server.base_url,
                "GET",
                f"/v1/requests/{got.headers['x-request-id']}",
                headers={"authorization": f"Bearer {api_key}"},
            )
            found = msgspec.json.decode(receipt.body)
            assert (found["endpoint"], found["charged"], found["billed"]) == (name, charged, True)
    (sent,) = upstream.requests
    assert f"POST {path} HTTP/1.1".encode() in sent or b"POST /v1" in sent
    assert msgspec.json.decode(upstream.bodies[0])["model"] == "upstream-demo"


@pytest.mark.parametrize("name", CALLS)
async def test_a_path_that_no_model_declares_is_unknown(tmp_path: Path, name: str) -> None:
    path, body, _, _ = CALLS[name]
    async with ScriptedUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url)
        async with ServerProcess(tmp_path) as server:
            got = await post(server.base_url, path, body, authorization=f"Bearer {api_key}")
            assert (got.status, upstream.requests) == (404, [])
            models = msgspec.json.decode((await request(server.base_url, "GET", "/v1/models")).body)
            assert models["data"][0].keys() == {"id", "object", "created", "owned_by"}


async def test_a_model_names_the_endpoints_that_serve_it(tmp_path: Path) -> None:
    more = ENDPOINTS + '\n[models.words]\nupstream = "fake"\nendpoints = ["embeddings"]'
    async with ScriptedUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=more)
        async with ServerProcess(tmp_path) as server:
            path, body, _, _ = CALLS["messages"]
            got = await post(server.base_url, path, body | {"model": "words"}, x_api_key=api_key)
            error = msgspec.json.decode(got.body)
            assert (got.status, error["error"]["type"]) == (400, "invalid_request_error")
            assert "POST /v1/embeddings" in error["error"]["message"]
            models = msgspec.json.decode((await request(server.base_url, "GET", "/v1/models")).body)
            assert [model["endpoints"] for model in models["data"]] == [
                ["chat", "embeddings", "responses", "messages"],
                ["embeddings"],
            ]


async def test_messages_take_their_key_and_give_errors_as_anthropics_sdk_expects(tmp_path: Path) -> None:
    path, body, answer, _ = CALLS["messages"]
    async with ScriptedUpstream(ok(msgspec.json.encode(answer))) as upstream:
        _, api_key = await prepared(
            tmp_path, upstream_url=upstream.base_url, more=ENDPOINTS, upstream_more='auth = "x-api-key"'
        )
        async with ServerProcess(tmp_path) as server:
            got = await post(
                server.base_url, f"{path}?beta=true", body, x_api_key=api_key, anthropic_beta="not-a-beta-2020-01-01"
            )
            assert (got.status, got.headers["request-id"]) == (200, got.headers["x-request-id"])
            assert "not-a-beta-2020-01-01" in got.headers["x-tok0n-dropped"]
            both = await post(server.base_url, path, body, x_api_key=api_key, authorization="Bearer sk-other")
            wrong = await post(server.base_url, path, body, x_api_key="sk-ant-1")
            for refused in (both, wrong):
                error = msgspec.json.decode(refused.body)
                assert (refused.status, error["type"], error["error"]["type"]) == (401, "error", "authentication_error")
                assert error["request_id"] == refused.headers["request-id"]
                assert refused.headers["x-should-retry"] == "false"
            upstream.behaviour = status(500)
            failed = await post(server.base_url, path, body, x_api_key=api_key)
            assert (failed.status, msgspec.json.decode(failed.body)["error"]["type"]) == (502, "api_error")
            elsewhere = await request(
                server.base_url, "POST", "/v1/chat/completions", chat_body(), {"x-api-key": api_key}
            )
            assert elsewhere.status == 401
    head = upstream.requests[0].partition(b"\r\n\r\n")[0].lower()
    assert b"x-api-key: sk-operator-secret-123456" in head
    assert b"anthropic-version: 2023-06-01" in head
    assert b"authorization" not in head


async def test_counting_tokens_costs_nothing_and_takes_no_concurrency(tmp_path: Path) -> None:
    body = {"messages": [{"role": "user", "content": "Hello"}]}
    async with ScriptedUpstream(hang) as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=ENDPOINTS)
        settings = tmp_path / "tok0n.toml"
        limit = "concurrent_requests_per_account = 1000000"
        settings.write_text(settings.read_text().replace(limit, "concurrent_requests_per_account = 1"))
        key = {"authorization": f"Bearer {api_key}"}
        async with ServerProcess(tmp_path) as server:
            waiting = asyncio.create_task(chat(server.base_url, api_key, chat_body()))
            await upstream.until(lambda: len(upstream.requests) == 1)
            upstream.behaviour = ok(b'{"input_tokens":8}')
            rejected = await chat(server.base_url, api_key, chat_body())
            got = await post(server.base_url, "/v1/messages/count_tokens", body, x_api_key=api_key)
            waiting.cancel()
            assert rejected.status == 429
            assert (got.status, msgspec.json.decode(got.body)) == (200, {"input_tokens": 8})
            assert (got.headers["x-tok0n-reserved"], got.headers["x-tok0n-charged"]) == ("1", "0")
            path = f"/v1/requests/{got.headers['x-request-id']}"
            found = msgspec.json.decode((await request(server.base_url, "GET", path, headers=key)).body)
            assert (found["endpoint"], found["billed"], found["code"]) == ("count_tokens", False, "not_metered")
            balance = msgspec.json.decode((await request(server.base_url, "GET", "/v1/balance", headers=key)).body)
            assert balance["posted"] == 1_000_000


async def test_an_offer_of_a_websocket_is_declined_at_once(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        await prepared(tmp_path, upstream_url=upstream.base_url, more=ENDPOINTS)
        async with ServerProcess(tmp_path) as server:
            offer = {"upgrade": "websocket", "connection": "upgrade"}
            got = await request(server.base_url, "GET", "/v1/responses", headers=offer)
            assert (got.status, msgspec.json.decode(got.body)["error"]["code"]) == (426, "upgrade_required")


EVENTS: dict[str, list[dict[str, Any]]] = {
    "responses": [
        {
            "type": "response.created",
            "sequence_number": 0,
            "response": RESPONSE | {"status": "in_progress", "output": []},
        },
        {
            "type": "response.output_text.delta",
            "sequence_number": 1,
            "item_id": "m",
            "output_index": 0,
            "content_index": 0,
            "delta": "Hello.",
        },
        {"type": "response.completed", "sequence_number": 2, "response": RESPONSE},
    ],
    "messages": [
        {"type": "message_start", "message": MESSAGE | {"content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ],
}


def rendered(events: list[dict[str, Any]]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: ".encode() + msgspec.json.encode(event) + b"\n\n" for event in events
    )


@pytest.mark.parametrize("name", EVENTS)
async def test_a_stream_of_typed_events_ends_after_its_charge(tmp_path: Path, name: str) -> None:
    path, body, _, charged = CALLS[name]
    events = rendered(EVENTS[name])
    async with StreamingUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=ENDPOINTS + STREAMING)
        async with ServerProcess(tmp_path) as server:
            sent = msgspec.json.encode({"model": "demo", "stream": True} | body)
            async with StreamClient(server.base_url, api_key, sent, path=path) as client:
                (await upstream.next()).complete(events)
                received = await client.reader.read()
            assert received.startswith(b"HTTP/1.1 200 ")
            for event in EVENTS[name]:
                assert f"event: {event['type']}\n".encode() in received
            assert b"upstream-demo" not in received
            key = {"authorization": f"Bearer {api_key}"}
            balance = await request(server.base_url, "GET", "/v1/balance", headers=key)
            assert msgspec.json.decode(balance.body)["posted"] == 1_000_000 - charged


BROKEN = [("responses", "response.failed", True), ("messages", "error", False)]
"""The endpoint, its error event, and whether the response ends properly after it."""


@pytest.mark.parametrize(("name", "event", "is_complete"), BROKEN)
async def test_a_stream_that_breaks_off_is_not_charged_and_says_so(
    tmp_path: Path, name: str, event: str, *, is_complete: bool
) -> None:
    path, body, _, _ = CALLS[name]
    events = rendered(EVENTS[name][:1])
    async with StreamingUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=ENDPOINTS + STREAMING)
        async with ServerProcess(tmp_path) as server:
            sent = msgspec.json.encode({"model": "demo", "stream": True} | body)
            async with StreamClient(server.base_url, api_key, sent, path=path) as client:
                exchange = await upstream.next()
                delta = next(found for found in EVENTS[name] if found["type"].endswith("delta"))
                exchange.send(events + rendered([delta]))
                await client.begun()
                await exchange.reset()
                await client.ended()
            last = bytes(client.received).rstrip().rpartition(b"\n\n")[2]
            assert last.startswith(f"event: {event}\n".encode())
            assert b"You were not charged" in last
            assert client.is_complete is is_complete
            key = {"authorization": f"Bearer {api_key}"}
            balance = msgspec.json.decode((await request(server.base_url, "GET", "/v1/balance", headers=key)).body)
            assert (balance["posted"], balance["pending"]) == (1_000_000, 0)
