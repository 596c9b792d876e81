"""How the ledger's function finds its rows in PostgreSQL: by their ids, however many calls are in flight."""

import asyncio
import functools
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from support import many_rows
from support.leases import PROCESS_ID
from support.ledgers import NOW_US, new, open_engine, schema
from tok0n.adapters.sql.postgres.connection import _HOT_SETTINGS
from tok0n.adapters.sql.postgres.ledger import _BATCH, Command, _pack
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.domain.budgets import BudgetPeriod
from tok0n.domain.ledger import NewReservation, Release, Settlement
from tok0n.domain.usage import Usage

pytestmark = pytest.mark.anyio

CALLS = 30
_SCANS = """
SELECT pg_stat_get_xact_numscans('request_pkey'::regclass), pg_stat_get_xact_numscans('request_pending'::regclass)
"""
_ENTRIES_READ = """
SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid)) FROM pg_index WHERE indrelid = 'request'::regclass
"""

_HOT_ENTRIES_READ = """
SELECT sum(pg_stat_get_xact_tuples_returned(indexrelid))::bigint FROM pg_index
WHERE indrelid = ANY (ARRAY['request', 'wallet', 'api_key', 'key_budget', 'budget_period', 'usage_quarter']::regclass[])
"""
_OTHERS = """
INSERT INTO account SELECT 'x' || i, i || '@y', 'open', 0 FROM generate_series(1, 2000) i

INSERT INTO wallet SELECT 'x' || i, 'standard', 1, 0, 0 FROM generate_series(1, 2000) i

INSERT INTO api_key (id, account_id, name, created_at_us)
SELECT 'x' || i, 'x' || i, 'n', 0 FROM generate_series(1, 2000) i

INSERT INTO key_budget (id, api_key_id, tokens, period, time_zone, created_at_us)
SELECT 'x' || i, 'x' || i, 1, 'day', 'UTC', 0 FROM generate_series(1, 2000) i

INSERT INTO budget_period (budget_id, starts_at_us, spent, pending)
SELECT 'x' || i, d, 0, 0 FROM generate_series(1, 2000) i, generate_series(1, 3) d

INSERT INTO request (id, account_id, api_key_id, model, status, reserved, charged, shortfall, dispatched, created_at_us,
    expires_at_us, resolved_at_us)
SELECT 'x' || i, 'x1', 'x1', 'm', 'EXPIRED', 1, 0, 0, 1, 0, 0, 1 FROM generate_series(1, 30000) i
"""


def settle(number: int, *, total_tokens: int) -> Settlement:
    usage = Usage(prompt_tokens=1, completion_tokens=total_tokens - 1, total_tokens=total_tokens)
    return Settlement(request_id=f"req_{number:032}", usage=usage, resolved_at_us=NOW_US, upstream_ms=1)


def release(number: int) -> Release:
    return Release(request_id=f"req_{number:032}", code="cancelled", dispatched=False, resolved_at_us=NOW_US)


@pytest.mark.parametrize(
    "commands",
    [
        [settle(number, total_tokens=7) for number in range(5)],
        [settle(number, total_tokens=17) for number in range(5)],
        [release(number) for number in range(5)],
    ],
    ids=["as reserved", "more than reserved", "released"],
)
async def test_a_batch_never_goes_through_all_that_is_pending(tmp_path: Path, commands: list[Command]) -> None:
    async with open_engine("postgres", tmp_path) as db:
        account, key = await db.key("many@example.com", tokens=10**6)
        reservations = [new(f"req_{number:032}", account.id, key.id, 10) for number in range(CALLS)]
        await asyncio.gather(*map(db.ledger.reserve, reservations))
        assert isinstance(db.store, PostgresStore)
        connection = await db.store.options.connect(_HOT_SETTINGS)
        async with connection.transaction():
            assert len(await connection.fetch(_BATCH, *_pack(commands), PROCESS_ID)) == len(commands)
            by_id, pending = await connection.fetchrow(_SCANS)
        await connection.close()
        assert by_id
        assert not pending


