"""The daily use is the sum of its quarter hours, whenever the periodic task stops, and no query counts one twice."""

import asyncio
import itertools
import random
import re
from collections import Counter
from collections.abc import Callable

import pytest
import sqlalchemy as sa

from support.ledgers import NOW_US, Opened
from support.rollups import roll_up
from support.spending import spend
from tok0n.adapters.sql import audit_use, schema
from tok0n.adapters.sql.repositories.daily_use import ADD_UP_DELAY_US, SqlDailyUse
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.repositories.span_rows import LONG_LENGTHS
from tok0n.domain.history import RequestFilter, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_QUARTER_HOUR, RequestStatus

pytestmark = pytest.mark.anyio

DAYS = 5
ACCOUNTS = 3
REQUESTS = 40
SEARCHES = 120
MODELS = ("often", "seldom")
AFTER_US = NOW_US + (DAYS + 1) * MICROSECONDS_PER_DAY + ADD_UP_DELAY_US


@pytest.fixture
async def keys(db: Opened) -> list[tuple[str, str]]:
    """Accounts and their keys, which have made requests on some days."""
    made = [await db.key(f"{number}@x", tokens=10**6) for number in range(ACCOUNTS)]
    dice = random.Random(1)
    for number in range(REQUESTS):
        account, key = made[number % ACCOUNTS]
        at_us = NOW_US + dice.randrange(DAYS * 96) * MICROSECONDS_PER_QUARTER_HOUR
        await spend(db, account_id=account.id, key_id=key.id, tokens=5, model=MODELS[number % 7 == 0], at_us=at_us)
    return [(account.id, key.id) for account, key in made]


