"""Final rows cannot be edited, and the audit finds every total that is not the sum of its rows."""

import asyncio

import msgspec
import pytest
import sqlalchemy as sa

from support.ledgers import NOW_US, Opened, new, outcome, released, schema, used
from tok0n.adapters.sql import audit
from tok0n.domain.accounts import KeyLimits
from tok0n.domain.budgets import KeyBudget, periods_at
from tok0n.domain.errors import (
    AccountingFailed,
)
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR

pytestmark = pytest.mark.anyio

INSERT_ENTRY = "INSERT INTO ledger_entry (account_id, number, kind, amount, posted_after, created_at_us) SELECT id,"

USAGE_WITHOUT_REQUEST = f"{INSERT_ENTRY} 2, 'usage', -1, 1, 1 FROM account"

GRANT_IN_NO_WALLET = f"{INSERT_ENTRY} 1, 'grant', 7, 7, 1 FROM account".replace("(", "(token_class, ", 1).replace(
    "SELECT ", "SELECT 'other', ", 1
)

GRANT_OUT_OF_LINE = f"{INSERT_ENTRY} 2, 'grant', 7, 999, 1 FROM account"


async def test_the_database_rejects_edits_of_final_rows(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 10))
    await db.ledger.settle(used("r1", 5))
    for statement in (
        "UPDATE ledger_entry SET amount = 2",
        "DELETE FROM ledger_entry",
        "UPDATE request SET charged = 1",
        "UPDATE wallet SET pending = -1",
        "UPDATE wallet SET posted = -1",
        "UPDATE wallet SET pending = posted + 1",
        USAGE_WITHOUT_REQUEST,
    ):
        sql = sa.text(statement)
        failure = await outcome(db.store.write(lambda tx, sql=sql: tx.execute(sql) and None))  # type: ignore[misc]
        assert isinstance(failure, AccountingFailed), statement
    assert (await db.ledger.audit()).ok


async def test_the_database_rejects_a_second_reversal_of_a_request(db: Opened) -> None:
    await db.key("a@x", tokens=1_000)
    reversal = (
        "INSERT INTO ledger_entry (account_id, number, kind, amount, posted_after, created_at_us, reverses_request_id)"
    )
    statement = sa.text(f"{reversal} SELECT id, 2, 'adjustment', 1, 1, 1, 'r1' FROM account")
    await db.store.write(lambda tx: tx.execute(statement))
    with pytest.raises(AccountingFailed):
        await db.store.write(lambda tx: tx.execute(statement))


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE wallet SET posted = posted + 1", "posted is not the sum of the entries"),
        ("UPDATE wallet SET pending = pending + 1", "pending is not the sum of the reservations"),
        ("UPDATE request SET reserved = reserved + 1 WHERE id = 'open'", "pending is not the sum of the reservations"),
        (GRANT_OUT_OF_LINE, "posted_after is not the running sum"),
        (GRANT_OUT_OF_LINE.replace("2,", "4,", 1), "its number does not follow the previous one"),
        ("UPDATE wallet SET entries = entries + 1", "the number of entries is not the number of the last one"),
        (
            "INSERT INTO wallet SELECT id, 'other', 5, 0, 0 FROM account",
            "posted is not the sum of the entries",
        ),
        (
            "UPDATE budget_period SET spent = spent + 1",
            "the tokens that the budget has spent are not the sum of its requests",
        ),
        (
            "UPDATE budget_period SET pending = pending + 1",
            "the tokens that the budget has reserved are not the sum of its requests",
        ),
        (
            "INSERT INTO budget_period (budget_id, starts_at_us, spent, pending) VALUES ('another', 0, 4, 0)",
            "the tokens that the budget has spent are not the sum of its requests",
        ),
        ("UPDATE request SET token_class = 'other' WHERE id = 'open'", "pending is not the sum of the reservations"),
        ("UPDATE request SET token_class = 'other' WHERE id = 'open'", "the wallet does not exist"),
        (GRANT_IN_NO_WALLET, "the wallet does not exist"),
        ("DELETE FROM budget_period", "the budget's period does not exist"),
    ],
)
async def test_the_audit_names_every_difference(db: Opened, damage: str, what: str) -> None:
    account, key = await db.key("a@x", tokens=1000, limits=KeyLimits(budgets=(KeyBudget(id="b", tokens=500),)))
    open_request = new("open", account.id, key.id, 10)
    periods = periods_at(key.limits.budgets, "standard", NOW_US)
    await db.ledger.reserve(msgspec.structs.replace(open_request, periods=periods))
    assert (await db.ledger.audit()).ok
    await db.store.write(lambda tx: tx.execute(sa.text(damage)) and None)
    report = await db.ledger.audit()
    assert not report.ok
    assert what in [difference.what for difference in report.differences]


