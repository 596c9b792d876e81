"""More requests than can be accounted for in time: some are rejected at once, and each of the others is charged."""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.api_keys import keys_of
from support.gateways import EMAIL, Running, running
from support.http import USAGE_TOTAL, Answer, Connection, InstantUpstream, chat, chat_body
from support.ledgers import new, released
from tok0n.adapters.batcher import RESERVATIONS_WAITING_MAX
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.http.pacing import ITEMS_PER_TICK, QUEUE_DELAY_SECONDS_MAX, QUEUE_LENGTH_WHILE_SHEDDING_MAX

pytestmark = pytest.mark.anyio

TOKENS = 1_000_000
ROOM = 2
BURST = 400
LATE = 20


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Running]:
    async with InstantUpstream() as upstream, running(tmp_path, upstream_url=upstream.base_url) as gateway:
        yield gateway


@contextlib.asynccontextmanager
async def full_queue(gateway: Running, *, room: int = 0) -> AsyncIterator[None]:
    """Another program holds the database, and the queue has room for `room` more reservations."""
    account, (key,) = await gateway.account(), await keys_of(gateway.store.accounts, EMAIL)
    ledger, database = gateway.store.ledger, gateway.store.database
    assert isinstance(database, SqliteStore)
    other = sqlite3.connect(gateway.folder / "tok0n.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    names = [f"req_{number}" for number in range(RESERVATIONS_WAITING_MAX - room + 1)]
    reserving = [ledger.reserve(new(names[0], account.id, key.id, 1))]
    while database.waiting:
        await asyncio.sleep(0)
    reserving += [ledger.reserve(new(name, account.id, key.id, 1)) for name in names[1:]]
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()
        await asyncio.gather(*reserving)
        await asyncio.gather(*(ledger.release(released(name)) for name in names))


async def test_a_gateway_without_room_rejects_a_request_before_it_reads_it(gateway: Running) -> None:
    async with full_queue(gateway):
        answer = await chat(gateway.base_url, "no key at all", b"no JSON at all")
    assert (answer.status, answer.error["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["content-type"] == "application/json"
    assert "You were not charged." in answer.error["message"]
    assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200


async def check_each_is_charged_or_rejected(gateway: Running, answers: list[Answer]) -> tuple[int, int]:
    """Return how many requests were charged and rejected."""
    charged = [int(answer.headers["x-tok0n-charged"]) for answer in answers if answer.status == 200]
    rejected = [answer for answer in answers if answer.status == 503]
    assert len(charged) + len(rejected) == len(answers)
    assert set(charged) <= {USAGE_TOTAL}
    balance = (await gateway.account()).balance
    assert (balance.posted, balance.pending) == (TOKENS - sum(charged), 0)
    assert await gateway.audit_is_clean()
    return len(charged), len(rejected)


async def test_requests_that_find_no_room_in_the_queue_of_the_database_are_rejected(gateway: Running) -> None:
    async with full_queue(gateway, room=ROOM):
        calls = [asyncio.create_task(chat(gateway.base_url, gateway.api_key, chat_body())) for _ in range(LATE)]
        while sum(task.done() for task in calls) < LATE - ROOM:
            await asyncio.wait([task for task in calls if not task.done()], return_when=asyncio.FIRST_COMPLETED)
    answers = await asyncio.gather(*calls)
    assert await check_each_is_charged_or_rejected(gateway, answers) == (ROOM, LATE - ROOM)


async def test_requests_that_arrive_while_the_event_loop_is_late_are_rejected(gateway: Running) -> None:
    queue, body = gateway.server.state.queue, chat_body()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {gateway.api_key}\r\n"
    raw = head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body
    async with contextlib.AsyncExitStack() as stack, asyncio.timeout(60):
        connections = [await stack.enter_async_context(Connection(gateway.base_url)) for _ in range(BURST + LATE)]
        for connection in connections[:BURST]:
            connection.writer.write(raw)
        while len(queue) < 4 * ITEMS_PER_TICK + QUEUE_LENGTH_WHILE_SHEDDING_MAX:
            await asyncio.sleep(0)
        for connection in connections[BURST:]:
            connection.writer.write(raw)
        time.sleep(QUEUE_DELAY_SECONDS_MAX + 0.01)  # noqa: ASYNC251  something holds the event loop
        answers = await asyncio.gather(*(connection.read() for connection in connections))
    charged, rejected = await check_each_is_charged_or_rejected(gateway, answers)
    assert charged
    assert rejected
