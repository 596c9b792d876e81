"""What an account looks back on, whatever database is behind it; and that the sum of any plot is the ledger's."""

import random
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sqlalchemy as sa

from support.api_keys import budget, create_key
from support.ledgers import NOW_US, Opened, new, released, used
from support.rollups import roll_up
from support.spending import fail, reserve, spend
from tok0n.adapters.sql.repositories import activity
from tok0n.adapters.sql.repositories.daily_use import ADD_UP_DELAY_US
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.repositories.statement import SqlStatements
from tok0n.adapters.sql.schema import budget_period, ledger_entry
from tok0n.domain.accounts import KeyLimits
from tok0n.domain.budgets import ResetPeriod
from tok0n.domain.errors import NotFound
from tok0n.domain.history import RequestFilter, UseBy, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_QUARTER_HOUR, RequestStatus
from tok0n.web.rendering.charts import BarPeriod, plot, use_values

pytestmark = pytest.mark.anyio

ALL = RequestFilter()
DAYS = 20


async def test_requests_page_newest_first_and_by_any_filter(db: Opened) -> None:
    history = SqlHistory(db.store)
    account, key = await db.key("a@x", tokens=10_000)
    other = await db.accounts.create_key(
        account_id=account.id, name="b", digest=b"2", prefix="p", last_four="0", now_us=NOW_US
    )
    made = []
    for second in range(6):
        at_us = NOW_US + second * 1_000_000
        key_id = other.id if second % 2 else key.id
        model = "rare" if second == 3 else "demo"
        made.append(await spend(db, account_id=account.id, key_id=key_id, tokens=5, model=model, at_us=at_us))
    failed = await fail(db, account_id=account.id, key_id=key.id, tokens=5, at_us=NOW_US + 10_000_000)
    pending = await reserve(db, account_id=account.id, key_id=key.id, tokens=5, model="demo", at_us=NOW_US + 11_000_000)

    async def found(chosen: RequestFilter) -> list[str]:
        return [row.id for row in await history.requests(account.id, chosen, before=None, rows_max=100)]

    assert await found(ALL) == [pending, failed, *reversed(made)]
    page = await history.requests(account.id, ALL, before=made[3], rows_max=2)
    assert [row.id for row in page] == [made[2], made[1]]
    assert await found(RequestFilter(model="rare")) == [made[3]]
    assert await found(RequestFilter(api_key_id=other.id)) == [made[5], made[3], made[1]]
    assert await found(RequestFilter(status=RequestStatus.RELEASED)) == [failed]
    assert await found(RequestFilter(status=RequestStatus.PENDING)) == [pending]
    assert await found(RequestFilter(status=RequestStatus.SETTLED)) == made[::-1]
    window = RequestFilter(since_us=NOW_US + 2_000_000, until_us=NOW_US + 4_000_000)
    assert await found(window) == [made[3], made[2]]


async def test_nobody_reads_anothers(db: Opened) -> None:
    history = SqlHistory(db.store)
    mine, my_key = await db.key("a@x", tokens=100)
    other, _ = await db.key("b@x", tokens=100)
    request_id = await spend(db, account_id=mine.id, key_id=my_key.id, tokens=5)
    with pytest.raises(NotFound):
        await history.request(other.id, request_id)
    with pytest.raises(NotFound):
        await history.key(other.id, my_key.id)
    with pytest.raises(NotFound):
        await history.budget_uses(other.id, my_key.id, now_us=NOW_US)
    assert await history.caller(other.id, my_key.id) is None
    assert await history.requests(other.id, ALL, before=None, rows_max=10) == []
    assert await history.buckets(other.id, UseFilter(until_quarter=1_000_000), by=UseBy.MODEL, starts=[0]) == []
    assert await history.models_used(other.id) == []
    assert (await history.totals(other.id, UseFilter())).charged == 0


