"""Every PostgreSQL connection starts with its settings, and queries that need others don't change them for the next."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager

import pytest
import sqlalchemy as sa

from support import postgres
from tok0n.adapters.sql.postgres import connection
from tok0n.adapters.sql.postgres.connection import DATABASE_ERRORS, PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.store import BY_INDEX, bitmap_scans, merge_joins
from tok0n.domain.errors import AccountingFailed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def options() -> AsyncIterator[PostgresOptions]:
    async with postgres.database(f"t{secrets.token_hex(8)}") as url:
        yield PostgresOptions(url=url, pool_size=1, statement_timeout_seconds=0.2)


@pytest.fixture
async def store(options: PostgresOptions) -> AsyncIterator[PostgresStore]:
    opened = PostgresStore(options)
    yield opened
    await opened.aclose()


def settings(tx: sa.Connection) -> dict[str, str]:
    return {name: str(tx.scalar(sa.text(f"SHOW {name}"))) for name in (*BY_INDEX, "jit", "work_mem")}


async def test_a_read_without_a_timeout_outlasts_the_timeouts_of_server_and_client(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLIENT_SECONDS_MORE", 0.1)

    def slow(tx: sa.Connection) -> str:
        tx.execute(sa.text("SELECT pg_sleep(0.5)"))
        return "done"

    assert await store.read(slow, no_timeout=True) == "done"
    with pytest.raises(AccountingFailed):
        await store.read(slow)


@pytest.mark.parametrize("no_timeout", [False, True])
async def test_a_connection_starts_with_the_planner_settings_and_keeps_them(
    store: PostgresStore, *, no_timeout: bool
) -> None:
    def fail(tx: sa.Connection) -> None:
        with merge_joins(tx):
            tx.execute(sa.text("SELECT 1 / 0"))

    before = await store.read(settings, no_timeout=no_timeout)
    assert before.items() >= {**BY_INDEX, "jit": "off"}.items()
    with pytest.raises(AccountingFailed):
        await store.read(fail, no_timeout=no_timeout)
    assert await store.read(settings, no_timeout=no_timeout) == before
    assert await store.write(settings) == before


@pytest.mark.parametrize(
    ("block", "changes"),
    [
        (merge_joins, {"enable_mergejoin": "on", "enable_nestloop": "off", "enable_sort": "off"}),
        (
            bitmap_scans,
            {"enable_bitmapscan": "on", "enable_indexscan": "off", "enable_sort": "off", "work_mem": "32MB"},
        ),
    ],
    ids=["merge joins", "bitmap scans"],
)
async def test_settings_of_the_planner_end_with_their_block(
    store: PostgresStore,
    block: Callable[[sa.Connection], AbstractContextManager[None]],
    changes: dict[str, str],
) -> None:
    def fn(tx: sa.Connection) -> tuple[dict[str, str], ...]:
        before = settings(tx)
        with block(tx):
            within = settings(tx)
        return before, within, settings(tx)

    before, within, after = await store.read(fn)
    assert within == before | changes
    assert after == before == await store.read(settings)


async def test_the_startup_packet_has_only_parameters_that_pgbouncer_accepts() -> None:
    packets: list[bytes] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int.from_bytes(await reader.readexactly(4))
        packets.append(await reader.readexactly(length - 4))
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        options = PostgresOptions(url=f"postgresql://tok0n@127.0.0.1:{port}/tok0n?sslmode=disable")
        with pytest.raises(DATABASE_ERRORS):
            await options.connect(BY_INDEX)
    names = packets[0][4:].split(b"\0")[:-2:2]
    assert set(names) == {b"user", b"database", b"client_encoding", b"application_name"}
