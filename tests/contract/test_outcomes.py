"""The latency and the errors of any period equal those of its requests, however far the roll-up got."""

import asyncio
import contextlib
import dataclasses
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pytest
import sqlalchemy as sa

from support.ledgers import NOW_US, Opened, new
from support.rollups import roll_up_outcomes
from support.spending import reserve
from tok0n.adapters.sql.repositories import outcomes as newest
from tok0n.adapters.sql.repositories.outcome_rollup import COUNT_DELAY_US, SqlOutcomeRollup
from tok0n.adapters.sql.repositories.outcomes import SqlOutcomes
from tok0n.adapters.sql.repositories.rejections import SqlRejectedRequests
from tok0n.adapters.sql.repositories.span_rows import LENGTHS
from tok0n.adapters.sql.schema import outcome_rollup, request_outcome
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain import ids, latency
from tok0n.domain.history import UseBy, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_QUARTER_HOUR, Release, Settlement
from tok0n.domain.rejections import RejectionCount, RejectionTotal
from tok0n.domain.usage import Usage
from tok0n.web.rendering.charts import BarPeriod

pytestmark = pytest.mark.anyio

START_US = NOW_US // MICROSECONDS_PER_DAY * MICROSECONDS_PER_DAY
DAYS = 4
T = TypeVar("T")
END_US = START_US + DAYS * MICROSECONDS_PER_DAY
ZONES = ("UTC", "Asia/Kolkata", "America/New_York")


class Stopped(Exception):
    """The process died before this transaction."""


class OneWrite:
    """A database of a process that dies before its second transaction."""

    def __init__(self, store: SqlStore) -> None:
        self.read = store.read
        self.probe, self.migrate, self.aclose = store.probe, store.migrate, store.aclose
        self._write = store.write
        self._is_first = True

    async def write(self, fn: Callable[[sa.Connection], T]) -> T:
        if not self._is_first:
            raise Stopped
        self._is_first = False
        return await self._write(fn)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ended:
    """A request that ended: with a latency, or without one if it failed."""

    at_us: int
    key_id: str
    model: str
    latency_ms: int | None


async def end(db: Opened, account_id: str, ended: Ended) -> None:
    request_id = await reserve(
        db, account_id=account_id, key_id=ended.key_id, tokens=9, model=ended.model, at_us=ended.at_us
    )
    late_us = ended.at_us + 1_000_000
    if ended.latency_ms is None:
        await db.ledger.release(Release(request_id=request_id, code="timeout", dispatched=True, resolved_at_us=late_us))
        return
    usage = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    await db.ledger.settle(
        Settlement(request_id=request_id, usage=usage, resolved_at_us=late_us, upstream_ms=ended.latency_ms)
    )


async def fill(db: Opened, account_id: str, key_ids: list[str], *, requests: int = 120) -> list[Ended]:
    dice = random.Random(3)
    found = []
    for _ in range(requests):
        ended = Ended(
            at_us=dice.randrange(START_US, END_US),
            key_id=dice.choice(key_ids),
            model=dice.choice(("demo", "rare")),
            latency_ms=dice.choice((None, dice.randrange(10), dice.randrange(90_000))),
        )
        await end(db, account_id, ended)
        found.append(ended)
    return found


async def add_keys(db: Opened, account_id: str, *, count: int = 3) -> list[str]:
    keys = [
        await db.accounts.create_key(
            account_id=account_id, name="k", digest=bytes([n]) * 8, prefix="tk0n_", last_four="0000", now_us=NOW_US
        )
        for n in range(count)
    ]
    return [key.id for key in keys]


def some_periods() -> Iterator[tuple[UseFilter, list[int]]]:
    """Periods that start and end anywhere, in hours and in days of several time zones."""
    dice = random.Random(4)
    first, last = START_US // MICROSECONDS_PER_QUARTER_HOUR, END_US // MICROSECONDS_PER_QUARTER_HOUR
    for zone in ZONES:
        for _ in range(2):
            since, until = sorted(dice.sample(range(first, last + 1), 2))
            bars = BarPeriod(since_quarter=since, until_quarter=until, zone=ZoneInfo(zone), now_us=0)
            model = dice.choice((None, "demo"))
            yield UseFilter(since_quarter=since, until_quarter=until, model=model), bars.starts


