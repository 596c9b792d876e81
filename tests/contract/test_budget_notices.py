"""The owner gets one email at 80 % and one at 100 % of a budget, in each period, whatever crashes or runs beside it."""

import asyncio

import msgspec
import pytest
import sqlalchemy as sa

from support.api_keys import create_key, edit_key
from support.ledgers import NOW_US, Opened, new, schema, used
from tok0n.adapters.sql.repositories.budget_notices import SqlBudgetNotices
from tok0n.domain.accounts import ApiKey, KeyLimits
from tok0n.domain.budgets import BudgetDraft, KeyBudget, ResetPeriod, periods_at
from tok0n.domain.ledger import MICROSECONDS_PER_DAY

pytestmark = pytest.mark.anyio

EMAIL = "a@x"


async def limited(db: Opened, *budgets: KeyBudget) -> ApiKey:
    await db.accounts.create(email=EMAIL, tokens=10_000, now_us=NOW_US)
    key, _ = await create_key(db.accounts, EMAIL, name="laptop", limits=KeyLimits(budgets=budgets))
    return key


async def spend(db: Opened, key: ApiKey, request_id: str, tokens: int, *, at_us: int = NOW_US) -> None:
    reservation = msgspec.structs.replace(
        new(request_id, key.account_id, key.id, tokens),
        created_at_us=at_us,
        periods=periods_at(key.limits.budgets, "standard", at_us),
        key_version=key.version,
    )
    await db.ledger.reserve(reservation)
    await db.ledger.settle(used(request_id, tokens))


async def due(notices: SqlBudgetNotices, *, now_us: int = NOW_US) -> list[tuple[str, str, str, int, int]]:
    found = await notices.claim_due(now_us=now_us, rows_max=100)
    return [(spent.email, spent.key_name, spent.budget.id, spent.spent, spent.percent) for spent in found]


async def test_each_share_is_reported_once_in_a_period(db: Opened) -> None:
    day = KeyBudget(id="bud_day", tokens=100, period=ResetPeriod.DAY)
    key = await limited(db, day, KeyBudget(id="bud_total", tokens=200))
    notices = SqlBudgetNotices(db.store)
    assert await due(notices) == []
    await spend(db, key, "r1", 79)
    assert await due(notices) == []
    await spend(db, key, "r2", 1)
    assert await due(notices) == [(EMAIL, "laptop", "bud_day", 80, 80)]
    await spend(db, key, "r3", 10)
    assert await due(notices) == []
    assert await due(SqlBudgetNotices(db.store)) == [], "a restarted process reports nothing again"
    await spend(db, key, "r4", 10)
    assert await due(notices) == [(EMAIL, "laptop", "bud_day", 100, 100)]
    tomorrow = NOW_US + MICROSECONDS_PER_DAY
    await spend(db, key, "r5", 100, at_us=tomorrow)
    assert await due(notices, now_us=tomorrow) == [
        (EMAIL, "laptop", "bud_day", 100, 100),
        (EMAIL, "laptop", "bud_total", 200, 100),
    ]


async def test_reservations_do_not_count(db: Opened) -> None:
    key = await limited(db, KeyBudget(id="bud_1", tokens=100))
    reservation = new("r1", key.account_id, key.id, 100)
    periods = periods_at(key.limits.budgets, "standard", NOW_US)
    await db.ledger.reserve(msgspec.structs.replace(reservation, periods=periods))
    assert await due(SqlBudgetNotices(db.store)) == []


async def test_processes_that_look_at_once_report_a_share_once(db: Opened) -> None:
    key = await limited(db, KeyBudget(id="bud_1", tokens=100))
    await spend(db, key, "r1", 90)
    found = await asyncio.gather(*(due(SqlBudgetNotices(db.store)) for _ in range(5)))
    assert [spent for of_process in found for spent in of_process] == [(EMAIL, "laptop", "bud_1", 90, 80)]


async def test_a_raised_budget_reports_again_only_what_is_new(db: Opened) -> None:
    key = await limited(db, KeyBudget(id="bud_1", tokens=100))
    notices = SqlBudgetNotices(db.store)
    await spend(db, key, "r1", 100)
    assert await due(notices) == [(EMAIL, "laptop", "bud_1", 100, 100)]
    key = await edit_key(db.accounts, key, budgets=(BudgetDraft(tokens=200),))
    await spend(db, key, "r2", 100)
    assert await due(notices) == []


@pytest.mark.parametrize("state", ["revoked", "suspended", "removed"])
async def test_nobody_is_told_of_a_budget_that_no_longer_limits(db: Opened, state: str) -> None:
    key = await limited(db, KeyBudget(id="bud_1", tokens=100))
    await spend(db, key, "r1", 90)
    if state == "revoked":
        await db.accounts.revoke_key(account_id=key.account_id, key_id=key.id, now_us=NOW_US)
    elif state == "removed":
        await edit_key(db.accounts, key, budgets=())
    else:
        suspend = sa.update(schema.account).values(status="suspended")
        await db.store.write(lambda tx: tx.execute(suspend) and None)
    assert await due(SqlBudgetNotices(db.store)) == []


async def test_a_bounded_number_is_reported_at_once_and_the_rest_next(db: Opened) -> None:
    key = await limited(db, *(KeyBudget(id=f"bud_{n}", tokens=10, token_class=None) for n in range(5)))
    await spend(db, key, "r1", 10)
    notices = SqlBudgetNotices(db.store)
    counts = [len(await notices.claim_due(now_us=NOW_US, rows_max=2)) for _ in range(4)]
    assert counts == [2, 2, 1, 0]
