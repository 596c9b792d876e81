"""Any filter finds exactly the requests that match, however long they took, and says how far it searched."""

import functools
import random

import msgspec
import pytest
import sqlalchemy as sa

from support.ledgers import NOW_US, Opened
from support.query_plans import recorded
from support.rollups import roll_up
from support.spending import reserve
from tok0n.adapters.sql.repositories import request_scan, request_search
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.schema import request
from tok0n.domain.history import RequestFilter, RequestRecord
from tok0n.domain.ledger import (
    MICROSECONDS_PER_DAY,
    MICROSECONDS_PER_HOUR,
    MICROSECONDS_PER_QUARTER_HOUR,
    Release,
    RequestStatus,
    Settlement,
)
from tok0n.domain.usage import Usage
from tok0n.settings.schema import STREAM_SECONDS_MAX

pytestmark = pytest.mark.anyio

LATE_US = (
    0,
    MICROSECONDS_PER_QUARTER_HOUR - 1,
    MICROSECONDS_PER_QUARTER_HOUR + 1,
    3 * MICROSECONDS_PER_HOUR,
    STREAM_SECONDS_MAX * 1_000_000,
)
REQUESTS = 90
DAYS = 4


@pytest.fixture
async def account(db: Opened) -> tuple[str, str]:
    """An account and a key, with requests of any duration, tokens and end."""
    made, key = await db.key("a@x", tokens=10**6)
    dice = random.Random(5)
    for number in range(REQUESTS):
        at_us = NOW_US + dice.randrange(DAYS * MICROSECONDS_PER_DAY)
        model = "often" if number % 5 else "seldom"
        request_id = await reserve(db, account_id=made.id, key_id=key.id, tokens=900, model=model, at_us=at_us)
        resolved_at_us = at_us + dice.choice(LATE_US)
        if number % 7 == 0:
            release = Release(request_id=request_id, code="upstream_error", dispatched=True, resolved_at_us=at_us)
            await db.ledger.release(release)
        elif number % 9:
            total, upstream_ms = dice.randrange(1, 900), dice.randrange(5_000)
            usage = Usage(prompt_tokens=total, completion_tokens=0, total_tokens=total, details={})
            await db.ledger.settle(
                Settlement(request_id=request_id, usage=usage, resolved_at_us=resolved_at_us, upstream_ms=upstream_ms)
            )
    return made.id, key.id


def matches(row: RequestRecord, filters: RequestFilter) -> bool:
    """Whether a request matches, without any index."""
    equal = (
        (filters.status, row.status),
        (filters.model, row.model),
        (filters.api_key_id, row.api_key_id),
        (filters.code, row.code),
    )
    charged = row.charged if row.is_billed else None
    ranges = (
        (filters.tokens_min, filters.tokens_max, charged),
        (filters.latency_ms_min, filters.latency_ms_max, row.upstream_ms),
    )
    return all(wanted in {None, value} for wanted, value in equal) and all(
        (lowest is None or (value is not None and value >= lowest))
        and (highest is None or (value is not None and value <= highest))
        for lowest, highest, value in ranges
    )