async def test_the_audit_finds_a_charge_without_its_entry(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 10))
    forged = (
        "UPDATE request SET status = 'SETTLED', charged = 4, total_tokens = 4, resolved_at_us = 1 WHERE id = 'r1'",
        "UPDATE wallet SET pending = 0",
    )
    for statement in forged:
        sql = sa.text(statement)
        await db.store.write(lambda tx, sql=sql: tx.execute(sql) and None)  # type: ignore[misc]
    report = await db.ledger.audit()
    assert [(d.subject, d.what, d.expected) for d in report.differences] == [
        ("r1", "the usage entry is not the charge", -4)
    ]


@pytest.mark.parametrize(
    ("token_class", "what"),
    [("standard", "the usage entry is not the charge"), ("other", "the usage entry is in another wallet")],
)
async def test_the_audit_compares_each_usage_entry_with_its_request(db: Opened, token_class: str, what: str) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 10))
    await db.ledger.release(released("r1"))
    forged = f"{INSERT_ENTRY} 2, 'usage', -3, 997, 'r1', '{token_class}', 1 FROM account".replace(
        "posted_after,", "posted_after, request_id, token_class,"
    )
    await db.store.write(lambda tx: tx.execute(sa.text(forged)) and None)
    assert ("r1", what) in {(d.subject, d.what) for d in (await db.ledger.audit()).differences}


async def test_the_usage_of_each_quarter_hour_is_counted_with_the_charge(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10_000)
    quarter = NOW_US // MICROSECONDS_PER_QUARTER_HOUR
    for n, (total, at_us) in enumerate([(10, NOW_US), (2_000, NOW_US), (30, NOW_US + MICROSECONDS_PER_QUARTER_HOUR)]):
        await db.ledger.reserve(new(f"r{n}", account.id, key.id, 1_000))
        await db.ledger.settle(msgspec.structs.replace(used(f"r{n}", total), resolved_at_us=at_us))
        await db.ledger.settle(used(f"r{n}", total))
    rows = await db.rows(schema.usage_quarter)
    assert [(row["quarter"], row["model"], row["requests"], row["charged"]) for row in rows] == [
        (quarter, "demo", 2, 2_010),
        (quarter + 1, "demo", 1, 30),
    ]
    assert (await db.ledger.audit()).ok
    await db.store.write(lambda tx: tx.execute(sa.text("UPDATE usage_quarter SET charged = charged + 1")) and None)
    assert {difference.what for difference in (await db.ledger.audit()).differences} == {
        "the use of all quarter hours is not the sum of the usage entries"
    }


async def test_an_audit_beside_writers_finds_no_false_difference(db: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ENTRIES_PER_STEP", "REQUESTS_PER_STEP"):
        monkeypatch.setattr(audit, name, 100)
    for name in ("IDS_PER_STEP", "ACCOUNTS_PER_STEP", "PERIODS_PER_STEP"):
        monkeypatch.setattr(audit, name, 3)
    callers = [await db.key(f"{number}@x", tokens=100_000) for number in range(7)]
    has_ended = False

    async def use(number: int) -> None:
        (account, key), turn = callers[number], 0
        while not has_ended:
            turn += 1
            request_id = f"req_{turn:012}{number}"
            await db.ledger.reserve(new(request_id, account.id, key.id, 10))
            await db.ledger.settle(used(request_id, 5 + turn % 7))
            await db.accounts.grant(email=account.email, tokens=11, reason="more", now_us=NOW_US)

    users = [asyncio.create_task(use(number)) for number in range(len(callers))]
    try:
        reports = [await db.ledger.audit() for _ in range(3)]
    finally:
        has_ended = True
        await asyncio.gather(*users)
    assert [report.differences for report in reports] == [[], [], []]
    assert reports[0].entries < reports[2].entries
    assert (await db.ledger.audit()).ok
