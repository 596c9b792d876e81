"""PostgreSQL is away for longer than a lease while streams run on two servers: no reservation of theirs expires.

Each server sweeps the reservations of the other, so either of them could expire the streams of a living process.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from support import postgres
from support.endpoint_cases import DONE, REPORT, ROLE, STOP, chunk
from support.gateways import EMAIL, ServerProcess, prepared
from support.http import request
from support.streaming_client import StreamClient
from support.streaming_upstream import Exchange, StreamingUpstream
from tok0n.adapters.sql import schema
from tok0n.bootstrap.resources import Store, open_store
from tok0n.settings import Settings

pytestmark = pytest.mark.anyio

Change = Callable[[postgres.Cluster], Awaitable[None]]

TOKENS = 1_000_000
CHARGED = 12
STREAMS_PER_SERVER = 10
AWAY_SECONDS = float(os.environ.get("AWAY_SECONDS", "35"))
"""Longer than a lease (15 s) and the 10 s after its end. The environment can set it: the issue asks for 120 s."""

BACK_SECONDS = 45
"""Longer than a sweeper waits after an outage (30 s) and two sweeps."""


class Stream(msgspec.Struct, kw_only=True):
    """One stream and its two sides."""

    client: StreamClient
    exchange: Exchange


async def _stop(cluster: postgres.Cluster) -> None:
    await asyncio.to_thread(cluster.stop)


async def _start(cluster: postgres.Cluster) -> None:
    await asyncio.to_thread(cluster.start)


async def _freeze(cluster: postgres.Cluster) -> None:
    cluster.signal_all(signal.SIGSTOP)


async def _thaw(cluster: postgres.Cluster) -> None:
    cluster.signal_all(signal.SIGCONT)


@pytest.fixture
async def cluster() -> AsyncIterator[postgres.Cluster]:
    """A database server of this test's own, because the test takes it away."""
    cluster = await asyncio.to_thread(postgres.Cluster)
    yield cluster
    await asyncio.to_thread(cluster.remove)


async def _opened(server: ServerProcess, upstream: StreamingUpstream, api_key: str, stack: AsyncExitStack) -> Stream:
    client = await stack.enter_async_context(StreamClient(server.base_url, api_key))
    exchange = await upstream.next()
    exchange.send(ROLE + chunk("Hello."))
    await client.begun()
    return Stream(client=client, exchange=exchange)


async def _ready(server: ServerProcess) -> None:
    async with asyncio.timeout(30):
        while (await request(server.base_url.removesuffix("/v1"), "GET", "/readyz")).status != 200:
            await asyncio.sleep(0.1)


async def _statuses(store: Store) -> dict[str, str]:
    columns = schema.request.c
    return {
        row.id: row.status
        for row in await store.database.read(lambda tx: tx.execute(sa.select(columns.id, columns.status)).all())
    }


async def _check(settings: Settings, *, charged: set[str], reversible: str) -> None:
    """Assert that exactly these streams are charged, each once, and that nothing stays reserved.

    The database may commit the settlement of `reversible` after the server gave it up. Then it stays settled, and an
    entry of its own gives the tokens back.
    """
    async with open_store(settings) as store:
        async with asyncio.timeout(60):
            while (balance := (await store.accounts.get(EMAIL)).balance).pending:
                await asyncio.sleep(0.2)
        assert TOKENS - balance.posted == CHARGED * len(charged)
        statuses = await _statuses(store)
        assert {request_id for request_id, status in statuses.items() if status == "SETTLED"} - {reversible} == (
            charged - {reversible}
        )
        assert (await store.ledger.audit()).ok


@pytest.mark.parametrize(("take", "give_back"), [(_stop, _start), (_freeze, _thaw)], ids=["stopped", "frozen"])
async def test_streams_outlast_a_database_that_is_away_for_longer_than_a_lease(
    tmp_path: Path,
    cluster: postgres.Cluster,
    take: Callable[[postgres.Cluster], Awaitable[None]],
    give_back: Callable[[postgres.Cluster], Awaitable[None]],
) -> None:
    url = await postgres.make_database(cluster, "tok0n", template="template0")
    await postgres.migrate(url)
    more = f'[server]\nstreaming = true\n[database]\nurl = "{url}"\n'
    async with StreamingUpstream() as upstream, AsyncExitStack() as stack:
        settings, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, tokens=TOKENS, more=more)
        servers = [await stack.enter_async_context(ServerProcess(tmp_path)) for _ in range(2)]
        streams = [
            await _opened(server, upstream, api_key, stack) for server in servers for _ in range(STREAMS_PER_SERVER)
        ]
        await take(cluster)
        ended_while_away = streams.pop()
        ended_while_away.exchange.complete(STOP + REPORT + DONE)
        for _ in range(10):
            await asyncio.sleep(AWAY_SECONDS / 10)
            for stream in streams:
                stream.exchange.send(chunk("More."))
        await give_back(cluster)
        await asyncio.gather(*map(_ready, servers))
        await asyncio.sleep(BACK_SECONDS)
        async with open_store(settings) as store:
            statuses = await _statuses(store)
        assert {statuses[stream.client.request_id] for stream in streams} == {"PENDING"}
        leaving = streams[0]
        await leaving.client.reset()
        for stream in streams:
            stream.exchange.complete(STOP + REPORT + DONE)
        for stream in streams[1:]:
            assert (await stream.client.ended())[-1] == "[DONE]"
            assert stream.client.content == "Hello." + "More." * 10
        charged = {stream.client.request_id for stream in streams}
        if (await ended_while_away.client.ended())[-1] == "[DONE]":
            charged.add(ended_while_away.client.request_id)
        await _check(settings, charged=charged, reversible=ended_while_away.client.request_id)