def _before_a_time_change(zone: str) -> int:
    """Return the start of a UTC day that is a few days before a time change, if the zone has any."""
    for day in range(NOW_US // MICROSECONDS_PER_DAY + 5, NOW_US // MICROSECONDS_PER_DAY + 370):
        midnight = datetime.fromtimestamp(day * 86_400, ZoneInfo(zone))
        if midnight.utcoffset() != datetime.fromtimestamp((day + 1) * 86_400, ZoneInfo(zone)).utcoffset():
            return (day - 4) * MICROSECONDS_PER_DAY
    return NOW_US // MICROSECONDS_PER_DAY * MICROSECONDS_PER_DAY


@pytest.mark.parametrize(
    ("zone", "rolled_up_days"),
    [
        ("UTC", 0),
        ("UTC", 10),
        ("UTC", DAYS + 2),
        ("Europe/Berlin", 10),
        ("Asia/Kolkata", DAYS + 2),
        ("Asia/Kathmandu", 0),
        ("America/St_Johns", DAYS + 2),
        ("Pacific/Chatham", 10),
    ],
)
async def test_the_sum_of_any_plot_is_the_sum_of_the_ledgers_usage(db: Opened, zone: str, rolled_up_days: int) -> None:
    history = SqlHistory(db.store)
    account, key = await db.key("a@x", tokens=10**9)
    dice = random.Random(zone)
    start_us = _before_a_time_change(zone) + 3 * MICROSECONDS_PER_QUARTER_HOUR
    for _ in range(60):
        at_us = start_us + dice.randrange(DAYS * MICROSECONDS_PER_DAY)
        model = f"model-{dice.randrange(8)}"
        await spend(db, account_id=account.id, key_id=key.id, tokens=dice.randrange(1, 900), model=model, at_us=at_us)
    await roll_up(db, now_us=start_us + rolled_up_days * MICROSECONDS_PER_DAY + ADD_UP_DELAY_US)
    entries = ledger_entry.c
    usage = sa.select(entries.created_at_us, -entries.amount).where(entries.kind == "usage")
    charges = await db.store.read(lambda tx: [tuple(row) for row in tx.execute(usage)])

    def charged_between(since_us: int, until_us: int) -> int:
        return sum(tokens for at_us, tokens in charges if since_us <= at_us < until_us)

    first = start_us // MICROSECONDS_PER_QUARTER_HOUR
    for length in (1, 4 * 24, 4 * 72, 4 * 72 + 1, 7 * 96, DAYS * 96 + 1):
        for by in UseBy:
            chosen = UseFilter(since_quarter=first, until_quarter=first + length)
            bars = BarPeriod(since_quarter=first, until_quarter=first + length, zone=ZoneInfo(zone), now_us=0)
            chart = plot(
                use_values(await history.buckets(account.id, chosen, by=by, starts=bars.starts)),
                {},
                period=bars,
                link="/?",
            )
            charged = charged_between(
                first * MICROSECONDS_PER_QUARTER_HOUR, (first + length) * MICROSECONDS_PER_QUARTER_HOUR
            )
            assert chart.total == charged
            assert sum(chart.totals) == charged
            totals = await history.totals(account.id, chosen)
            assert totals.charged == charged
            rows = await history.use_rows(account.id, chosen, starts=bars.starts)
            assert sum(row.totals.charged for row in rows) == charged
            assert sum(row.totals.requests for row in rows) == totals.requests
            for bucket in chart.buckets:
                since_us, until_us = (round(edge.timestamp()) * 10**6 for edge in (bucket.since, bucket.until))
                assert bucket.total == charged_between(since_us, until_us)
            is_day = length > 4 * 72
            for bucket in chart.buckets[1:]:
                assert bucket.since.minute == 0
                assert bucket.since.hour == 0 or not is_day
            edges_utc = [bucket.since.astimezone(UTC) for bucket in chart.buckets]
            assert edges_utc == sorted(set(edges_utc))
            assert edges_utc[0].timestamp() == first * 900
            assert chart.buckets[-1].until.timestamp() == (first + length) * 900


async def test_the_statement_adds_up(db: Opened) -> None:
    history = SqlHistory(db.store)
    account, key = await db.key("a@x", tokens=1_000)
    for tokens in (10, 20, 30):
        await spend(db, account_id=account.id, key_id=key.id, tokens=tokens)
    statements = SqlStatements(db.store)
    entries = await statements.entries(account.id, rows_max=10)
    assert [entry.amount for entry in entries] == [-30, -20, -10, 1_000]
    assert [entry.posted_after for entry in entries] == [940, 970, 990, 1_000]
    assert sum(entry.amount for entry in entries) == (await history.balance(account.id)).posted
    assert [e.amount for e in await statements.entries(account.id, before=entries[1].id, rows_max=1)] == [-10]


@pytest.mark.parametrize(
    ("end", "ended"),
    [
        ({"first_event_ms": 120}, "completed"),
        ({"first_event_ms": 120, "client_left": True}, "client_left"),
        ({"first_event_ms": 120, "client_left": True, "total": 900}, "client_left"),
        ({"released": 80}, "upstream_error"),
        ({"released": None}, "upstream_error"),
        ({"expired": True}, "expired"),
        ({}, None),
    ],
)
async def test_the_receipt_of_a_stream_says_how_it_ended(db: Opened, end: dict[str, Any], ended: str | None) -> None:
    account, key = await db.key("a@x", tokens=600)
    reservation = msgspec.structs.replace(new("req_1", account.id, key.id, 500), is_stream=True)
    await db.ledger.reserve(reservation)
    first_event_ms = end.get("first_event_ms")
    if first_event_ms is not None:
        settlement = used("req_1", end.get("total", 30))
        client_left = end.get("client_left", False)
        settlement = msgspec.structs.replace(settlement, first_event_ms=first_event_ms, client_left=client_left)
        await db.ledger.settle(settlement)
        await db.ledger.settle(msgspec.structs.replace(settlement, first_event_ms=1, client_left=not client_left))
    elif "released" in end:
        first_event_ms = end["released"]
        await db.ledger.release(msgspec.structs.replace(released("req_1"), first_event_ms=first_event_ms))
    elif end:
        await db.ledger.recover(now_us=NOW_US)
    record = await SqlHistory(db.store).request(account.id, "req_1")
    assert (record.is_stream, record.first_event_ms, record.stream_end) == (True, first_event_ms, ended)
    assert (await db.ledger.audit()).ok


async def test_the_receipt_of_a_whole_answer_says_nothing_of_a_stream(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=600)
    await db.ledger.reserve(new("req_1", account.id, key.id, 500))
    await db.ledger.settle(used("req_1", 30))
    record = await SqlHistory(db.store).request(account.id, "req_1")
    assert (record.is_stream, record.first_event_ms, record.stream_end) == (False, None, None)


async def test_changes_are_numbered_in_each_account_and_reveal_none_of_others(db: Opened) -> None:
    history = SqlHistory(db.store)
    accounts = [(await db.key(email, tokens=0))[0].id for email in ("a@x", "b@x")]
    for number in range(9):
        account_id = accounts[number % 3 == 0]
        await db.store.write(
            lambda tx, account_id=account_id, number=number: activity.append(  # type: ignore[misc]
                tx,
                account_id=account_id,
                api_key_id=None,
                action="key_edited",
                actor="x",
                before={},
                after={"name": str(number)},
                now_us=NOW_US,
            )
        )

    async def names(before: int | None, rows_max: int) -> list[tuple[int, str]]:
        rows = await history.activity(accounts[0], before=before, rows_max=rows_max)
        return [(row.id, row.after["name"]) for row in rows]

    made = [(number, name) for number, name in enumerate(["test", *"124578"], 1)]
    assert await names(None, 100) == made[::-1]
    assert await names(None, 2) == made[:-3:-1]
    assert await names(5, 2) == [made[3], made[2]]
    assert await names(2, 9) == [made[0]]
    assert await names(1, 9) == await names(0, 9) == []
    assert await names(10**17, 1) == [made[-1]]
    assert [row.id for row in await history.activity(accounts[1], before=None, rows_max=9)] == [4, 3, 2, 1]


async def test_a_budget_shows_the_use_of_its_own_current_period(db: Opened) -> None:
    history = SqlHistory(db.store)
    daily, total = budget(100, ResetPeriod.DAY), budget(100)
    account, _ = await db.key("a@x", tokens=100)
    keys = [(await create_key(db.accounts, "a@x", limits=KeyLimits(budgets=(each,))))[0] for each in (daily, total)]
    today_us = NOW_US // MICROSECONDS_PER_DAY * MICROSECONDS_PER_DAY
    rows = [(daily, today_us, 5), (daily, today_us - MICROSECONDS_PER_DAY, 6), (total, 0, 7), (total, today_us, 8)]
    values = [
        {"budget_id": each.id, "starts_at_us": starts_at_us, "ends_at_us": 2**60, "spent": spent, "pending": 1}
        for each, starts_at_us, spent in rows
    ]
    await db.store.write(lambda tx: tx.execute(sa.insert(budget_period), values) and None)
    uses = await history.all_budget_uses(account.id, now_us=NOW_US)
    assert {id_: [(use.budget, use.spent, use.pending) for use in of_key] for id_, of_key in uses.items()} == {
        keys[0].id: [(daily, 5, 1)],
        keys[1].id: [(total, 7, 1)],
    }
    assert await history.budget_uses(account.id, keys[0].id, now_us=NOW_US) == uses[keys[0].id]
