"""What counted attempts promise, whatever database is behind them and however many processes share it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.ledgers import ENGINES, NOW_US, schema
from support.stores import Opener, opener
from tok0n.adapters.sql.repositories.attempts import SqlAttempts
from tok0n.domain.attempts import LIMITS, AttemptKind, AttemptLimit, CountedAttempt, TooMany, subject_digest

pytestmark = pytest.mark.anyio

LIMIT = AttemptLimit(attempts_max=6, quiet_us=900)
KIND = AttemptKind.TWO_FACTOR
ADA, BOB = subject_digest("ada"), subject_digest("bob")


@pytest.fixture(params=ENGINES)
async def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opener]:
    async with opener(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
async def attempts(open_store: Opener) -> SqlAttempts:
    return SqlAttempts(await open_store())


async def count(attempts: SqlAttempts, subject: bytes = ADA, *, now_us: int = NOW_US) -> CountedAttempt | TooMany:
    return await attempts.count_attempt(KIND, subject, limit=LIMIT, now_us=now_us)


async def test_a_burst_over_two_processes_counts_no_more_than_the_limit(open_store: Opener) -> None:
    both = [SqlAttempts(await open_store()), SqlAttempts(await open_store())]
    outcomes = await asyncio.gather(*(count(both[number % 2]) for number in range(200)))
    assert sum(isinstance(outcome, CountedAttempt) for outcome in outcomes) == LIMIT.attempts_max
    third = SqlAttempts(await open_store())
    assert await count(third, now_us=NOW_US + 1) == TooMany(wait_us=LIMIT.quiet_us - 1), "a restart forgives nothing"


async def test_a_burst_over_two_processes_after_the_quiet_time_counts_no_more_than_the_limit(
    open_store: Opener,
) -> None:
    both = [SqlAttempts(await open_store()), SqlAttempts(await open_store())]
    for _ in range(LIMIT.attempts_max):
        await count(both[0])
    later = NOW_US + LIMIT.quiet_us
    outcomes = await asyncio.gather(*(count(both[number % 2], now_us=later) for number in range(100)))
    assert sum(isinstance(outcome, CountedAttempt) for outcome in outcomes) == LIMIT.attempts_max


async def test_each_kind_and_each_subject_counts_on_its_own(attempts: SqlAttempts) -> None:
    for _ in range(LIMIT.attempts_max):
        await count(attempts)
    assert isinstance(await count(attempts), TooMany)
    assert isinstance(await count(attempts, BOB), CountedAttempt)
    other = await attempts.count_attempt(AttemptKind.REDEEM_CODE, ADA, limit=LIMIT, now_us=NOW_US)
    assert isinstance(other, CountedAttempt)


async def test_the_count_starts_again_only_after_a_quiet_time(attempts: SqlAttempts) -> None:
    for number in range(LIMIT.attempts_max):
        assert isinstance(await count(attempts, now_us=NOW_US + number), CountedAttempt)
    last_us = NOW_US + LIMIT.attempts_max - 1
    assert await count(attempts, now_us=last_us + LIMIT.quiet_us - 1) == TooMany(wait_us=1)
    again = await count(attempts, now_us=last_us + LIMIT.quiet_us)
    assert isinstance(again, CountedAttempt), "refused attempts do not prolong the wait"
    assert again.since_us == last_us + LIMIT.quiet_us


async def test_a_success_takes_back_its_own_count_and_only_that(attempts: SqlAttempts) -> None:
    counted = [await count(attempts) for _ in range(LIMIT.attempts_max)]
    assert isinstance(counted[0], CountedAttempt)
    await attempts.take_back(counted[0])
    assert isinstance(await count(attempts), CountedAttempt)
    assert isinstance(await count(attempts), TooMany)


async def test_a_success_takes_nothing_back_from_a_count_that_started_later(attempts: SqlAttempts) -> None:
    old = await count(attempts)
    assert isinstance(old, CountedAttempt)
    later = NOW_US + LIMIT.quiet_us
    for _ in range(LIMIT.attempts_max):
        await count(attempts, now_us=later)
    await attempts.take_back(old)
    assert isinstance(await count(attempts, now_us=later), TooMany)


async def test_more_successes_at_once_than_the_limit_never_make_the_count_negative(attempts: SqlAttempts) -> None:
    counted = await count(attempts)
    assert isinstance(counted, CountedAttempt)
    await asyncio.gather(*(attempts.take_back(counted) for _ in range(5)))
    outcomes = [await count(attempts) for _ in range(LIMIT.attempts_max + 1)]
    assert [isinstance(outcome, CountedAttempt) for outcome in outcomes] == [True] * LIMIT.attempts_max + [False]


async def test_expired_counts_are_removed_in_bounded_steps_and_others_stay(open_store: Opener) -> None:
    store = await open_store()
    attempts = SqlAttempts(store)
    for number in range(5):
        await count(attempts, subject_digest(str(number)))
    await count(attempts, now_us=NOW_US + 1)
    later = NOW_US + LIMIT.quiet_us
    assert await attempts.delete_expired(now_us=later - 1, rows_max=3) == 0
    assert [await attempts.delete_expired(now_us=later, rows_max=3) for _ in range(3)] == [3, 2, 0]
    rows = await store.read(lambda tx: tx.execute(schema.attempt.select()).all())
    assert [row.subject for row in rows] == [ADA]


def test_every_kind_has_a_limit() -> None:
    assert set(LIMITS) == set(AttemptKind)
