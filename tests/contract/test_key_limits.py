"""Which API keys may reserve: active ones of an open account, within their budget and before they expire."""

from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support.ledgers import NOW_US, Opened, balance, new, outcome, released, schema, used
from tok0n.domain.accounts import Account, ApiKey, Caller, KeyLimits
from tok0n.domain.budgets import KeyBudget, periods_at
from tok0n.domain.errors import (
    InvalidApiKey,
    KeyBudgetSpent,
)
from tok0n.domain.ledger import Balance, NewReservation

pytestmark = pytest.mark.anyio


async def test_a_revoked_key_cannot_reserve_again(db: Opened) -> None:
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
    assert await db.callers.find(b"a@x", now_us=NOW_US) is None


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
    periods = periods_at(key.limits.budgets, "standard", at_us)
    return msgspec.structs.replace(reservation, created_at_us=at_us, periods=periods, key_version=key.version)


async def test_a_key_spends_no_more_than_its_budget(db: Opened) -> None:
    account, key = await limited_key(db, budgets=(KeyBudget(id="total", tokens=1_000),))
    racing = [db.ledger.reserve(of_key(account, key, f"r{n}", 300)) for n in range(5)]
    results = [await outcome(future) for future in racing]
    assert [type(result) for result in results] == [Balance] * 3 + [KeyBudgetSpent] * 2
    assert "this API key has 100 left" in results[3].message
    await db.ledger.settle(used("r0", 250))
    await db.ledger.release(released("r1"))
    assert isinstance(await outcome(db.ledger.reserve(of_key(account, key, "r5", 451))), KeyBudgetSpent)
    await db.ledger.reserve(of_key(account, key, "r6", 450))
    assert await db.ledger.expire(now_us=NOW_US + 10**6 + 1, rows_max=10) == 2
    (row,) = await db.rows(schema.budget_period)
    assert (row["spent"], row["pending"]) == (250, 0)
    assert (await db.ledger.audit()).ok


async def test_use_beyond_the_reservation_may_exceed_a_budget_once(db: Opened) -> None:
    account, key = await limited_key(db, budgets=(KeyBudget(id="total", tokens=100),))
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
    assert await db.rows(schema.budget_period) == []


async def test_a_key_that_has_expired_reserves_nothing_and_is_not_found(db: Opened) -> None:
    account, key = await limited_key(db, expires_at_us=NOW_US + 10, models=("demo",))
    caller = await db.callers.find(b"limited", now_us=NOW_US + 9)
    assert caller == Caller(api_key_id=key.id, account_id=account.id, models=("demo",), expires_at_us=NOW_US + 10)
    await db.ledger.reserve(of_key(account, key, "r1", 100, at_us=NOW_US + 9))
    assert await db.callers.find(b"limited", now_us=NOW_US + 10) is None
    late = db.ledger.reserve(of_key(account, key, "r2", 100, at_us=NOW_US + 10))
    assert isinstance(await outcome(late), InvalidApiKey)
