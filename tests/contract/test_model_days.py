"""The daily results of models: each request and verification counts once, and a client's mistake is no outage."""

import msgspec
import pytest

from support.ledgers import NOW_US, Opened, new, released
from support.rollups import roll_up_outcomes
from support.spending import spend
from tok0n.adapters.sql import schema
from tok0n.adapters.sql.repositories.model_days import SqlModelDays
from tok0n.adapters.sql.repositories.models import SqlModels
from tok0n.adapters.sql.repositories.outcome_rollup import COUNT_DELAY_US
from tok0n.domain.catalogue import EndpointCheck, StreamCheck, Verification
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_QUARTER_HOUR
from tok0n.domain.model_days import DAYS_KEPT

pytestmark = pytest.mark.anyio

FIRST_US = NOW_US // MICROSECONDS_PER_DAY * MICROSECONDS_PER_DAY
DAY = FIRST_US // MICROSECONDS_PER_DAY
AFTER_US = FIRST_US + 3 * MICROSECONDS_PER_QUARTER_HOUR + COUNT_DELAY_US


async def test_each_request_counts_once_and_only_the_upstreams_failures_count(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10**6)
    for minute in range(30):
        at_us = FIRST_US + minute * 60_000_000
        await spend(db, account_id=account.id, key_id=key.id, tokens=5, at_us=at_us)
    for number, code in enumerate(("upstream_error", "context_length_exceeded", None)):
        at_us = FIRST_US + number
        request_id = f"req_{at_us // 1000:012x}{9_000 + number:020x}"
        reservation = msgspec.structs.replace(new(request_id, account.id, key.id, 5), created_at_us=at_us)
        await db.ledger.reserve(reservation)
        await db.ledger.release(msgspec.structs.replace(released(request_id), code=code))
    days = SqlModelDays(db.store)
    await roll_up_outcomes(db, now_us=AFTER_US)
    await roll_up_outcomes(db, now_us=AFTER_US)
    (day,) = await days.days(first_day=DAY)
    assert (day.day, day.settled, day.failed, sum(day.latencies.values())) == (DAY, 30, 1, 30)
    assert await days.days(first_day=DAY + 1) == []


async def test_a_request_in_progress_delays_its_quarter_hour(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10**6)
    await spend(db, account_id=account.id, key_id=key.id, tokens=5, at_us=FIRST_US)
    request_id = f"req_{(FIRST_US + 1_000) // 1000:012x}{0:020x}"
    reservation = msgspec.structs.replace(new(request_id, account.id, key.id, 5), created_at_us=FIRST_US + 1_000)
    await db.ledger.reserve(reservation)
    days = SqlModelDays(db.store)
    await roll_up_outcomes(db, now_us=AFTER_US)
    assert await days.days(first_day=DAY) == []
    await db.ledger.release(released(request_id))
    await roll_up_outcomes(db, now_us=AFTER_US)
    assert [day.settled for day in await days.days(first_day=DAY)] == [1]


async def test_verifications_are_kept_for_90_days(db: Opened) -> None:
    models, days = SqlModels(db.store), SqlModelDays(db.store)
    for number, checks in enumerate(({"answered": True}, {"answered": True, "bound": False})):
        await models.record(
            Verification(
                model="demo",
                fingerprint="f",
                checked_at_us=FIRST_US + number,
                endpoints={"chat": EndpointCheck(checks=checks, latency_ms=7, code="invalid_request")},
                streams={"chat": StreamCheck(passed=not number)},
            )
        )
    rows = {(row["at_us"], row["is_stream"]): row["code"] for row in await db.rows(schema.verification)}
    assert rows == {
        (FIRST_US, 0): None,
        (FIRST_US, 1): None,
        (FIRST_US + 1, 0): "invalid_request",
        (FIRST_US + 1, 1): "upstream_error",
    }
    (day,) = await days.days(first_day=DAY)
    assert (day.passed, day.not_passed, day.availability_permille) == (2, 2, 500)
    await days.delete_old(now_us=FIRST_US + DAYS_KEPT * MICROSECONDS_PER_DAY)
    assert len(await db.rows(schema.verification)) == 4
    await days.delete_old(now_us=FIRST_US + (DAYS_KEPT + 1) * MICROSECONDS_PER_DAY)
    assert await db.rows(schema.verification) == []


async def test_few_requests_say_nothing_about_availability(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=10**6)
    for number in range(19):
        await spend(db, account_id=account.id, key_id=key.id, tokens=5, at_us=FIRST_US + number * 1_000_000)
    days = SqlModelDays(db.store)
    await roll_up_outcomes(db, now_us=AFTER_US)
    (day,) = await days.days(first_day=DAY)
    assert (day.settled, day.availability_permille) == (19, None)