@pytest.mark.parametrize("accounts", [1, 3, 100])
async def test_a_plan_made_on_a_young_database_reads_only_the_rows_of_the_batch_later(
    tmp_path: Path, accounts: int
) -> None:
    async with open_engine("postgres", tmp_path) as db:
        assert isinstance(db.store, PostgresStore)
        await db.store.write(lambda tx: many_rows.fill(tx, accounts=accounts, requests=accounts))
        settings = {**_HOT_SETTINGS, "plan_cache_mode": "force_generic_plan"}
        connection = await db.store.options.connect(settings)
        for number in range(8):
            await connection.fetch(_BATCH, *_pack([reserve(number, accounts=accounts)]), PROCESS_ID)
            ending: Command = release(number) if number % 2 else settle(number, total_tokens=7 + 10 * (number % 4))
            await connection.fetch(_BATCH, *_pack([ending]), PROCESS_ID)
        await db.store.write(_insert_others)
        numbers = range(10, 14)
        reservations: list[Command] = [reserve(number, accounts=accounts) for number in numbers]
        ends: list[Command] = [*(settle(number, total_tokens=number - 1) for number in (10, 11, 12)), release(13)]
        for commands in (reservations, ends):
            async with connection.transaction():
                rows = await connection.fetch(_BATCH, *_pack(commands), PROCESS_ID)
                entries_read = await connection.fetchval(_HOT_ENTRIES_READ)
            assert len(rows) == len(commands)
            assert entries_read <= 60 * len(commands)
        await connection.close()


def reserve(number: int, *, accounts: int) -> NewReservation:
    account, key = many_rows.account_id(number % accounts), many_rows.key_id(number % accounts)
    periods = (BudgetPeriod(many_rows.budget_id(number % accounts), NOW_US, NOW_US + 1),)
    return msgspec.structs.replace(new(f"req_{number:032}", account, key, 10), periods=periods)


def _insert_others(tx: sa.Connection) -> None:
    """Insert accounts, keys and requests that no batch concerns."""
    for statement in _OTHERS.strip().split("\n\n"):
        tx.execute(sa.text(statement))


async def test_the_audit_names_what_no_foreign_key_holds(tmp_path: Path) -> None:
    async with open_engine("postgres", tmp_path) as db:
        account, _ = await db.key("strays@example.com", tokens=10)
        await db.store.write(functools.partial(_insert_strays, account_id=account.id))
        found = {(difference.subject, difference.what) for difference in (await db.ledger.audit()).differences}
        assert {
            ("req_stray", "its account acct_none does not exist"),
            ("req_stray", "its api_key key_none does not exist"),
            ("entry 2", "its account acct_none does not exist"),
            ("entry 3", "its request req_none does not exist"),
            ("req_stray", "a RELEASED request has no time of its end"),
        } <= found


def _insert_strays(tx: sa.Connection, *, account_id: str) -> None:
    names = {"id": "req_stray", "account_id": "acct_none", "api_key_id": "key_none", "model": "m", "status": "RELEASED"}
    numbers = {"reserved": 1, "charged": 0, "shortfall": 0, "dispatched": 0, "created_at_us": 0, "expires_at_us": 0}
    tx.execute(sa.insert(schema.request), names | numbers)
    entry = {"kind": "grant", "number": 1, "amount": 1, "posted_after": 1, "created_at_us": 0}
    tx.execute(sa.insert(schema.ledger_entry), entry | {"account_id": "acct_none"})
    usage = {
        "kind": "usage",
        "number": 2,
        "amount": -1,
        "posted_after": 1,
        "request_id": "req_none",
        "account_id": account_id,
    }
    tx.execute(sa.insert(schema.ledger_entry), entry | usage)


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16, 32, 64, 128])
async def test_in_a_young_database_too_a_batch_reads_no_more_than_it_ends(tmp_path: Path, size: int) -> None:
    """The plan is made while nothing is there yet, and kept."""
    async with open_engine("postgres", tmp_path) as db:
        account, key = await db.key("young@example.com", tokens=10**6)
        assert isinstance(db.store, PostgresStore)
        connection = await db.store.options.connect(_HOT_SETTINGS)

        async def run(commands: list[Command]) -> int:
            async with connection.transaction():
                before = await connection.fetchval(_ENTRIES_READ)
                assert len(await connection.fetch(_BATCH, *_pack(commands), PROCESS_ID)) == len(commands)
                read: int = await connection.fetchval(_ENTRIES_READ) - before
                return read

        for batch in range(40):
            numbers = range(batch * size, (batch + 1) * size)
            await run([new(f"req_{number:032}", account.id, key.id, 10) for number in numbers])
            read = await run([settle(number, total_tokens=7) for number in numbers])
        await connection.close()
    assert read <= 4 * size
