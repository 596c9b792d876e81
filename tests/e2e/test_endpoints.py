"""The endpoints beside chat, over HTTP: what a customer sends, what the upstream gets, and what is billed."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from support.endpoint_cases import BILLED, CASES, CHAT_CASE, COUNT_CASE, MESSAGES_CASE, SERVED
from support.gateways import ServerProcess, prepared
from support.http import Answer, call, request
from support.scripted_upstream import ScriptedUpstream, hang, status, well

pytestmark = pytest.mark.anyio

BESIDE_CHAT = [case for case in BILLED if case is not CHAT_CASE]


async def post(base_url: str, path: str, body: bytes, **headers: str) -> Answer:
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return await request(base_url, "POST", path, body, fields)


async def test_an_answer_is_charged_exactly_and_named_in_its_receipt(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=SERVED)
        key = {"authorization": f"Bearer {api_key}"}
        async with ServerProcess(tmp_path) as server:
            for case in CASES:
                got = await call(case, server.base_url, api_key)
                assert got.status == 200, got.body
                assert got.body == case.answer_body.replace(b"upstream-demo", b"demo")
                assert int(got.headers["x-tok0n-charged"]) == case.charged
                receipt = await request(
                    server.base_url, "GET", f"/v1/requests/{got.headers['x-request-id']}", headers=key
                )
                found = msgspec.json.decode(receipt.body)
                expected = (case.name, case.charged, case.endpoint.is_billed)
                assert (found["endpoint"], found["charged"], found["billed"]) == expected
            balance = msgspec.json.decode((await request(server.base_url, "GET", "/v1/balance", headers=key)).body)
            assert balance["posted"] == 1_000_000 - sum(case.charged for case in CASES)
    for case, sent in zip(CASES, upstream.requests, strict=True):
        head, _, body = sent.partition(b"\r\n\r\n")
        assert head.startswith(b"POST /v1%b HTTP/1.1\r\n" % case.endpoint.upstream_path.encode())
        assert msgspec.json.decode(body)["model"] == "upstream-demo"


async def test_a_path_that_no_model_declares_is_unknown(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url)
        async with ServerProcess(tmp_path) as server:
            for case in BESIDE_CHAT:
                got = await call(case, server.base_url, api_key)
                assert (got.status, upstream.requests) == (404, []), case.name
            models = msgspec.json.decode((await request(server.base_url, "GET", "/v1/models")).body)
            assert models["data"][0].keys() == {"id", "object", "created", "owned_by", "token_class"}


async def test_a_model_names_the_endpoints_that_serve_it(tmp_path: Path) -> None:
    more = SERVED + '[models.words]\nupstream = "fake"\nendpoints = ["embeddings"]'
    async with ScriptedUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=more)
        async with ServerProcess(tmp_path) as server:
            body = MESSAGES_CASE.body(model="words")
            got = await post(server.base_url, MESSAGES_CASE.path, body, x_api_key=api_key)
            error = msgspec.json.decode(got.body)
            assert (got.status, error["error"]["type"]) == (400, "invalid_request_error")
            assert "POST /v1/embeddings" in error["error"]["message"]
            models = msgspec.json.decode((await request(server.base_url, "GET", "/v1/models")).body)
            assert [model["endpoints"] for model in models["data"]] == [
                ["chat", "embeddings", "responses", "messages"],
                ["embeddings"],
            ]


async def test_messages_take_their_key_and_give_errors_as_anthropics_sdk_expects(tmp_path: Path) -> None:
    path, body = MESSAGES_CASE.path, MESSAGES_CASE.body()
    async with ScriptedUpstream() as upstream:
        _, api_key = await prepared(
            tmp_path, upstream_url=upstream.base_url, more=SERVED, upstream_more='auth = "x-api-key"'
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
            elsewhere = await request(server.base_url, "POST", CHAT_CASE.path, CHAT_CASE.body(), {"x-api-key": api_key})
            assert elsewhere.status == 401
    head = upstream.requests[0].partition(b"\r\n\r\n")[0].lower()
    assert b"x-api-key: sk-operator-secret-123456" in head
    assert b"anthropic-version: 2023-06-01" in head
    assert b"authorization" not in head


async def test_counting_tokens_costs_nothing_and_takes_no_concurrency(tmp_path: Path) -> None:
    async with ScriptedUpstream(hang) as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, more=SERVED)
        settings = tmp_path / "tok0n.toml"
        limit = "concurrent_requests_per_account = 1000000"
        settings.write_text(settings.read_text().replace(limit, "concurrent_requests_per_account = 1"))
        key = {"authorization": f"Bearer {api_key}"}
        async with ServerProcess(tmp_path) as server:
            waiting = asyncio.create_task(call(CHAT_CASE, server.base_url, api_key))
            await upstream.until(lambda: len(upstream.requests) == 1)
            upstream.behaviour = well
            rejected = await call(CHAT_CASE, server.base_url, api_key)
            got = await post(server.base_url, COUNT_CASE.path, COUNT_CASE.body(), x_api_key=api_key)
            waiting.cancel()
            assert rejected.status == 429
            assert (got.status, msgspec.json.decode(got.body)) == (200, COUNT_CASE.answer(""))
            assert (got.headers["x-tok0n-reserved"], got.headers["x-tok0n-charged"]) == ("1", "0")
            path = f"/v1/requests/{got.headers['x-request-id']}"
            found = msgspec.json.decode((await request(server.base_url, "GET", path, headers=key)).body)
            assert (found["endpoint"], found["billed"], found["code"]) == ("count_tokens", False, "not_metered")
            balance = msgspec.json.decode((await request(server.base_url, "GET", "/v1/balance", headers=key)).body)
            assert balance["posted"] == 1_000_000


async def test_an_offer_of_a_websocket_is_declined_at_once(tmp_path: Path) -> None:
    async with ScriptedUpstream() as upstream:
        await prepared(tmp_path, upstream_url=upstream.base_url, more=SERVED)
        async with ServerProcess(tmp_path) as server:
            offer = {"upgrade": "websocket", "connection": "upgrade"}
            got = await request(server.base_url, "GET", "/v1/responses", headers=offer)
            assert (got.status, msgspec.json.decode(got.body)["error"]["code"]) == (426, "upgrade_required")