WHOLE = (
    UseFilter(
        since_quarter=START_US // MICROSECONDS_PER_QUARTER_HOUR, until_quarter=END_US // MICROSECONDS_PER_QUARTER_HOUR
    ),
    [*range(START_US // MICROSECONDS_PER_QUARTER_HOUR, END_US // MICROSECONDS_PER_QUARTER_HOUR, 96)],
)


async def require_equal(
    db: Opened, account_id: str, requests: list[Ended], *, periods: Iterable[tuple[UseFilter, list[int]]] = (WHOLE,)
) -> None:
    outcomes = SqlOutcomes(db.store)
    for filters, starts in periods:
        for by in UseBy:
            expected: dict[tuple[int, str], Counter[int]] = {}
            failed = Counter[tuple[int, str]]()
            for ended in requests:
                quarter = ended.at_us // MICROSECONDS_PER_QUARTER_HOUR
                if not starts[0] <= quarter < (filters.until_quarter or 0) or filters.model not in {None, ended.model}:
                    continue
                start = max(start for start in starts if start <= quarter)
                series = start, ended.model if by is UseBy.MODEL else ended.key_id
                if ended.latency_ms is None:
                    failed[series] += 1
                else:
                    expected.setdefault(series, Counter())[latency.bucket_of(ended.latency_ms)] += 1
            latencies = await outcomes.latencies(account_id, filters, by=by, starts=starts)
            assert {(part.quarter, part.series): latency.unpack(part.packed) for part in latencies} == expected
            errors = await outcomes.errors(account_id, filters, by=by, starts=starts)
            assert {(part.quarter, part.series): part.failed for part in errors} == failed
            assert [part.quarter for part in errors] == sorted(part.quarter for part in errors)


async def test_any_period_has_the_latencies_and_failures_of_its_requests(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10**6)
    other, other_key = await db.key("b@x", tokens=10**6)
    requests = await fill(db, account.id, [key.id, *await add_keys(db, account.id)])
    await fill(db, other.id, [other_key.id], requests=20)
    for now_us in (START_US, START_US + 2 * MICROSECONDS_PER_DAY, END_US + COUNT_DELAY_US):
        await roll_up_outcomes(db, now_us=now_us)
        await require_equal(db, account.id, requests, periods=some_periods())


async def test_a_roll_up_that_stops_between_two_steps_counts_every_request_once(
    db: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tok0n.adapters.sql.repositories.outcome_rollup.ROWS_AT_ONCE", 1)
    account, key = await db.key("a@x", tokens=10**6)
    key_ids = [key.id, *await add_keys(db, account.id, count=2)]
    requests = [
        Ended(at_us=START_US + number * 300_000_000, key_id=key_id, model="demo", latency_ms=number)
        for number, key_id in enumerate(key_ids * 2)
    ]
    for ended in requests:
        await end(db, account.id, ended)
    has_more = True
    while has_more:
        with contextlib.suppress(Stopped):
            has_more = await SqlOutcomeRollup(OneWrite(db.store)).roll_up(now_us=END_US + COUNT_DELAY_US)
        await require_equal(db, account.id, requests)


async def test_two_processes_count_every_request_once(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10**6)
    requests = await fill(db, account.id, [key.id], requests=20)
    first, second = SqlOutcomeRollup(db.store), SqlOutcomeRollup(db.store)
    has_more = True
    while has_more:
        steps = (process.roll_up(now_us=END_US + COUNT_DELAY_US) for process in (first, second))
        has_more = any(await asyncio.gather(*steps))
    await require_equal(db, account.id, requests)


async def test_a_request_in_progress_whose_body_arrived_in_the_next_quarter_hour_has_not_failed(db: Opened) -> None:
    """Its id has the time at which its first byte arrived, and its row the time at which it was admitted."""
    account, key = await db.key("a@x", tokens=10**6)
    id_us = START_US + MICROSECONDS_PER_QUARTER_HOUR - 1_000
    request_id = ids.request_id(id_us, bytes(ids.RANDOM_BYTES))
    reservation = new(request_id, account.id, key.id, 5)
    await db.ledger.reserve(msgspec.structs.replace(reservation, created_at_us=id_us + 5_000_000))
    await roll_up_outcomes(db, now_us=END_US)
    usage = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    await db.ledger.settle(
        Settlement(
            request_id=request_id, usage=usage, resolved_at_us=id_us + MICROSECONDS_PER_QUARTER_HOUR, upstream_ms=7
        )
    )
    await roll_up_outcomes(db, now_us=END_US)
    await require_equal(db, account.id, [Ended(at_us=id_us, key_id=key.id, model="demo", latency_ms=7)])
    assert [row["failed"] for row in await db.rows(request_outcome)] == [0] * len(LENGTHS)


async def test_too_many_new_requests_are_left_out_and_the_time_is_known(
    db: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, key = await db.key("a@x", tokens=10**6)
    outcomes = SqlOutcomes(db.store)
    await end(db, account.id, Ended(at_us=START_US, key_id=key.id, model="demo", latency_ms=5))
    await roll_up_outcomes(db, now_us=START_US + MICROSECONDS_PER_QUARTER_HOUR + COUNT_DELAY_US)
    monkeypatch.setattr(newest, "NEWEST_MAX", 2)
    counts = []
    for number in range(3):
        at_us = START_US + MICROSECONDS_PER_QUARTER_HOUR + number
        await end(db, account.id, Ended(at_us=at_us, key_id=key.id, model="demo", latency_ms=5))
        period = UseFilter(
            since_quarter=START_US // MICROSECONDS_PER_QUARTER_HOUR,
            until_quarter=END_US // MICROSECONDS_PER_QUARTER_HOUR,
        )
        (part,) = await outcomes.latencies(
            account.id, period, by=UseBy.MODEL, starts=[START_US // MICROSECONDS_PER_QUARTER_HOUR]
        )
        counts.append((sum(latency.counts(part.packed)), await outcomes.counted_until_us(account.id)))
    assert counts == [(2, None), (3, None), (1, START_US + MICROSECONDS_PER_QUARTER_HOUR)]


async def test_rejected_requests_are_errors_of_their_quarter_hour(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=0)
    first = START_US // MICROSECONDS_PER_QUARTER_HOUR
    counts = {
        RejectionCount(key=(account.id, key.id), quarter=first + offset, model=model, code="c"): RejectionTotal(
            requests=n
        )
        for offset, model, n in ((0, "demo", 1), (1, "demo", 2), (2, None, 4), (9, "demo", 8))
    }
    await SqlRejectedRequests(db.store).record([], counts)
    outcomes = SqlOutcomes(db.store)
    period = UseFilter(since_quarter=first, until_quarter=first + 9)
    found = await outcomes.errors(account.id, period, by=UseBy.MODEL, starts=[first, first + 2])
    assert [(part.quarter, part.series, part.failed, part.rejected) for part in found] == [
        (first, "demo", 0, 3),
        (first + 2, "", 0, 4),
    ]
    assert await db.rows(outcome_rollup) == []