@pytest.mark.parametrize("rolled_up_days", [0, DAYS])
async def test_a_slow_stream_is_found_by_its_model_and_key(
    db: Opened, account: tuple[str, str], rolled_up_days: int
) -> None:
    await roll_up(db, now_us=NOW_US + (rolled_up_days + 2) * MICROSECONDS_PER_DAY)
    account_id, key_id = account
    history = SqlHistory(db.store)
    everything = await history.requests(account_id, RequestFilter(), before=None, rows_max=REQUESTS)
    assert len(everything) == REQUESTS
    for model, key, status in ((None, key_id, None), ("seldom", None, None), ("often", key_id, RequestStatus.SETTLED)):
        filters = RequestFilter(model=model, api_key_id=key, status=status)
        expected = [row for row in everything if matches(row, filters)]
        assert await history.requests(account_id, filters, before=None, rows_max=REQUESTS) == expected
        middle = expected[len(expected) // 2].id
        page = await history.requests(account_id, filters, before=middle, rows_max=3)
        assert page == [row for row in expected if row.id < middle][:3]


@pytest.mark.parametrize("scanned_max", [7, 10_000])
async def test_steps_of_a_search_by_tokens_and_latency_find_every_request_once(
    db: Opened, account: tuple[str, str], scanned_max: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_scan, "SCANNED_MAX", scanned_max)
    account_id, key_id = account
    history, dice = SqlHistory(db.store), random.Random(6)
    everything = await history.requests(account_id, RequestFilter(), before=None, rows_max=REQUESTS)
    for _ in range(12):
        filters = RequestFilter(
            since_us=dice.choice((None, NOW_US + MICROSECONDS_PER_DAY)),
            model=dice.choice((None, "seldom")),
            api_key_id=dice.choice((None, key_id)),
            status=dice.choice((None, RequestStatus.SETTLED, RequestStatus.RELEASED)),
            code=dice.choice((None, None, "upstream_error")),
            tokens_min=dice.choice((None, 0, 300)),
            tokens_max=dice.choice((None, 600)),
            latency_ms_min=dice.choice((None, 0, 1_000)),
            latency_ms_max=dice.choice((None, 0, 4_000)),
        )
        if not filters.is_measured:
            filters = msgspec.structs.replace(filters, tokens_min=5)
        found: list[RequestRecord] = []
        charged, search_before, steps = 0, None, 0
        while True:
            step = await history.search_requests(
                account_id, filters, search_before=search_before, before=None, rows_max=REQUESTS
            )
            page = await history.search_requests(
                account_id, filters, search_before=search_before, before=None, rows_max=2
            )
            assert page.rows == step.rows[:2]
            assert (page.totals, page.searched_to) == (step.totals, step.searched_to)
            if len(step.rows) > 2:
                rest = await history.search_requests(
                    account_id, filters, search_before=search_before, before=step.rows[1].id, rows_max=REQUESTS
                )
                assert rest.rows == step.rows[2:]
                assert rest.totals == step.totals
            found += step.rows
            charged += 0 if step.totals is None else step.totals.charged
            steps += 1
            if step.searched_to is None:
                break
            search_before = step.searched_to
        expected = [row for row in everything if matches(row, filters) and row.created_at_us >= (filters.since_us or 0)]
        assert found == expected, filters
        assert charged == sum(row.charged for row in expected)
        assert (steps == 1) or scanned_max == 7


async def test_a_released_request_without_a_latency_and_one_in_progress_match_no_latency(
    db: Opened, account: tuple[str, str]
) -> None:
    history = SqlHistory(db.store)
    for filters in (RequestFilter(latency_ms_min=0), RequestFilter(latency_ms_max=10**9), RequestFilter(tokens_max=1)):
        found = await history.search_requests(account[0], filters, search_before=None, before=None, rows_max=REQUESTS)
        assert {row.status for row in found.rows} <= {RequestStatus.SETTLED}
        assert await history.rejected_requests(account[0], filters, before=None, rows_max=1) == []


async def test_the_statement_is_the_same_for_any_number_of_ranges(db: Opened, account: tuple[str, str]) -> None:
    del account
    query = sa.select(request.c.id).order_by(request.c.id.desc())
    request_ids = list(await db.store.read(lambda tx: tx.scalars(query).all()))
    assert len(request_ids) == REQUESTS
    ranges = [(request_id, request_id + "~") for request_id in request_ids]

    def newest(tx: sa.Connection, count: int, rows_max: int) -> list[str]:
        return request_search._newest_in(tx, query.limit(rows_max), ranges[:count], rows_max=rows_max)

    with recorded() as statements:
        for count in (1, 2, 3, REQUESTS):
            assert await db.store.read(functools.partial(newest, count=count, rows_max=50)) == request_ids[:count][:50]
    assert len({text for text in statements if "request" in text}) == 1
