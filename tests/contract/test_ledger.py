"""What every ledger promises, whatever database is behind it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support.ledgers import ENGINES, NOW_US, Opened, new, open_engine, outcome, schema
from tok0n.adapters.batcher import RESERVATIONS_WAITING_MAX
from tok0n.domain.accounts import Account, ApiKey, Caller, KeyLimits
from tok0n.domain.errors import (
    AccountingFailed,
    AlreadyResolved,
    InsufficientTokens,
    InvalidApiKey,
    KeyBudgetSpent,
    NotFound,
    Overloaded,
)
from tok0n.domain.ledger import US_AN_HOUR, Balance, NewReservation, Receipt, Release, Settlement
from tok0n.domain.usage import Usage

pytestmark = pytest.mark.anyio

INSERT_ENTRY = "INSERT INTO ledger_entry (account_id, kind, amount, posted_after, created_at_us) SELECT id,"
USAGE_WITHOUT_REQUEST = f"{INSERT_ENTRY} 'usage', -1, 1, 1 FROM account"
GRANT_OUT_OF_LINE = f"{INSERT_ENTRY} 'grant', 7, 999, 1 FROM account"


@pytest.fixture(params=ENGINES)
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    async with open_engine(request.param, tmp_path) as opened:
        yield opened


def used(request_id: str, total: int) -> Settlement:
    usage = Usage(prompt_tokens=total, completion_tokens=0, total_tokens=total, details={"a.b_tokens": 1})
    return Settlement(request_id=request_id, usage=usage, resolved_at_us=NOW_US + 5, upstream_ms=7)


async def test_reversals_at_the_same_time_give_a_charge_back_once(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1_000)
    for request_id, total in (("r1", 40), ("r2", 40)):
        await db.ledger.reserve(new(request_id, account.id, key.id, 100))
        await db.ledger.settle(used(request_id, total))
    reversals = [db.ledger.reverse(request_id="r1", now_us=NOW_US + n) for n in range(8)]
    await asyncio.gather(*reversals)
    entries = [row for row in await db.rows(schema.ledger_entry) if row["reverses_request_id"] is not None]
    assert [(row["kind"], row["amount"], row["reverses_request_id"]) for row in entries] == [("adjustment", 40, "r1")]
    assert await balance(db) == Balance(posted=960, pending=0)
    assert (await db.ledger.audit()).ok


async def test_the_database_rejects_a_second_reversal_of_a_request(db: Opened) -> None:
    await db.key("a@x", tokens=1_000)
    reversal = "INSERT INTO ledger_entry (account_id, kind, amount, posted_after, created_at_us, reverses_request_id)"
    statement = sa.text(f"{reversal} SELECT id, 'adjustment', 1, 1, 1, 'r1' FROM account")
    await db.store.write(lambda tx: tx.execute(statement))
    with pytest.raises(AccountingFailed):
        await db.store.write(lambda tx: tx.execute(statement))


async def test_settlements_of_one_commit_do_not_spoil_each_other(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1_000)
    reservations = [new(f"r{n}", account.id, key.id, 100) for n in range(6)]
    for reservation in reservations:
        await db.ledger.reserve(reservation)
    await db.ledger.release(released("r5"))
    totals = [10, 20, 130, 40, 50, 60]
    settlements = [
        msgspec.structs.replace(used(f"r{n}", total), reservation=reservations[n]) for n, total in enumerate(totals)
    ]
    twice = [db.ledger.settle(settlement) for settlement in (*settlements, settlements[0])]
    results = await asyncio.gather(*twice, return_exceptions=True)
    assert [result.charged for result in results if isinstance(result, Receipt)] == [10, 20, 130, 40, 50, 10]
    assert isinstance(results[5], AlreadyResolved)
    assert await balance(db) == Balance(posted=750, pending=0)
    assert (await db.ledger.audit()).ok


async def test_reservations_of_one_commit_are_refused_one_by_one(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=250)
    results = await asyncio.gather(
        *[db.ledger.reserve(new(f"r{n}", account.id, key.id, 100)) for n in range(4)], return_exceptions=True
    )
    assert [type(result) for result in results] == [Balance, Balance, InsufficientTokens, InsufficientTokens]
    assert await balance(db) == Balance(posted=250, pending=200)
    assert (await db.ledger.audit()).ok


def released(request_id: str) -> Release:
    return Release(request_id=request_id, code="upstream_error", dispatched=True, resolved_at_us=NOW_US + 5)


async def balance(db: Opened, email: str = "a@x") -> Balance:
    return (await db.accounts.get(email)).balance


async def test_a_settlement_charges_the_use_and_releases_the_rest(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    assert await db.ledger.reserve(new("r1", account.id, key.id, 700)) == Balance(posted=1000, pending=700)
    receipt = await db.ledger.settle(used("r1", 120))
    assert receipt == Receipt(
        request_id="r1", reserved=700, charged=120, shortfall=0, balance=Balance(posted=880, pending=0)
    )
    assert await balance(db) == Balance(posted=880, pending=0)
    entries = await db.rows(schema.ledger_entry)
    assert [(e["kind"], e["amount"], e["posted_after"], e["request_id"]) for e in entries] == [
        ("grant", 1000, 1000, None),
        ("usage", -120, 880, "r1"),
    ]


async def test_settling_again_gives_the_first_result(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 700))
    first = await db.ledger.settle(used("r1", 120))
    assert await db.ledger.settle(used("r1", 300)) == first
    assert len(await db.rows(schema.ledger_entry)) == 2


async def test_two_racing_requests_cannot_spend_the_same_tokens(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    racing = [db.ledger.reserve(new(f"r{i}", account.id, key.id, 700)) for i in range(200)]
    results = [await outcome(future) for future in racing]
    assert sum(isinstance(result, Balance) for result in results) == 1
    assert sum(isinstance(result, InsufficientTokens) for result in results) == 199
    assert await balance(db) == Balance(posted=1000, pending=700)


async def test_a_refusal_names_what_was_required_and_what_is_there(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 700))
    refusal = await outcome(db.ledger.reserve(new("r2", account.id, key.id, 301)))
    assert isinstance(refusal, InsufficientTokens)
    assert (refusal.required, refusal.posted, refusal.pending, refusal.available) == (301, 1000, 700, 300)
    assert refusal.may_fit_later


async def test_a_revoked_key_is_refused_on_its_very_next_call(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.accounts.revoke_key(account_id=key.account_id, key_id=key.id, now_us=NOW_US)
    assert isinstance(await outcome(db.ledger.reserve(new("r1", account.id, key.id, 1))), InvalidApiKey)
    assert await balance(db) == Balance(posted=1000, pending=0)


async def test_a_key_of_another_account_reserves_nothing(db: Opened) -> None:
    account, _ = await db.key("a@x", tokens=1000)
    _, foreign = await db.key("b@x", tokens=0)
    assert isinstance(await outcome(db.ledger.reserve(new("r1", account.id, foreign.id, 1))), InvalidApiKey)


async def test_a_closed_account_reserves_nothing(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.store.write(lambda tx: tx.execute(sa.update(schema.account).values(status="closed")) and None)
    assert isinstance(await outcome(db.ledger.reserve(new("r1", account.id, key.id, 1))), InvalidApiKey)
    assert await db.accounts.find_caller(b"a@x", now_us=NOW_US) is None


async def test_use_beyond_the_reservation_is_taken_from_what_is_available(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 300))
    receipt = await db.ledger.settle(used("r1", 450))
    assert (receipt.charged, receipt.shortfall, receipt.balance) == (450, 0, Balance(posted=550, pending=0))


async def test_use_that_no_balance_covers_is_a_shortfall_and_never_a_debt(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 300))
    await db.ledger.reserve(new("r2", account.id, key.id, 600))
    receipt = await db.ledger.settle(used("r1", 5000))
    assert (receipt.charged, receipt.shortfall) == (400, 4600)
    assert receipt.balance == Balance(posted=600, pending=600)
    assert (await db.ledger.audit()).ok
    assert (await db.ledger.audit()).shortfall == 4600


async def test_a_release_costs_nothing_and_may_be_repeated(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 700))
    await db.ledger.release(released("r1"))
    await db.ledger.release(released("r1"))
    assert await balance(db) == Balance(posted=1000, pending=0)
    (row,) = await db.rows(schema.request)
    assert (row["status"], row["charged"], row["code"]) == ("RELEASED", 0, "upstream_error")


async def test_what_has_ended_one_way_cannot_end_another_way(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 10))
    await db.ledger.settle(used("r1", 10))
    assert isinstance(await outcome(db.ledger.release(released("r1"))), AlreadyResolved)
    await db.ledger.reserve(new("r2", account.id, key.id, 10))
    await db.ledger.release(released("r2"))
    assert isinstance(await outcome(db.ledger.settle(used("r2", 10))), AlreadyResolved)
    assert isinstance(await outcome(db.ledger.settle(used("unknown", 10))), AlreadyResolved)
    assert await balance(db) == Balance(posted=990, pending=0)


async def test_only_what_is_overdue_expires_and_it_costs_nothing(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 10, expires_in_us=100))
    await db.ledger.reserve(new("r2", account.id, key.id, 20, expires_in_us=200))
    assert await db.ledger.expire(now_us=NOW_US + 100, rows_max=10) == 0
    assert await db.ledger.expire(now_us=NOW_US + 101, rows_max=10) == 1
    assert await balance(db) == Balance(posted=1000, pending=20)
    assert isinstance(await outcome(db.ledger.settle(used("r1", 10))), AlreadyResolved)
    assert await db.ledger.recover(now_us=NOW_US) == 1
    assert await balance(db) == Balance(posted=1000, pending=0)


async def test_a_sweep_takes_no_more_rows_than_it_may(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    for i in range(5):
        await db.ledger.reserve(new(f"r{i}", account.id, key.id, 10, expires_in_us=i))
    assert await db.ledger.expire(now_us=NOW_US + 100, rows_max=3) == 3
    assert await db.ledger.expire(now_us=NOW_US + 100, rows_max=3) == 2


async def test_one_failing_command_does_not_harm_those_committed_with_it(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("same", account.id, key.id, 10))
    futures = [db.ledger.reserve(new(name, account.id, key.id, 10)) for name in ("r1", "same", "r2")]
    first, second, third = [await outcome(future) for future in futures]
    assert isinstance(first, Balance)
    assert isinstance(second, AccountingFailed)
    assert isinstance(third, Balance)
    assert await balance(db) == Balance(posted=1000, pending=30)


async def test_the_database_itself_refuses_to_edit_what_is_final(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 10))
    await db.ledger.settle(used("r1", 5))
    for statement in (
        "UPDATE ledger_entry SET amount = 2",
        "DELETE FROM ledger_entry",
        "UPDATE request SET charged = 1",
        "UPDATE account SET pending = -1",
        "UPDATE account SET posted = -1",
        "UPDATE account SET pending = posted + 1",
        USAGE_WITHOUT_REQUEST,
    ):
        sql = sa.text(statement)
        failure = await outcome(db.store.write(lambda tx, sql=sql: tx.execute(sql) and None))  # type: ignore[misc]
        assert isinstance(failure, AccountingFailed), statement
    assert (await db.ledger.audit()).ok


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        ("UPDATE account SET posted = posted + 1", "posted is not the sum of the entries"),
        ("UPDATE account SET pending = pending + 1", "pending is not the sum of the reservations"),
        ("UPDATE request SET reserved = reserved + 1 WHERE id = 'open'", "pending is not the sum of the reservations"),
        (GRANT_OUT_OF_LINE, "posted_after is not the running sum"),
    ],
)
async def test_the_audit_names_every_difference(db: Opened, damage: str, what: str) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("open", account.id, key.id, 10))
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
        "UPDATE account SET pending = 0",
    )
    for statement in forged:
        sql = sa.text(statement)
        await db.store.write(lambda tx, sql=sql: tx.execute(sql) and None)  # type: ignore[misc]
    report = await db.ledger.audit()
    assert [(d.subject, d.what, d.expected) for d in report.differences] == [
        ("r1", "the usage entry is not the charge", -4)
    ]


async def test_recent_requests_are_told_oldest_first_with_whether_they_were_dispatched(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    ids = [f"req_{(NOW_US // 1000):012x}{i}" for i in range(2)]
    await db.ledger.reserve(new(ids[0], account.id, key.id, 10))
    await db.ledger.reserve(new(ids[1], account.id, key.id, 10))
    await db.ledger.release(Release(request_id=ids[1], code="upstream_error", dispatched=False, resolved_at_us=1))
    await db.models.claim_verification(model="demo", request_id="req_operator", now_us=NOW_US + 500_000, exclusive_us=0)
    caller = Caller(api_key_id=key.id, account_id=account.id)
    found = await db.ledger.recent(since_us=NOW_US)
    assert [(r.request_id, r.caller, r.dispatched, r.pending) for r in found] == [
        (ids[0], caller, True, True),
        (ids[1], caller, False, False),
        ("req_operator", None, True, False),
    ]
    still_pending = await db.ledger.recent(since_us=NOW_US + 1_000_000)
    assert [r.request_id for r in still_pending] == [ids[0]]


async def test_everything_survives_closing_and_opening(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        account, key = await db.key("a@x", tokens=1000)
        await db.ledger.reserve(new("r1", account.id, key.id, 10))
        await db.ledger.settle(used("r1", 5))
    async with open_engine("sqlite", tmp_path) as db:
        assert await balance(db) == Balance(posted=995, pending=0)
        assert (await db.ledger.audit()).ok


async def test_an_account_cannot_own_more_tokens_than_can_be_counted(db: Opened) -> None:
    await db.key("a@x", tokens=2**53)
    refused = await outcome(
        asyncio.ensure_future(db.accounts.grant(email="a@x", tokens=1, reason="one more", now_us=NOW_US))
    )
    assert "at most" in str(refused)
    assert (await balance(db)).posted == 2**53
    with pytest.raises(NotFound):
        await db.accounts.grant(email="nobody@x", tokens=1, reason="none", now_us=NOW_US)


async def limited_key(db: Opened, **limits: Any) -> tuple[Account, ApiKey]:
    account = await db.accounts.create(email="a@x", tokens=10_000, now_us=NOW_US)
    key = await db.accounts.create_key(
        account_id=account.id,
        name="limited",
        digest=b"limited",
        prefix="tk0n_",
        last_four="0000",
        now_us=NOW_US,
        limits=KeyLimits(**limits),
    )
    return account, key


def of_key(account: Account, key: ApiKey, request_id: str, tokens: int, *, at_us: int = NOW_US) -> NewReservation:
    reservation = new(request_id, account.id, key.id, tokens)
    return msgspec.structs.replace(reservation, created_at_us=at_us, has_budget=key.limits.budget is not None)


async def test_a_key_spends_no_more_than_its_budget(db: Opened) -> None:
    account, key = await limited_key(db, budget=1_000)
    racing = [db.ledger.reserve(of_key(account, key, f"r{n}", 300)) for n in range(5)]
    results = [await outcome(future) for future in racing]
    assert [type(result) for result in results] == [Balance] * 3 + [KeyBudgetSpent] * 2
    assert "this API key has 100 left" in results[3].message
    await db.ledger.settle(used("r0", 250))
    await db.ledger.release(released("r1"))
    assert isinstance(await outcome(db.ledger.reserve(of_key(account, key, "r5", 451))), KeyBudgetSpent)
    await db.ledger.reserve(of_key(account, key, "r6", 450))
    assert await db.ledger.expire(now_us=NOW_US + 10**6 + 1, rows_max=10) == 2
    (row,) = await db.rows(schema.api_key)
    assert (row["spent"], row["pending"]) == (250, 0)
    assert (await db.ledger.audit()).ok


async def test_use_beyond_the_reservation_may_exceed_a_budget_once(db: Opened) -> None:
    account, key = await limited_key(db, budget=100)
    await db.ledger.reserve(of_key(account, key, "r1", 100))
    assert (await db.ledger.settle(used("r1", 130))).charged == 130
    refusal = await outcome(db.ledger.reserve(of_key(account, key, "r2", 1)))
    assert isinstance(refusal, KeyBudgetSpent)
    assert "this API key has 0 left" in refusal.message
    assert (await db.ledger.audit()).ok


async def test_a_key_without_a_budget_is_not_counted(db: Opened) -> None:
    account, key = await limited_key(db)
    await db.ledger.reserve(of_key(account, key, "r1", 100))
    await db.ledger.settle(used("r1", 50))
    (row,) = await db.rows(schema.api_key)
    assert (row["spent"], row["pending"]) == (0, 0)


async def test_a_key_that_has_expired_reserves_nothing_and_is_not_found(db: Opened) -> None:
    account, key = await limited_key(db, expires_at_us=NOW_US + 10, models=("demo",))
    caller = await db.accounts.find_caller(b"limited", now_us=NOW_US + 9)
    assert caller == Caller(api_key_id=key.id, account_id=account.id, models=("demo",))
    await db.ledger.reserve(of_key(account, key, "r1", 100, at_us=NOW_US + 9))
    assert await db.accounts.find_caller(b"limited", now_us=NOW_US + 10) is None
    late = db.ledger.reserve(of_key(account, key, "r2", 100, at_us=NOW_US + 10))
    assert isinstance(await outcome(late), InvalidApiKey)


async def test_the_use_of_each_hour_is_counted_with_the_charge(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10_000)
    hour = NOW_US // US_AN_HOUR
    for n, (total, at_us) in enumerate([(10, NOW_US), (2_000, NOW_US), (30, NOW_US + US_AN_HOUR)]):
        await db.ledger.reserve(new(f"r{n}", account.id, key.id, 1_000))
        await db.ledger.settle(msgspec.structs.replace(used(f"r{n}", total), resolved_at_us=at_us))
        await db.ledger.settle(used(f"r{n}", total))
    rows = await db.rows(schema.usage_hour)
    assert [(row["hour"], row["model"], row["requests"], row["charged"]) for row in rows] == [
        (hour, "demo", 2, 2_010),
        (hour + 1, "demo", 1, 30),
    ]
    assert (await db.ledger.audit()).ok
    await db.store.write(lambda tx: tx.execute(sa.text("UPDATE usage_hour SET charged = charged + 1")) and None)
    assert {difference.what for difference in (await db.ledger.audit()).differences} == {
        "the hourly use is not the sum of the usage entries"
    }


async def test_with_many_waiting_no_reservation_is_taken_and_every_one_that_was_can_end(db: Opened) -> None:
    account, key = await db.key("many@example.com", tokens=10**6)
    assert db.ledger.has_room()
    first = db.ledger.reserve(new("req_0", account.id, key.id, 10))
    await first
    taken = [
        db.ledger.reserve(new(f"req_{number}", account.id, key.id, 10))
        for number in range(1, RESERVATIONS_WAITING_MAX + 1)
    ]
    assert not db.ledger.has_room()
    with pytest.raises(Overloaded):
        db.ledger.reserve(new("req_too_many", account.id, key.id, 10))
    await db.ledger.release(Release(request_id="req_0", code="cancelled", dispatched=False, resolved_at_us=NOW_US))
    await asyncio.gather(*taken)
    assert db.ledger.has_room()
    assert (await db.accounts.get("many@example.com")).balance.pending == 10 * RESERVATIONS_WAITING_MAX


async def test_a_write_after_the_end_is_an_error_and_waits_for_nobody(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as opened:
        account, key = await opened.key("late@example.com", tokens=100)
    with pytest.raises(AccountingFailed):
        await opened.ledger.reserve(new("req_late", account.id, key.id, 10))
