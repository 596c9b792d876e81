"""A database of schema 0102 becomes one of this version, with all of its data and its requests in progress."""

import contextlib
import re
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from support.old_databases import Contents, Databases, describe, migrated_from_0103, rows_of
from support.old_ledger import BUDGET, START_US, Row
from tok0n.adapters.sql import audit, schema
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.adapters.sql.sqlite import database_file
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.budgets import BudgetPeriod
from tok0n.domain.errors import AccountingFailed, KeyBudgetSpent, OperatorError
from tok0n.domain.ledger import NewReservation, Release, Settlement
from tok0n.domain.usage import Usage

pytestmark = pytest.mark.anyio

NOW_US = START_US + 10**14


def _without(row: Row, *columns: str) -> Row:
    return {column: value for column, value in row.items() if column not in columns}


def _migrated(old: Contents) -> Contents:
    """Return the rows that a database of schema 0102 must have after the migration."""
    new = dict(old)
    entries: Counter[str] = Counter()
    standard = {"token_class": "standard"}
    new["ledger_entry"] = []
    for row in sorted(old["ledger_entry"], key=lambda row: int(row["id"])):
        entries[row["account_id"]] += 1
        reason = row["reason"] if row["reverses_request_id"] is None else None
        columns = standard | {"number": entries[row["account_id"]], "reason": reason, "author": None}
        new["ledger_entry"].append(row | columns)
    new["account"] = [_without(row, "posted", "pending") for row in old["account"]]
    new["wallet"] = [
        standard | {"account_id": row["id"], "entries": entries[row["id"]]} | {name: row[name] for name in _BALANCE}
        for row in old["account"]
    ]
    added = dict.fromkeys(("disabled_at_us", "endpoints", "networks", "requests_per_minute"))
    new["api_key"] = [_without(row, *_MOVED) | added | {"version": 1, "note": ""} for row in old["api_key"]]
    new["key_secret"] = [
        {"api_key_id": row["id"], "ends_at_us": None, **{name: row[name] for name in _SECRET}} for row in old["api_key"]
    ]
    budgets = {row["id"]: f"bud_{row['id'].removeprefix('key_')}" for row in old["api_key"] if row["budget"]}
    limited = [(row, budgets[row["id"]]) for row in old["api_key"] if row["id"] in budgets]
    always = {"period": "total", "token_class": None, "time_zone": "UTC"}
    new["key_budget"] = [
        {
            "id": budget,
            "api_key_id": row["id"],
            "tokens": row["budget"],
            "created_at_us": row["created_at_us"],
            **always,
        }
        for row, budget in limited
    ]
    new["budget_period"] = [
        {"budget_id": budget, "starts_at_us": 0, "ends_at_us": None, "spent": row["spent"], "pending": row["pending"]}
        | {"notified": 100 if row["spent"] >= row["budget"] else 80 if row["spent"] / row["budget"] >= 0.8 else 0}
        for row, budget in limited
    ]
    new["request"] = [
        row
        | standard
        | {"budget_periods": f'[["{budgets[row["api_key_id"]]}",0,null]]' if row["api_key_id"] in budgets else None}
        for row in old["request"]
    ]
    for table in ("pack_order", "redeem_code", "debt"):
        new[table] = [row | standard for row in old[table]]
    new["activity"] = []
    return migrated_from_0103(new)


_BALANCE = ("posted", "pending")
_SECRET = ("digest", "prefix", "last_four", "created_at_us")
_MOVED = ("digest", "prefix", "last_four", "budget", "spent", "pending")


async def test_every_row_is_kept_and_the_schema_is_that_of_a_new_database(
    databases: Databases, stores: list[SqlStore]
) -> None:
    where = await databases.create(accounts=30, requests=10_000)
    # One budget is nearly spent, and one is.
    await databases.execute(
        where,
        f"UPDATE api_key SET budget = spent WHERE id = 'key_{1:020x}'",
        f"UPDATE api_key SET budget = spent * 5 / 4 WHERE id = 'key_{4:020x}'",
    )
    before = await databases.contents(where)
    statuses = Counter(row["status"] for row in before["request"])
    assert (statuses.total(), statuses["PENDING"], len(statuses)) == (10_000, 1_000, 4)
    assert {row["kind"] for row in before["ledger_entry"]} >= {"purchase", "grant", "usage", "refund", "adjustment"}
    for table in ("debt", "pack_order", "redeem_code", "redemption", "usage_hour", "process"):
        assert before[table], table
    store, applied = await databases.open(where)
    fresh, created = await databases.open(await databases.create_empty())
    stores += [store, fresh]

    assert (applied, created) == ([f"0102 -> {schema.HEAD}"], [schema.HEAD])
    assert await store.read(describe) == await fresh.read(describe)
    assert await store.migrate() in ([], applied), "SQLite migrates when it opens"
    after, expected = await store.read(rows_of), _migrated(before)
    assert after.keys() == expected.keys()
    for table, rows in expected.items():
        assert after[table] == rows, table
    assert {row["notified"] for row in after["budget_period"]} == {0, 80, 100}
    report = await store.read(audit.audit)
    assert report.ok
    assert (report.requests, report.entries) == (len(before["request"]), len(before["ledger_entry"]))


