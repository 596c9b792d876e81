"""A database that the code of schema 0103 filled becomes one of this version, whole or not at all."""

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.old_databases import Contents, Databases, describe, migrated_from_0103, rows_of
from support.old_ledger import START_US
from tok0n.adapters.sql import audit, schema
from tok0n.adapters.sql.sqlite import database_file
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.errors import OperatorError
from tok0n.domain.ledger import Settlement
from tok0n.domain.usage import Usage

pytestmark = pytest.mark.anyio

APPLIED = [f"0103 -> {schema.HEAD}"]
NOW_US = START_US + 10**14


def _require_right_wallets(rows: Contents) -> None:
    """Compare every wallet with its entries and its PENDING requests, as the audit of both versions does."""
    posted, pending, entries = Counter[object](), Counter[object](), Counter[object]()
    for row in rows["ledger_entry"]:
        posted[row["account_id"], row["token_class"]] += row["amount"]
        entries[row["account_id"], row["token_class"]] += 1
    for row in rows["request"]:
        if row["status"] == "PENDING":
            pending[row["account_id"], row["token_class"]] += row["reserved"]
    wallets = {(row["account_id"], row["token_class"]): row for row in rows["wallet"]}
    assert posted.keys() | pending.keys() <= wallets.keys()
    for key, row in wallets.items():
        assert (row["posted"], row["pending"], row["entries"]) == (posted[key], pending[key], entries[key]), key


async def test_every_row_is_kept_and_the_schema_is_that_of_a_new_database(
    databases: Databases, stores: list[SqlStore]
) -> None:
    where = await databases.create_0103()
    before = await databases.contents(where)
    _require_right_wallets(before)
    assert Counter(row["status"] for row in before["request"]).keys() == {"PENDING", "SETTLED", "RELEASED", "EXPIRED"}
    assert {row["token_class"] for row in before["wallet"]} == {"standard", "large"}
    filled = {table for table, rows in before.items() if rows}
    assert filled >= {"activity", "budget_period", "debt", "low_balance_notice", "mail_link", "pack_order", "session"}

    store, applied = await databases.open(where)
    fresh, _ = await databases.open(await databases.create_empty())
    stores += [store, fresh]

    assert applied == APPLIED
    assert await store.read(describe) == await fresh.read(describe)
    after, expected = await store.read(rows_of), migrated_from_0103(before)
    assert after.keys() == expected.keys()
    for table, rows in expected.items():
        assert after[table] == rows, table
    _require_right_wallets(after)
    report = await store.read(audit.audit)
    assert report.ok
    assert (report.requests, report.entries) == (len(before["request"]), len(before["ledger_entry"]))


async def test_requests_in_progress_end_as_usual(databases: Databases) -> None:
    async with databases.opened(await databases.create_0103()) as (store, ledger):
        pending = [row for row in (await store.read(rows_of))["request"] if row["status"] == "PENDING"]
        assert {row["budget_periods"] is None for row in pending} == {True, False}
        for row in pending[::2]:
            usage = Usage(
                prompt_tokens=row["reserved"], completion_tokens=7, total_tokens=row["reserved"] + 7, details={}
            )
            settlement = Settlement(request_id=row["id"], usage=usage, resolved_at_us=NOW_US, upstream_ms=1)
            assert (await ledger.settle(settlement)).charged > 0
        assert await ledger.recover(now_us=NOW_US) == len(pending[1::2])
        assert (await ledger.audit()).ok
        contents = await store.read(rows_of)
    _require_right_wallets(contents)
    assert {row["pending"] for table in ("wallet", "budget_period") for row in contents[table]} == {0}


@pytest.mark.parametrize(
    "planted",
    [
        "UPDATE wallet SET posted = posted + 1 WHERE token_class = 'large'",
        "UPDATE usage_day SET charged = charged + 1 WHERE model = 'big'",
        f"UPDATE budget_period SET spent = spent + 1 WHERE budget_id = 'bud_{1:020x}'",
    ],
)
async def test_a_ledger_with_differences_is_refused_and_stays_as_it_is(databases: Databases, planted: str) -> None:
    where = await databases.create_0103()
    await databases.execute(where, planted)
    before = await databases.contents(where)
    with pytest.raises(OperatorError, match="The migration was undone"):
        await databases.open(where)
    assert await databases.contents(where) == before


async def test_a_database_that_an_old_server_uses_is_refused(databases: Databases) -> None:
    where = await databases.create_0103()
    with contextlib.ExitStack() as stack:
        if databases.engine == "sqlite":
            stack.enter_context(database_file.take_lock(Path(where)))
        else:
            await databases.execute(where, "UPDATE process SET lease_ends_at_us = 4000000000000000")
        before = await databases.contents(where)
        with pytest.raises(OperatorError, match=r"Stop (it|every server)"):
            await databases.open(where)
        assert await databases.contents(where) == before


async def test_a_migration_that_is_killed_leaves_the_database_as_it_was(
    databases: Databases, stores: list[SqlStore]
) -> None:
    where = await databases.create_0103()
    before = await databases.contents(where)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    for statement in ("DROP TABLE usage_hour", "UPDATE alembic_version"):
        killed = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "support.killed_migration", databases.engine, where, statement), env=environment
        )
        assert await killed.wait() == -signal.SIGKILL
        assert await databases.contents(where) == before, statement
    store, applied = await databases.open(where)
    stores.append(store)
    assert applied == APPLIED
    assert await store.read(rows_of) == migrated_from_0103(before)
    assert (await store.read(audit.audit)).ok