async def test_every_step_leaves_the_sums_as_they_were(db: Opened, keys: list[tuple[str, str]]) -> None:
    history, daily_use = SqlHistory(db.store), SqlDailyUse(db.store)
    first = NOW_US // MICROSECONDS_PER_QUARTER_HOUR
    period = UseFilter(since_quarter=first + 7 * 4 + 1, until_quarter=first + 77 * 4 + 3, model="often")

    async def sums() -> list[object]:
        return [
            (
                await history.totals(account_id, UseFilter()),
                await history.totals(account_id, period),
                await history.totals(account_id, UseFilter(api_key_id=key_id)),
                await history.models_used(account_id),
            )
            for account_id, key_id in keys
        ]

    expected = await sums()
    while await daily_use.roll_up(now_us=AFTER_US, accounts_max=1):
        assert await sums() == expected
        assert (await db.ledger.audit()).ok
    assert await sums() == expected
    quarters, rolled_up = await db.rows(schema.usage_quarter), await db.rows(schema.usage_span)
    for length in LONG_LENGTHS:
        rows = [row for row in rolled_up if row["span_quarters"] == length]
        assert sum(row["charged"] for row in rows) == 5 * REQUESTS
        assert {row["quarter"] for row in rows} == {row["quarter"] // length * length for row in quarters}


async def test_a_day_is_added_up_only_when_no_settlement_can_change_it(db: Opened, keys: list[tuple[str, str]]) -> None:
    del keys
    today = NOW_US // MICROSECONDS_PER_DAY + 2
    await roll_up(db, now_us=today * MICROSECONDS_PER_DAY + ADD_UP_DELAY_US - 1)
    assert {row["quarter"] // 96 for row in await db.rows(schema.usage_span)} <= {today - 2, today - 1}
    assert await db.rows(schema.usage_rollup) == [{"day": today - 1, "account_id": ""}]


async def test_many_processes_add_up_each_day_once(db: Opened, keys: list[tuple[str, str]]) -> None:
    del keys
    await asyncio.gather(*(roll_up(db, now_us=AFTER_US, accounts_max=1) for _ in range(4)))
    assert sum(row["charged"] for row in await db.rows(schema.usage_span)) == len(LONG_LENGTHS) * 5 * REQUESTS
    assert (await db.ledger.audit()).ok


async def test_a_clock_that_was_ahead_loses_no_use(db: Opened, keys: list[tuple[str, str]]) -> None:
    account_id, key_id = keys[0]
    history = SqlHistory(db.store)
    before = (await history.totals(account_id, UseFilter())).charged
    await roll_up(db, now_us=AFTER_US + 30 * MICROSECONDS_PER_DAY)
    await roll_up(db, now_us=NOW_US + MICROSECONDS_PER_DAY)
    await spend(db, account_id=account_id, key_id=key_id, tokens=9, at_us=NOW_US + MICROSECONDS_PER_DAY)
    assert (await history.totals(account_id, UseFilter())).charged == before + 9
    await roll_up(db, now_us=AFTER_US)
    assert (await history.totals(account_id, UseFilter())).charged == before + 9
    assert (await db.ledger.audit()).ok


SPAN = "account_id = :account_id AND span_quarters = :length AND quarter = :quarter"
COLUMNS = "span_quarters, {quarter}, api_key_id, model, requests, prompt_tokens, completion_tokens, charged"
NEVER = 96 * 1_000

Sums = dict[tuple[str, int], tuple[int, int]]
"""The correct and the stored sum of each wrong span, by its account and its first quarter hour."""


def too_high(account_id: str, quarter: int, charged: int) -> tuple[str, Sums]:
    return f"UPDATE usage_span SET charged = charged + 1 WHERE {SPAN}", {(account_id, quarter): (charged, charged + 1)}


def missing(account_id: str, quarter: int, charged: int) -> tuple[str, Sums]:
    return f"DELETE FROM usage_span WHERE {SPAN}", {(account_id, quarter): (charged, 0)}


def surplus(account_id: str, quarter: int, charged: int) -> tuple[str, Sums]:
    columns = COLUMNS.format(quarter="quarter")
    values = COLUMNS.format(quarter=NEVER)
    statement = (
        f"INSERT INTO usage_span (account_id, {columns}) SELECT account_id, {values} FROM usage_span WHERE {SPAN}"
    )
    return statement, {(account_id, NEVER): (0, charged)}


def moved(account_id: str, quarter: int, charged: int) -> tuple[str, Sums]:
    statement = f"UPDATE usage_span SET quarter = quarter + 1 WHERE {SPAN}"
    return statement, {(account_id, quarter): (charged, 0), (account_id, quarter + 1): (0, charged)}


@pytest.mark.parametrize("length", LONG_LENGTHS)
@pytest.mark.parametrize("damage", [too_high, missing, surplus, moved])
async def test_the_audit_finds_a_wrong_span(
    db: Opened,
    keys: list[tuple[str, str]],
    damage: Callable[[str, int, int], tuple[str, Sums]],
    length: int,
) -> None:
    await roll_up(db, now_us=AFTER_US)
    account_id, _ = keys[1]
    quarter, charged = (await single_spans(db, account_id, length))[0]
    statement, wrong = damage(account_id, quarter, charged)
    await execute(db, statement, account_id=account_id, length=length, quarter=quarter)
    assert await wrong_spans(db, length) == wrong


@pytest.mark.parametrize("length", LONG_LENGTHS)
async def test_the_audit_finds_two_wrong_spans_whose_sum_is_correct(
    db: Opened, keys: list[tuple[str, str]], length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit_use, "ENTRIES_PER_QUERY", 1)  # a query for each account
    await roll_up(db, now_us=AFTER_US)
    account_id, _ = keys[1]
    wrong = {}
    for (quarter, charged), error in zip(await single_spans(db, account_id, length), (2, -2), strict=False):
        statement = f"UPDATE usage_span SET charged = charged + {error} WHERE {SPAN}"
        await execute(db, statement, account_id=account_id, length=length, quarter=quarter)
        wrong[account_id, quarter] = (charged, charged + error)
    assert len(wrong) == 2
    assert await wrong_spans(db, length) == wrong


async def test_the_audit_finds_a_missing_quarter_hour(db: Opened, keys: list[tuple[str, str]]) -> None:
    await roll_up(db, now_us=AFTER_US)
    account_id, _ = keys[1]
    row = next(row for row in await db.rows(schema.usage_quarter) if row["account_id"] == account_id)
    statement = "DELETE FROM usage_quarter WHERE account_id = :account_id AND quarter = :quarter AND model = :model"
    await execute(db, statement, account_id=account_id, quarter=row["quarter"], model=row["model"])
    found = [(found.subject, found.what) for found in (await db.ledger.audit()).differences]
    whats = [
        f"the stored use of the {length} quarter hours from {row['quarter'] // length * length} is not their sum"
        for length in LONG_LENGTHS
    ]
    whats.append("the use of all quarter hours is not the sum of the usage entries")
    assert sorted(found) == sorted((account_id, what) for what in whats)


async def single_spans(db: Opened, account_id: str, length: int) -> list[tuple[int, int]]:
    """Return the first quarter hour and the charge of the spans of an account that have a single row."""
    rows = [row for row in await db.rows(schema.usage_span) if row["account_id"] == account_id]
    counts = Counter((row["span_quarters"], row["quarter"]) for row in rows)
    of_length = [row for row in rows if row["span_quarters"] == length and counts[length, row["quarter"]] == 1]
    return [(row["quarter"], row["charged"]) for row in of_length]


async def wrong_spans(db: Opened, length: int) -> Sums:
    wrong: Sums = {}
    for found in (await db.ledger.audit()).differences:
        match = re.fullmatch(rf"the stored use of the {length} quarter hours from (\d+) is not their sum", found.what)
        assert match is not None, found
        wrong[found.subject, int(match[1])] = (found.expected or 0, found.found or 0)
    return wrong


async def execute(db: Opened, statement: str, **values: object) -> None:
    await db.store.write(lambda tx: tx.execute(sa.text(statement), values) and None)


@pytest.mark.parametrize("rolled_up_days", [0, 3, DAYS])
async def test_every_search_finds_the_same_requests(
    db: Opened, keys: list[tuple[str, str]], rolled_up_days: int
) -> None:
    await roll_up(db, now_us=NOW_US + rolled_up_days * MICROSECONDS_PER_DAY + ADD_UP_DELAY_US)
    history = SqlHistory(db.store)
    account_id, key_id = keys[0]
    everything = await history.requests(account_id, RequestFilter(), before=None, rows_max=REQUESTS)
    middle = everything[len(everything) // 2]
    hour = MICROSECONDS_PER_DAY // 24
    searches = itertools.product(
        (None, *MODELS, "never"),
        (None, key_id),
        (None, NOW_US + 20 * hour, middle.created_at_us),
        (None, NOW_US + 70 * hour, middle.created_at_us),
        (None, middle.id, "garbage"),
        (3, REQUESTS),
    )
    dice = random.Random(rolled_up_days)
    for model, key, since_us, until_us, before, rows_max in dice.sample(list(searches), SEARCHES):
        filters = RequestFilter(
            since_us=since_us, until_us=until_us, model=model, api_key_id=key, status=RequestStatus.SETTLED
        )
        found = await history.requests(account_id, filters, before=before, rows_max=rows_max)
        expected = [
            row.id
            for row in everything
            if (model is None or row.model == model)
            and (since_us is None or row.created_at_us >= since_us)
            and (until_us is None or row.created_at_us < until_us)
            and (before is None or row.id < before)
        ]
        assert [row.id for row in found] == expected[:rows_max]
