"""How many files the system lets a process have open: it asks for what it may have, and says when that is little."""

import contextlib
import json
from pathlib import Path

import pytest

from support.gateways import ServerProcess, write_settings
from support.http import Connection, InstantUpstream

pytestmark = pytest.mark.anyio


async def test_more_connections_are_held_than_the_system_gives_files_at_first(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream, contextlib.AsyncExitStack() as stack:
        write_settings(tmp_path, upstream_url=upstream.base_url)
        server = ServerProcess(tmp_path, under=("prlimit", "--nofile=64:1024"))
        await stack.enter_async_context(server)
        connections = [await stack.enter_async_context(Connection(server.base_url)) for _ in range(100)]
        for connection in connections:
            assert (await connection.request("GET", "/healthz")).status == 200
    warnings = [json.loads(line) for line in server.log.read_text().splitlines()]
    assert [line["allowed"] for line in warnings if line["event"] == "few_open_files"] == [1024]
