"""kill -9 of a real server in the middle of 200 streams: nothing stays reserved, no incomplete answer is charged."""

import asyncio
import random
import re
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support.gateways import EMAIL, ServerProcess, prepared
from support.http import chat_body
from support.leases import move_lease
from support.streaming import DONE, REPORT, ROLE, STOP, chunk
from support.streaming_client import StreamClient
from support.streaming_upstream import Exchange, StreamingUpstream
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql import schema
from tok0n.adapters.sql.postgres.lease import PostgresLease
from tok0n.bootstrap.open_files import allow_many_files
from tok0n.bootstrap.resources import Store, open_store
from tok0n.settings import Settings

STREAMS = 200
CHARGED = 12
TOKENS = 100_000_000


class KilledStreams:
    """Streams, numbered over all rounds, and what each side of them has seen."""

    def __init__(self, folder: Path, upstream: StreamingUpstream, settings: Settings, api_key: str) -> None:
        self._folder = folder
        self._upstream = upstream
        self._settings = settings
        self._api_key = api_key
        self._chance = random.Random(3)
        self._request_ids: dict[int, str] = {}
        self._answered: set[int] = set()
        """The streams whose upstream has sent a complete answer, or a part of its end."""
        self._delivered: set[int] = set()
        """The streams whose client got the end."""

    async def kill(self, first: int) -> None:
        """Open `STREAMS` streams, kill the server while they go on, and wait until their clients have seen it."""
        async with ServerProcess(self._folder) as server:
            clients = [asyncio.create_task(self._read(server, first + number)) for number in range(STREAMS)]
            exchanges = [await self._upstream.next() for _ in range(STREAMS)]
            for exchange in exchanges:
                exchange.send(ROLE + chunk("Hello."))
            async with asyncio.timeout(60):
                while not self._request_ids.keys() >= set(range(first, first + STREAMS)):
                    await asyncio.sleep(0)
            for _ in range(self._chance.randrange(1, 2 * STREAMS)):
                await self._advance(exchanges)
            await server.kill()
            await asyncio.gather(*clients)

    async def check(self, store: Store) -> None:
        """Assert that nothing is reserved, and that exactly the right streams are charged."""
        balance = (await store.accounts.get(EMAIL)).balance
        assert balance.pending == 0
        assert (await store.ledger.audit()).ok
        settled = sa.select(schema.request.c.id).where(schema.request.c.status == "SETTLED")
        charged = set(await store.database.read(lambda tx: tx.scalars(settled).all()))
        assert charged <= {self._request_ids[number] for number in self._answered}
        assert charged >= {self._request_ids[number] for number in self._delivered}
        assert TOKENS - balance.posted == CHARGED * len(charged)

    async def _advance(self, exchanges: list[Exchange]) -> None:
        """Send an event of one stream, or the end of its answer."""
        if not exchanges:
            return
        exchange = self._chance.choice(exchanges)
        if self._chance.random() < 0.7:
            exchange.send(chunk("more"))
        else:
            exchanges.remove(exchange)
            found = re.search(rb"stream (\d+)", exchange.request)
            assert found is not None
            self._answered.add(int(found[1]))
            exchange.complete(STOP + REPORT + DONE)
        await asyncio.sleep(0)

    async def _read(self, server: ServerProcess, number: int) -> None:
        options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
        async with StreamClient(server.base_url, self._api_key, chat_body(f"stream {number}", **options)) as client:
            await client.begun()
            self._request_ids[number] = client.request_id
            if (await client.ended())[-1:] == ["[DONE]"]:
                self._delivered.add(number)


async def kill_streams(folder: Path, *, rounds: int, database_url: str | None = None) -> None:
    """Kill a server in the middle of its streams, again and again. Asserts after each that all is accounted for."""
    allow_many_files()
    more = "[server]\nstreaming = true\n"
    if database_url is not None:
        more += f'[database]\nurl = "{database_url}"\n'
    async with StreamingUpstream() as upstream:
        settings, api_key = await prepared(folder, upstream_url=upstream.base_url, tokens=TOKENS, more=more)
        streams = KilledStreams(folder, upstream, settings, api_key)
        for number in range(rounds):
            await streams.kill(number * STREAMS)
            async with open_store(settings) as store:
                assert (await store.accounts.get(EMAIL)).balance.pending > 0
                if store.lease is not None:
                    await expire_dead_process(store)
            if database_url is None:
                async with ServerProcess(folder):
                    pass
            async with open_store(settings) as store:
                await streams.check(store)


async def expire_dead_process(store: Store) -> None:
    """Sweep as a living process does half a minute after another one's death. Moves the times of the rows to then."""
    assert isinstance(store.lease, PostgresLease)
    await store.lease.renew()
    ids = await store.database.read(lambda tx: tx.scalars(sa.select(schema.process.c.id)).all())
    for process_id in ids:
        ends_in = 15 if process_id == store.lease.process_id else -11
        await move_lease(store.database, process_id, ends_in=ends_in, renewed_for=60)
    assert await store.lease.expire_abandoned(now_us=SystemClock().now_us()) > 0
