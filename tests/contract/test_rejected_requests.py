"""Rejected requests are stored apart from the ledger, found with the others, and forgotten in time."""

import itertools
import random

import pytest

from support.fakes import FakeClock
from support.ledgers import NOW_US, Opened
from support.rollups import roll_up
from support.spending import fail, reserve, spend
from tok0n.adapters.sql.repositories import request_totals
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.repositories.rejections import SqlRejectedRequests
from tok0n.adapters.sql.schema import rejected_count, rejected_request
from tok0n.domain import ids
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import InvalidApiKey, InvalidRequest, NotFound, Tok0nError
from tok0n.domain.history import RequestFilter, UseBy, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, RequestStatus, Settlement
from tok0n.domain.usage import Usage
from tok0n.services.call import Call
from tok0n.services.rejections import QUEUE_MAX, STORED_PER_MINUTE_MAX, Rejections
from tok0n.services.request_history import RequestHistory

pytestmark = pytest.mark.anyio

_numbers = itertools.count(10**6)


def call_at(at_us: int, caller: Caller | None, model: str | None = None) -> Call:
    request_id = ids.request_id(at_us, next(_numbers).to_bytes(ids.RANDOM_BYTES))
    return Call(request_id=request_id, started_seconds=0.0, endpoint="chat", caller=caller, model=model)


def rejections_of(db: Opened, *, days: int = 7, now_us: int = NOW_US) -> Rejections:
    return Rejections(SqlRejectedRequests(db.store), FakeClock(now_us=now_us), days=days)


def too_hot() -> Tok0nError:
    return InvalidRequest("temperature must be a number from 0 to 2.", param="temperature")


async def test_rejected_requests_are_listed_with_the_others_and_found_by_id(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10_000)
    caller = Caller(api_key_id=key.id, account_id=account.id)
    rejections = rejections_of(db)
    made: list[str] = []
    for second in range(9):
        at_us = NOW_US + second * 1_000_000
        if second % 3 == 0:
            made.append(await spend(db, account_id=account.id, key_id=key.id, tokens=5, at_us=at_us))
        elif second % 3 == 1:
            made.append(await fail(db, account_id=account.id, key_id=key.id, tokens=5, at_us=at_us))
        else:
            call = call_at(at_us, caller, "rare")
            rejections.add(call, too_hot(), status=400)
            made.append(call.request_id)
    await rejections.write()
    requests = RequestHistory(SqlHistory(db.store))

    async def found(filters: RequestFilter, *, before: str | None = None, rows_max: int = 100) -> list[str]:
        return [row.id for row in await requests.newest(account.id, filters, before=before, rows_max=rows_max)]

    assert await found(RequestFilter()) == made[::-1]
    assert await found(RequestFilter(), before=made[5], rows_max=3) == [made[4], made[3], made[2]]
    assert await found(RequestFilter(is_rejected=True)) == [made[8], made[5], made[2]]
    assert await found(RequestFilter(is_rejected=False)) == [id_ for n, id_ in enumerate(made) if n % 3 != 2][::-1]
    assert await found(RequestFilter(code="invalid_request")) == [made[8], made[5], made[2]]
    assert await found(RequestFilter(code="upstream_error")) == [made[7], made[4], made[1]]
    assert await found(RequestFilter(status=RequestStatus.SETTLED)) == [made[6], made[3], made[0]]
    assert await found(RequestFilter(model="rare")) == [made[8], made[5], made[2]]
    assert await found(RequestFilter(since_us=NOW_US + 2_000_000, until_us=NOW_US + 4_000_000)) == [made[3], made[2]]
    rejected = await requests.find(account.id, made[2])
    assert rejected.code == "invalid_request"
    other, _ = await db.key("b@x", tokens=1)
    assert await RequestHistory(SqlHistory(db.store)).newest(other.id, RequestFilter(), before=None, rows_max=9) == []
    with pytest.raises(NotFound):
        await requests.find(other.id, made[2])
    assert (await db.ledger.audit()).ok


async def test_a_key_that_floods_has_60_rows_a_minute_and_a_count(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=0)
    caller = Caller(api_key_id=key.id, account_id=account.id)
    rejections = rejections_of(db)
    for number in range(10_000):
        rejections.add(call_at(NOW_US + number, caller), too_hot(), status=400)
        if number % 1000 == 999:
            await rejections.write()
    assert len(await db.rows(rejected_request)) == STORED_PER_MINUTE_MAX
    (count,) = await db.rows(rejected_count)
    assert (count["requests"], count["stored"]) == (10_000, STORED_PER_MINUTE_MAX)
    assert await SqlHistory(db.store).count_not_stored(account.id, RequestFilter()) == 10_000 - STORED_PER_MINUTE_MAX
    rejections.add(call_at(NOW_US + 60_000_000, caller), too_hot(), status=400)
    await rejections.write()
    assert len(await db.rows(rejected_request)) == STORED_PER_MINUTE_MAX + 1


