"""What every limiter promises: exact in every rolling minute, one decision, nothing used up by a refusal."""

import asyncio
import itertools
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fakes import FakeClock
from support.limiters import KINDS, open_limiter, release, renew_leases
from tok0n.adapters.redis.refill import CLOCK_SKEW_SECONDS
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import Limit, RateLimited
from tok0n.ports.ledger import RecentRequest
from tok0n.ports.limiter import Admission, Limiter, RateState

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("kind", KINDS)]

ALICE = Caller(api_key_id="key_a", account_id="acct_a")
ALICE_2 = Caller(api_key_id="key_a2", account_id="acct_a")
BOB = Caller(api_key_id="key_b", account_id="acct_b")


NUMBERS = itertools.count()


def recent(created_at_us: int, *, dispatched: bool) -> RecentRequest:
    return RecentRequest(
        request_id=f"req_{next(NUMBERS)}",
        caller=ALICE,
        created_at_us=created_at_us,
        dispatched=dispatched,
        pending=False,
    )


async def admit(limiter: Limiter, caller: Caller) -> Admission:
    return await limiter.admit(caller, request_id=f"req_{next(NUMBERS)}").__aenter__()


async def admitted(limiter: Limiter, caller: Caller) -> Admission | RateLimited:
    try:
        return await admit(limiter, caller)
    except RateLimited as refusal:
        return refusal


async def test_the_key_limit_is_exact_to_the_moment(kind: str) -> None:
    clock = FakeClock()
    async with open_limiter(kind, clock, key=3) as limiter:
        for _ in range(3):
            release(await admit(limiter, ALICE), dispatched=True)
            clock.advance(1)
        refusal = await admitted(limiter, ALICE)
        assert isinstance(refusal, RateLimited)
        assert (refusal.which, refusal.limit, refusal.retry_after_seconds) == (Limit.KEY, 3, 57.0)
        clock.advance(56.999999)
        assert isinstance(await admitted(limiter, ALICE), RateLimited)
        clock.advance(0.000001)
        assert not isinstance(await admitted(limiter, ALICE), RateLimited)
        assert isinstance(await admitted(limiter, ALICE), RateLimited)


async def test_concurrency_is_per_account_over_all_its_keys(kind: str) -> None:
    async with open_limiter(kind, FakeClock(), user=2) as limiter:
        first = await admit(limiter, ALICE)
        await admit(limiter, ALICE_2)
        refusal = await admitted(limiter, ALICE)
        assert isinstance(refusal, RateLimited)
        assert refusal.which is Limit.CONCURRENCY
        assert not isinstance(await admitted(limiter, BOB), RateLimited)
        release(first, dispatched=True)
        release(first, dispatched=True)
        assert not isinstance(await admitted(limiter, ALICE), RateLimited)
        assert isinstance(await admitted(limiter, ALICE), RateLimited)


async def test_a_refused_request_uses_up_none_of_the_three(kind: str) -> None:
    clock = FakeClock()
    async with open_limiter(kind, clock, key=5, user=1, upstream=3) as limiter:
        held = await admit(limiter, ALICE)
        for _ in range(20):
            assert isinstance(await admitted(limiter, ALICE), RateLimited)
        assert (await limiter.state(ALICE)).remaining == 4
        release(held, dispatched=True)
        for _ in range(2):
            release(await admit(limiter, ALICE), dispatched=True)
        for _ in range(20):
            refusal = await admitted(limiter, BOB)
            assert isinstance(refusal, RateLimited)
            assert refusal.which is Limit.GLOBAL
        assert (await limiter.state(BOB)).remaining == 5


async def test_what_never_reached_the_upstream_gives_its_global_slot_back(kind: str) -> None:
    async with open_limiter(kind, FakeClock(), upstream=1) as limiter:
        release(await admit(limiter, ALICE), dispatched=False)
        release(await admit(limiter, BOB), dispatched=True)
        assert isinstance(await admitted(limiter, ALICE), RateLimited)


async def test_a_slot_that_the_minute_took_back_is_not_given_back_twice(kind: str) -> None:
    clock = FakeClock()
    async with open_limiter(kind, clock, upstream=1) as limiter:
        old = await admit(limiter, ALICE)
        clock.advance(60)
        await admit(limiter, BOB)
        release(old, dispatched=False)
        assert isinstance(await admitted(limiter, ALICE), RateLimited)


async def test_the_operators_own_requests_count_against_the_global_limit_only(kind: str) -> None:
    async with open_limiter(kind, FakeClock(), upstream=1) as limiter:
        release(await limiter.admit_operator(request_id=f"req_{next(NUMBERS)}").__aenter__(), dispatched=True)
        refusal = await admitted(limiter, ALICE)
        assert isinstance(refusal, RateLimited)
        assert refusal.which is Limit.GLOBAL
        assert (await limiter.state(ALICE)).remaining == 60


