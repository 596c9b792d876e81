"""kill -9 of a real server under load, as often as a test wants. The connections take turns with the endpoints."""

import asyncio
import random
from pathlib import Path

from support.endpoint_cases import CASES, SERVED, EndpointCase
from support.gateways import EMAIL, ServerProcess, prepared
from support.http import Connection, InstantUpstream
from tok0n.bootstrap.resources import open_store

CONNECTIONS = 32
TOKENS = 100_000_000


class Load:
    """Connections that send one request after another until the server is gone."""

    def __init__(self, base_url: str, api_key: str) -> None:
        self.base_url = base_url
        self.api_key = api_key
        self.delivered = 0
        self.charged_tokens = 0
        """What the delivered_tokens answers cost together."""
        self.enough = asyncio.Event()
        self.wanted = 0

    async def run(self, wanted: int) -> None:
        self.wanted = wanted
        async with asyncio.TaskGroup() as group:
            for number in range(CONNECTIONS):
                group.create_task(self._connection(CASES[number % len(CASES)]))

    async def _connection(self, case: EndpointCase) -> None:
        try:
            async with Connection(self.base_url) as connection:
                while True:
                    answer = await connection.call(case, self.api_key)
                    assert answer.status == 200, answer
                    assert answer.headers["x-tok0n-charged"] == str(case.charged)
                    self.delivered += 1
                    self.charged_tokens += case.charged
                    if self.delivered >= self.wanted:
                        self.enough.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            return


async def kill_under_load(folder: Path, *, rounds: int) -> None:
    """Kill a server at `rounds` moments under load. Asserts that every token is accounted for after each."""
    chance = random.Random(2)
    delivered_tokens = 0
    async with InstantUpstream() as upstream:
        settings, api_key = await prepared(folder, upstream_url=upstream.base_url, tokens=TOKENS, more=SERVED)
        for _ in range(rounds):
            async with ServerProcess(folder) as server:
                load = Load(server.base_url, api_key)
                running = asyncio.create_task(load.run(chance.randrange(1, 400)))
                await load.enough.wait()
                await server.kill()
                await running
                delivered_tokens += load.charged_tokens
            async with open_store(settings) as store:
                assert (await store.ledger.audit()).ok
        async with ServerProcess(folder), open_store(settings) as store:
            balance = (await store.accounts.get(EMAIL)).balance
            assert (await store.ledger.audit()).ok
    assert balance.pending == 0
    assert delivered_tokens <= TOKENS - balance.posted <= upstream.charges
