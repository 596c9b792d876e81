"""kill -9 of a real server in the middle of 200 streams: nothing stays reserved, no incomplete answer is charged.

The streams take turns with the endpoints.
"""

import asyncio
import random
import re
from pathlib import Path

import sqlalchemy as sa

from support.endpoint_cases import SERVED, STREAMS, EndpointCase
from support.gateways import EMAIL, ServerProcess, prepared
from support.leases import move_lease
from support.streaming_client import StreamClient
from support.streaming_upstream import Exchange, StreamingUpstream
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql import schema
from tok0n.adapters.sql.postgres.lease import PostgresLease
from tok0n.bootstrap.open_files import allow_many_files
from tok0n.bootstrap.resources import Store, open_store
from tok0n.settings import Settings

COUNT = 200
"""The streams of a round."""

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
        """Open `COUNT` streams, kill the server while they go on, and wait until their clients have seen it."""
        async with ServerProcess(self._folder) as server:
            clients = [asyncio.create_task(self._read(server, first + number)) for number in range(COUNT)]
            exchanges = [await self._upstream.next() for _ in range(COUNT)]
            for exchange in exchanges:
                streaming = exchange.case.streaming
                exchange.send(streaming.beginning + streaming.content("Hello."))
            async with asyncio.timeout(60):
                while not self._request_ids.keys() >= set(range(first, first + COUNT)):
                    await asyncio.sleep(0)
            for _ in range(self._chance.randrange(1, 2 * COUNT)):
                await self._advance(exchanges)
            await server.kill()
            await asyncio.gather(*clients)

    async def check(self, store: Store) -> None:
        """Assert that nothing is reserved, and that exactly the right streams are charged."""
        balance = (await store.accounts.get(EMAIL)).balance
        assert balance.pending == 0
        assert (await store.ledger.audit()).ok
        columns = schema.request.c
        query = sa.select(columns.id, columns.endpoint, columns.status, columns.charged)
        rows = {row.id: row for row in await store.database.read(lambda tx: tx.execute(query).all())}
        charged = {row.id for row in rows.values() if row.status == "SETTLED"}
        assert charged <= {self._request_ids[number] for number in self._answered}
        assert charged >= {self._request_ids[number] for number in self._delivered}
        for number, request_id in self._request_ids.items():
            case, row = case_of_number(number), rows[request_id]
            assert (row.endpoint, row.charged) == (case.name, case.charged if request_id in charged else 0)
        assert TOKENS - balance.posted == sum(row.charged for row in rows.values())

    async def _advance(self, exchanges: list[Exchange]) -> None:
        """Send an event of one stream, or the end of its answer."""
        if not exchanges:
            return
        exchange = self._chance.choice(exchanges)
        if self._chance.random() < 0.7:
            exchange.send(exchange.case.streaming.content("more"))
        else:
            exchanges.remove(exchange)
            found = re.search(rb"stream (\d+)", exchange.request)
            assert found is not None
            self._answered.add(int(found[1]))
            exchange.complete(exchange.case.streaming.end)
        await asyncio.sleep(0)

    async def _read(self, server: ServerProcess, number: int) -> None:
        case = case_of_number(number)
        body = case.body(f"stream {number}", is_stream=True)
        async with StreamClient(server.base_url, self._api_key, body, case=case) as client:
            await client.begun()
            self._request_ids[number] = client.request_id
            if any(map(case.streaming.is_end, await client.ended())):
                self._delivered.add(number)


def case_of_number(number: int) -> EndpointCase:
    """Return the endpoint of a stream."""
    return STREAMS[number % len(STREAMS)]


async def kill_streams(folder: Path, *, rounds: int, database_url: str | None = None) -> None:
    """Kill a server in the middle of its streams, again and again. Asserts after each that all is accounted for."""
    allow_many_files()
    more = f"{SERVED}[server]\nstreaming = true\n"
    if database_url is not None:
        more += f'[database]\nurl = "{database_url}"\n'
    async with StreamingUpstream() as upstream:
        settings, api_key = await prepared(folder, upstream_url=upstream.base_url, tokens=TOKENS, more=more)
        streams = KilledStreams(folder, upstream, settings, api_key)
        for number in range(rounds):
            await streams.kill(number * COUNT)
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