async def test_requests_in_progress_end_as_usual(databases: Databases) -> None:
    async with databases.opened(await databases.create(requests=400)) as (store, ledger):
        pending = [row for row in (await store.read(rows_of))["request"] if row["status"] == "PENDING"]
        assert {row["budget_periods"] is None for row in pending[::3]} == {True, False}
        for row in pending[::3]:
            usage = Usage(
                prompt_tokens=row["reserved"], completion_tokens=7, total_tokens=row["reserved"] + 7, details={}
            )
            settled = Settlement(request_id=row["id"], usage=usage, resolved_at_us=NOW_US, upstream_ms=1)
            assert (await ledger.settle(settled)).charged > 0
        for row in pending[1::3]:
            release = Release(request_id=row["id"], code="upstream_error", dispatched=True, resolved_at_us=NOW_US)
            await ledger.release(release)
        assert await ledger.recover(now_us=NOW_US) == len(pending[2::3])
        assert (await ledger.audit()).ok
        contents = await store.read(rows_of)
        assert {row["pending"] for table in ("wallet", "budget_period") for row in contents[table]} == {0}


async def test_a_migrated_budget_admits_exactly_what_is_left_of_it(databases: Databases) -> None:
    where = await databases.create()
    key_id, account_id, left = f"key_{1:020x}", f"acct_{0:020x}", 30
    period = BudgetPeriod(f"bud_{1:020x}", 0, None)
    await databases.execute(where, f"UPDATE api_key SET budget = spent + pending + {left} WHERE id = '{key_id}'")

    def new(number: int, tokens: int) -> NewReservation:
        return NewReservation(
            request_id=f"req_{number:032x}",
            account_id=account_id,
            api_key_id=key_id,
            model="demo",
            tokens=tokens,
            created_at_us=NOW_US,
            expires_at_us=NOW_US + 10**8,
            periods=(period,),
        )

    async with databases.opened(where) as (store, ledger):
        accounts = SqlAccounts(store)
        await accounts.grant(email="0@example.com", tokens=BUDGET, reason="more", now_us=NOW_US)
        key = next(key for key in await accounts.list_keys(account_id) if key.id == key_id)
        assert [budget.period_at(NOW_US) for budget in key.limits.budgets] == [period]
        with pytest.raises(KeyBudgetSpent):
            await ledger.reserve(new(1, left + 1))
        await ledger.reserve(new(2, left))
        with pytest.raises(KeyBudgetSpent):
            await ledger.reserve(new(3, 1))
        assert (await ledger.audit()).ok


@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("UPDATE ledger_entry SET reason = 'other'", "never edited"),
        ("DELETE FROM ledger_entry", "never deleted|edited or deleted"),
        ("UPDATE request SET code = 'other' WHERE status = 'SETTLED'", "ends once"),
        ("UPDATE api_key SET revoked_at_us = 1", "new version"),
        ("UPDATE key_secret SET api_key_id = 'key_none'", "FOREIGN KEY|foreign key"),
    ],
)
async def test_a_migrated_database_is_guarded(
    databases: Databases, stores: list[SqlStore], statement: str, error: str
) -> None:
    store, _ = await databases.open(await databases.create())
    stores.append(store)
    with pytest.raises(AccountingFailed) as failed:
        await store.write(lambda tx: tx.execute(sa.text(statement)) and None)
    assert re.search(error, str(failed.value.detail))


PLANTED = {
    "a balance": "UPDATE account SET posted = posted + 1 WHERE email = '1@example.com'",
    "reserved tokens": "UPDATE account SET pending = 0 WHERE email = '1@example.com'",
    "a spent budget": f"UPDATE api_key SET spent = spent + 1 WHERE id = 'key_{4:020x}'",
    "a reserved budget": f"UPDATE api_key SET pending = pending + 1 WHERE id = 'key_{4:020x}'",
    "a debt": "INSERT INTO debt SELECT id, 5 FROM account WHERE email = '3@example.com'"
    " AND NOT EXISTS (SELECT 1 FROM debt WHERE account_id = id)",
    "a day": "INSERT INTO usage_rollup (day, account_id) VALUES (1000000, '')",
    "an entry": "INSERT INTO ledger_entry (account_id, kind, amount, posted_after, created_at_us)"
    " SELECT id, 'grant', 5, posted + 6, 0 FROM account WHERE email = '2@example.com'",
}


@pytest.mark.parametrize("planted", PLANTED)
async def test_a_ledger_with_differences_is_refused_and_stays_as_it_is(databases: Databases, planted: str) -> None:
    where = await databases.create()
    await databases.execute(where, PLANTED[planted])
    before = await databases.contents(where)
    with pytest.raises(OperatorError, match="The migration was undone"):
        await databases.open(where)
    assert await databases.contents(where) == before


async def test_a_database_that_a_server_uses_is_refused(databases: Databases) -> None:
    where = await databases.create()
    before = await databases.contents(where)
    with contextlib.ExitStack() as stack:
        if databases.engine == "sqlite":
            stack.enter_context(database_file.take_lock(Path(where)))
        else:
            await databases.execute(where, "UPDATE process SET lease_ends_at_us = 4000000000000000")
            before = await databases.contents(where)
        with pytest.raises(OperatorError, match=r"Stop (it|every server)"):
            await databases.open(where)
        assert await databases.contents(where) == before


async def test_rows_that_refer_to_nothing_are_refused_on_sqlite(tmp_path: Path) -> None:
    databases = Databases("sqlite", tmp_path)
    where = await databases.create()
    await databases.execute(where, "UPDATE users SET account_id = 'acct_none' WHERE email = '1@example.com'")
    before = await databases.contents(where)
    with pytest.raises(OperatorError, match="table users refers to a row of account that does not exist"):
        await databases.open(where)
    assert await databases.contents(where) == before


@pytest.mark.parametrize(
    ("revision", "advice"), [("0007", "First run tok0n migrate"), ("0101", "First run"), ("9999", "newer Tok0n")]
)
async def test_an_unknown_schema_is_refused_with_the_way_out(databases: Databases, revision: str, advice: str) -> None:
    where = await databases.create()
    await databases.execute(where, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(OperatorError, match=advice):
        await databases.open(where)
