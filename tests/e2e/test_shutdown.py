"""SIGTERM: calls in flight finish and settle, within a bound; then the process ends with 0."""

import asyncio
from pathlib import Path

import pytest

from support.gateways import EMAIL, ServerProcess, prepared, tok0n, tok0n_json
from support.http import USAGE_TOTAL, Connection, InstantUpstream, chat_body, request
from tok0n.bootstrap.resources import open_store
from tok0n.settings import Settings

pytestmark = pytest.mark.anyio

TOKENS = 100_000


async def assert_balance(settings: Settings, posted: int) -> None:
    """Assert that the account has these tokens, and none is reserved."""
    async with open_store(settings) as store:
        balance = (await store.accounts.get(EMAIL)).balance
    assert (balance.posted, balance.pending) == (posted, 0)


async def test_a_call_in_flight_is_answered_and_charged_after_sigterm(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        settings, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, tokens=TOKENS)
        async with ServerProcess(tmp_path) as server, Connection(server.base_url) as connection:
            upstream.gate.clear()
            upstream.arrived.clear()
            calling = asyncio.create_task(connection.chat(api_key, chat_body()))
            await upstream.arrived.wait()
            server.process.terminate()
            await refused(server.base_url)
            upstream.gate.set()
            answer = await calling
            assert (answer.status, answer.headers["x-tok0n-charged"]) == (200, str(USAGE_TOTAL))
            assert await server.process.wait() == 0
    await assert_balance(settings, TOKENS - USAGE_TOTAL)


async def test_a_call_that_does_not_end_in_time_is_released(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        settings, api_key = await prepared(
            tmp_path, upstream_url=upstream.base_url, tokens=TOKENS, more="[server]\nshutdown_seconds = 1\n"
        )
        async with ServerProcess(tmp_path) as server, Connection(server.base_url) as connection:
            upstream.gate.clear()
            upstream.arrived.clear()
            calling = asyncio.create_task(connection.chat(api_key, chat_body()))
            await upstream.arrived.wait()
            assert await server.stop() == 0
            calling.cancel()
    await assert_balance(settings, TOKENS)


async def test_a_client_that_leaves_does_not_stop_its_call(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        settings, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, tokens=TOKENS)
        async with ServerProcess(tmp_path) as server:
            upstream.gate.clear()
            upstream.arrived.clear()
            async with Connection(server.base_url) as connection:
                calling = asyncio.create_task(connection.chat(api_key, chat_body()))
                await upstream.arrived.wait()
                calling.cancel()
            upstream.gate.set()
            assert await server.stop() == 0
    await assert_balance(settings, TOKENS - USAGE_TOTAL)


async def test_a_second_server_on_the_same_database_is_turned_away(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        await prepared(tmp_path, upstream_url=upstream.base_url, tokens=TOKENS)
        async with ServerProcess(tmp_path) as server:
            second = await asyncio.to_thread(tok0n, "serve", "--port", "0", cwd=tmp_path)
            assert second.returncode == 1
            assert "Another server is using" in second.stderr
            assert (await request(server.base_url, "GET", "/readyz")).json["status"] == "ready"


async def test_the_command_line_works_beside_a_server_which_sees_its_changes(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, tokens=TOKENS)
        async with ServerProcess(tmp_path) as server, Connection(server.base_url) as connection:
            assert (await connection.chat(api_key, chat_body())).status == 200
            (key,) = tok0n_json("keys", "list", "a@example.com", cwd=tmp_path)
            await asyncio.to_thread(tok0n_json, "keys", "revoke", key["id"], cwd=tmp_path)
            answer = await connection.chat(api_key, chat_body())
            assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")
            await asyncio.to_thread(tok0n_json, "models", "disable", "demo", cwd=tmp_path)
            async with asyncio.timeout(10):
                while (await request(server.base_url, "GET", "/v1/models")).json["data"]:
                    await asyncio.sleep(0)


async def refused(base_url: str) -> None:
    """Wait until no new connection is accepted: refused, or reset while the listener closes."""
    async with asyncio.timeout(10):
        while True:
            try:
                async with Connection(base_url):
                    await asyncio.sleep(0)
            except ConnectionError:
                return


async def test_a_restart_does_not_double_a_limit(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        _, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, tokens=TOKENS)
        path = tmp_path / "tok0n.toml"
        path.write_text(path.read_text().replace("per_key = 1000000", "per_key = 3"))
        async with ServerProcess(tmp_path) as server, Connection(server.base_url) as connection:
            assert [(await connection.chat(api_key, chat_body())).status for _ in range(4)] == [200, 200, 200, 429]
            await server.kill()
        async with ServerProcess(tmp_path) as server, Connection(server.base_url) as connection:
            answer = await connection.chat(api_key, chat_body())
            assert (answer.status, answer.error["code"]) == (429, "rate_limit_error")
