"""A disk that is full, and then not: a limit on what a process may write to one file stands for it."""

import asyncio
from pathlib import Path

import pytest

from support.gateways import EMAIL, ServerProcess, prepared
from support.http import USAGE_TOTAL, Connection, InstantUpstream, chat_body
from tok0n.bootstrap.resources import open_store

pytestmark = pytest.mark.anyio

FILE_BYTES = 500_000
TOKENS = 10_000_000
CALLS_MAX = 2_000


async def test_what_cannot_be_written_costs_nothing_and_what_was_written_stays(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        settings, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, tokens=TOKENS)
        charged = 0
        server = ServerProcess(tmp_path, under=("prlimit", f"--fsize={FILE_BYTES}:unlimited"))
        async with server, Connection(server.base_url) as connection:
            while (answer := await connection.chat(api_key, chat_body())).status == 200:
                charged += 1
                assert charged < CALLS_MAX, "the disk never became full"
            for _ in range(3):
                assert (answer.status, answer.error["code"]) == (500, "api_error")
                assert "You were not charged" in answer.error["message"]
                answer = await connection.chat(api_key, chat_body())
            pid = server.process.pid
            freeing = await asyncio.create_subprocess_exec("prlimit", "--pid", str(pid), "--fsize=unlimited")
            assert await freeing.wait() == 0
            assert (await connection.chat(api_key, chat_body())).status == 200
            charged += 1
        async with ServerProcess(tmp_path), open_store(settings) as store:
            balance = (await store.accounts.get(EMAIL)).balance
            assert (balance.posted, balance.pending) == (TOKENS - charged * USAGE_TOTAL, 0)
            assert (await store.ledger.audit()).ok
