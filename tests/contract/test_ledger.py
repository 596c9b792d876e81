"""What every ledger promises, whatever database is behind it: reserve, settle, release, expire."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from support.ledgers import NOW_US, Opened, balance, new, open_engine, outcome, released, schema, used
from tok0n.adapters.batcher import RESERVATIONS_WAITING_MAX
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import (
    AccountingFailed,
    AlreadyResolved,
    InsufficientTokens,
    NotFound,
    Overloaded,
)
from tok0n.domain.ledger import Balance, Receipt, Release

pytestmark = pytest.mark.anyio


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


async def test_settlements_in_one_commit_do_not_affect_each_other(db: Opened) -> None:
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


async def test_two_racing_requests_cannot_spend_the_same_tokens(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    racing = [db.ledger.reserve(new(f"r{i}", account.id, key.id, 450)) for i in range(200)]
    results = [await outcome(future) for future in racing]
    assert sum(isinstance(result, Balance) for result in results) == 2
    assert sum(isinstance(result, InsufficientTokens) for result in results) == 198
    assert await balance(db) == Balance(posted=1000, pending=900)
    assert (await db.ledger.audit()).ok


async def test_a_rejection_names_the_tokens_required_and_available(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 700))
    refusal = await outcome(db.ledger.reserve(new("r2", account.id, key.id, 301)))
    assert isinstance(refusal, InsufficientTokens)
    assert (refusal.required, refusal.posted, refusal.pending, refusal.available) == (301, 1000, 700, 300)
    assert refusal.may_fit_later


async def test_use_beyond_the_reservation_is_charged_to_the_available_tokens(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 300))
    receipt = await db.ledger.settle(used("r1", 450))
    assert (receipt.charged, receipt.shortfall, receipt.balance) == (450, 0, Balance(posted=550, pending=0))


async def test_use_beyond_the_balance_is_a_shortfall_and_never_a_debt(db: Opened) -> None:
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


async def test_a_reservation_that_ended_one_way_cannot_end_another_way(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 10))
    await db.ledger.settle(used("r1", 10))
    assert isinstance(await outcome(db.ledger.release(released("r1"))), AlreadyResolved)
    await db.ledger.reserve(new("r2", account.id, key.id, 10))
    await db.ledger.release(released("r2"))
    assert isinstance(await outcome(db.ledger.settle(used("r2", 10))), AlreadyResolved)
    assert isinstance(await outcome(db.ledger.settle(used("unknown", 10))), AlreadyResolved)
    assert await balance(db) == Balance(posted=990, pending=0)


async def test_only_overdue_reservations_expire_and_they_cost_nothing(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("r1", account.id, key.id, 10, expires_in_us=100))
    await db.ledger.reserve(new("r2", account.id, key.id, 20, expires_in_us=200))
    assert await db.ledger.expire(now_us=NOW_US + 100, rows_max=10) == 0
    assert await db.ledger.expire(now_us=NOW_US + 101, rows_max=10) == 1
    assert await balance(db) == Balance(posted=1000, pending=20)
    assert isinstance(await outcome(db.ledger.settle(used("r1", 10))), AlreadyResolved)
    assert await db.ledger.recover(now_us=NOW_US) == 1
    assert await balance(db) == Balance(posted=1000, pending=0)


async def test_a_sweep_expires_a_bounded_number_of_rows(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    for i in range(5):
        await db.ledger.reserve(new(f"r{i}", account.id, key.id, 10, expires_in_us=i))
    assert await db.ledger.expire(now_us=NOW_US + 100, rows_max=3) == 3
    assert await db.ledger.expire(now_us=NOW_US + 100, rows_max=3) == 2


async def test_a_failing_command_does_not_affect_the_others_of_its_commit(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1000)
    await db.ledger.reserve(new("same", account.id, key.id, 10))
    futures = [db.ledger.reserve(new(name, account.id, key.id, 10)) for name in ("r1", "same", "r2")]
    first, second, third = [await outcome(future) for future in futures]
    assert isinstance(first, Balance)
    assert isinstance(second, AccountingFailed)
    assert isinstance(third, Balance)
    assert await balance(db) == Balance(posted=1000, pending=30)


async def test_concurrent_reversals_give_a_charge_back_once(db: Opened) -> None:
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


async def test_recent_requests_come_oldest_first_and_say_whether_they_were_dispatched(db: Opened) -> None:
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


async def test_an_account_cannot_own_more_tokens_than_json_can_carry(db: Opened) -> None:
    await db.key("a@x", tokens=2**53)
    refused = await outcome(
        asyncio.ensure_future(db.accounts.grant(email="a@x", tokens=1, reason="one more", now_us=NOW_US))
    )
    assert "at most" in str(refused)
    assert (await balance(db)).posted == 2**53
    with pytest.raises(NotFound):
        await db.accounts.grant(email="nobody@x", tokens=1, reason="none", now_us=NOW_US)


async def test_a_full_queue_rejects_reservations_but_still_ends_them(db: Opened) -> None:
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


async def test_a_reservation_on_a_closed_ledger_fails_at_once(tmp_path: Path) -> None:
    async with open_engine("sqlite", tmp_path) as opened:
        account, key = await opened.key("late@example.com", tokens=100)
    with pytest.raises(AccountingFailed):
        await opened.ledger.reserve(new("req_late", account.id, key.id, 10))