async def test_secrets_without_a_key_leave_no_row_and_those_of_inactive_keys_do(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=0)
    await db.accounts.revoke_key(account_id=account.id, key_id=key.id, now_us=NOW_US)
    rejections = rejections_of(db)
    for digest in (b"a@x", b"unknown"):
        error = InvalidApiKey("This API key is not known here, or it was revoked.")
        error.secret_digest = digest
        rejections.add(call_at(NOW_US, None), error, status=401)
    await rejections.write()
    (row,) = await db.rows(rejected_request)
    assert (row["account_id"], row["api_key_id"], row["http_status"]) == (account.id, key.id, 401)


async def test_a_full_queue_drops_instead_of_growing(db: Opened) -> None:
    account, _ = await db.key("a@x", tokens=0)
    rejections = rejections_of(db)
    for number in range(QUEUE_MAX + 100):
        caller = Caller(api_key_id=f"key_{number}", account_id=account.id)
        rejections.add(call_at(NOW_US, caller), too_hot(), status=400)
    assert len(rejections._queue) == QUEUE_MAX


async def test_old_rows_are_deleted_and_the_others_stay(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=0)
    caller = Caller(api_key_id=key.id, account_id=account.id)
    now_us = NOW_US + 10 * MICROSECONDS_PER_DAY
    rejections = rejections_of(db, now_us=now_us)
    calls = [
        call_at(at_us, caller) for at_us in (NOW_US, now_us - 8 * MICROSECONDS_PER_DAY, now_us - MICROSECONDS_PER_HOUR)
    ]
    for call in calls:
        rejections.add(call, too_hot(), status=400)
    await rejections.write()
    await rejections.delete_old()
    assert [row["id"] for row in await db.rows(rejected_request)] == [calls[-1].request_id]
    assert len(await db.rows(rejected_count)) == 3


async def test_totals_are_the_sum_of_the_requests_of_any_period(db: Opened) -> None:
    """Requests are charged up to a day after they were created, so whole hours alone don't add up."""
    dice = random.Random(7)
    account, key = await db.key("a@x", tokens=10**9)
    start_us = NOW_US // MICROSECONDS_PER_HOUR * MICROSECONDS_PER_HOUR
    span_us = 5 * MICROSECONDS_PER_DAY
    for _ in range(300):
        at_us = start_us + dice.randrange(span_us)
        model = dice.choice(("demo", "rare"))
        late_us = dice.choice((1_000_000, dice.randrange(24 if model == "demo" else 2) * MICROSECONDS_PER_HOUR))
        request_id = await reserve(db, account_id=account.id, key_id=key.id, tokens=900, model=model, at_us=at_us)
        usage = Usage(prompt_tokens=dice.randrange(1, 90), completion_tokens=0, total_tokens=dice.randrange(90, 900))
        await db.ledger.settle(
            Settlement(request_id=request_id, usage=usage, resolved_at_us=at_us + late_us, upstream_ms=1)
        )
    history = SqlHistory(db.store)
    for rolled_up in (False, True):
        if rolled_up:
            await roll_up(db, now_us=start_us + 4 * MICROSECONDS_PER_DAY)
        for _ in range(25):
            since_us, until_us = sorted(start_us + dice.randrange(span_us) for _ in range(2))
            filters = RequestFilter(
                since_us=dice.choice((None, since_us)),
                until_us=dice.choice((None, until_us)),
                model=dice.choice((None, "rare")),
            )
            rows = await history.requests(account.id, filters, before=None, rows_max=1_000)
            totals = await history.request_totals(account.id, filters)
            assert totals.charged == sum(row.charged for row in rows), filters
            assert totals.requests == len(rows)
            assert totals.prompt_tokens == sum(row.prompt_tokens or 0 for row in rows)


async def test_daily_use_adds_up_to_the_totals(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10**6)
    first_day = NOW_US // MICROSECONDS_PER_DAY
    for hours in range(0, 100, 7):
        model = "rare" if hours % 2 else "demo"
        at_us = NOW_US + hours * MICROSECONDS_PER_HOUR
        await spend(db, account_id=account.id, key_id=key.id, tokens=10 + hours, model=model, at_us=at_us)
    history = SqlHistory(db.store)
    for rolled_up in (False, True):
        if rolled_up:
            await roll_up(db, now_us=NOW_US + 3 * MICROSECONDS_PER_DAY)
        for by in (None, *UseBy):
            days = await history.daily_use(account.id, by=by, first_day=first_day, until_day=first_day + 9)
            totals = await history.totals(account.id, UseFilter())
            assert sum(day.totals.charged for day in days) == totals.charged
            assert [day.day for day in days] == sorted(day.day for day in days)
            series = {None: {None}, UseBy.MODEL: {"demo", "rare"}, UseBy.KEY: {key.id}}[by]
            assert {day.series for day in days} == series


def test_the_edges_cover_the_longest_stream() -> None:
    assert request_totals.SLOWEST_US // 1_000_000 > 86_400 + 3_600
