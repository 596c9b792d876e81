"""What only the limiter in memory has to see to: it forgets."""

import pytest

from support.fakes import FakeClock
from support.limiters import make_limiter
from tok0n.domain.accounts import Caller

pytestmark = pytest.mark.anyio
ALICE = Caller(api_key_id="key_a", account_id="acct_a")


async def test_idle_keys_are_forgotten_within_two_minutes_and_busy_keys_keep_their_count() -> None:
    clock = FakeClock()
    limiter = make_limiter(clock, key=10, user=10**6, upstream=10**6)
    for i in range(100):
        await limiter.admit(Caller(api_key_id=f"key_{i}", account_id="acct"), request_id="r").__aenter__()
    remembered = []
    for _ in range(6):
        await limiter.admit(ALICE, request_id="r").__aenter__()
        clock.advance(20)
        await limiter.forget_idle_keys()
        remembered.append((limiter.keys_remembered, (await limiter.state(ALICE)).remaining))
    assert remembered == [(101, 9), (101, 8), (101, 8), (101, 8), (101, 8), (1, 8)]