async def test_a_restart_remembers_the_last_minute(kind: str) -> None:
    """To the moment in memory; a limiter that other machines share allows for their clocks, and is never early."""
    clock = FakeClock()
    now_us = clock.now_us()
    last_minute = [
        recent(now_us - 50_000_000, dispatched=True),
        recent(now_us - 40_000_000, dispatched=False),
        recent(now_us - 30_000_000, dispatched=True),
    ]
    skew_seconds = 0 if kind == "memory" else CLOCK_SKEW_SECONDS
    async with open_limiter(kind, clock, key=3, upstream=4, recent=last_minute) as limiter:
        assert isinstance(await admitted(limiter, ALICE), RateLimited)
        assert not isinstance(await admitted(limiter, BOB), RateLimited)
        assert not isinstance(await admitted(limiter, BOB), RateLimited)
        refusal = await admitted(limiter, BOB)
        assert isinstance(refusal, RateLimited)
        assert (refusal.which, refusal.retry_after_seconds) == (Limit.GLOBAL, 10.0 + skew_seconds)
        clock.advance(10 + skew_seconds)
        assert not isinstance(await admitted(limiter, ALICE), RateLimited)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "admit", "admit", "end", "end_undispatched"]),
        st.integers(0, 2),
        st.floats(0, 25, allow_nan=False),
    ),
    max_size=80,
)


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_it_decides_as_a_brute_force_sliding_window_would(kind: str, steps: list[tuple[str, int, float]]) -> None:
    asyncio.run(_compare_with_brute_force(kind, steps))


async def _compare_with_brute_force(kind: str, steps: list[tuple[str, int, float]]) -> None:
    clock = FakeClock()
    async with open_limiter(kind, clock, key=4, user=3, upstream=6) as limiter:
        callers = [ALICE, ALICE_2, BOB]
        of_key: dict[str, list[float]] = defaultdict(list)
        of_all: list[tuple[float, int]] = []
        open_: list[tuple[Admission, Caller, int]] = []
        for number, (step, which, seconds) in enumerate(steps):
            clock.advance(seconds)
            renew_leases(limiter)
            now = clock.monotonic()
            caller = callers[which]
            if step != "admit":
                if open_:
                    admission, _, opened = open_.pop(which % len(open_))
                    release(admission, dispatched=step == "end")
                    if step != "end":
                        of_all = [(at, of) for at, of in of_all if of != opened]
                continue
            expected = None
            if sum(at > now - 60 for at in of_key[caller.api_key_id]) >= 4:
                expected = Limit.KEY
            elif sum(other.account_id == caller.account_id for _, other, _ in open_) >= 3:
                expected = Limit.CONCURRENCY
            elif sum(at > now - 60 for at, _ in of_all) >= 6:
                expected = Limit.GLOBAL
            result = await admitted(limiter, caller)
            if isinstance(result, RateLimited):
                assert result.which is expected
                continue
            assert expected is None
            of_key[caller.api_key_id].append(now)
            of_all.append((now, number))
            open_.append((result, caller, number))
            live = sum(at > now - 60 for at in of_key[caller.api_key_id])
            assert result.rate.remaining == 4 - live


async def test_a_key_may_have_a_lower_rate_of_its_own_but_no_higher_one(kind: str) -> None:
    clock = FakeClock()
    async with open_limiter(kind, clock, key=3) as limiter:
        for own, expected in ((2, 2), (9, 3), (None, 3)):
            caller = Caller(api_key_id=f"key_{own}", account_id="acct_a", requests_per_minute=own)
            assert (await limiter.state(caller)).limit == expected
            for used in range(expected):
                admission = await admit(limiter, caller)
                assert (admission.rate.limit, admission.rate.remaining) == (expected, expected - used - 1)
                release(admission, dispatched=True)
            rejection = await admitted(limiter, caller)
            assert isinstance(rejection, RateLimited)
            assert (rejection.which, rejection.limit) == (Limit.KEY, expected)
            assert f"limit of {expected} requests per minute" in rejection.message


async def test_a_lower_rate_counts_the_requests_of_the_last_minute(kind: str) -> None:
    clock = FakeClock()
    async with open_limiter(kind, clock, key=5) as limiter:
        for _ in range(3):
            release(await admit(limiter, ALICE), dispatched=True)
        slower = Caller(api_key_id=ALICE.api_key_id, account_id=ALICE.account_id, requests_per_minute=2)
        assert isinstance(await admitted(limiter, slower), RateLimited)
        assert (await limiter.state(slower)).remaining == 0
        assert not isinstance(await admitted(limiter, ALICE), RateLimited)


@pytest.mark.parametrize("is_concurrent", [True, False])
async def test_an_admission_that_is_undone_was_never_there(kind: str, *, is_concurrent: bool) -> None:
    clock = FakeClock()
    async with open_limiter(kind, clock, key=2, user=2, upstream=2) as limiter:
        held = await admit(limiter, ALICE)
        clock.advance(1)
        for _ in range(5):
            async with limiter.admit(ALICE, request_id="req_again", is_concurrent=is_concurrent) as admission:
                await admission.undo()
        assert await limiter.state(ALICE) == RateState(limit=2, remaining=1, reset_seconds=59.0)
        renew_leases(limiter)
        async with limiter.admit(ALICE, request_id="req_again", is_concurrent=is_concurrent) as admission:
            assert admission.rate.remaining == 0
            assert isinstance(await admitted(limiter, ALICE), RateLimited)
            admission.dispatched = True
        release(held, dispatched=True)
        refusal = await admitted(limiter, BOB)
        assert isinstance(refusal, RateLimited)
        assert (refusal.which, refusal.retry_after_seconds) == (Limit.GLOBAL, 59.0)
        clock.advance(59)
        assert not isinstance(await admitted(limiter, ALICE), RateLimited)
