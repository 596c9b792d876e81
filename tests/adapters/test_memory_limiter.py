"""What only the limiter in memory has to see to: it forgets."""

import pytest

from support.fakes import FakeClock
from support.limiters import make_limiter
from tok0n.domain.accounts import Caller

pytestmark = pytest.mark.anyio
ALICE = Caller(api_key_id="key_a", account_id="acct_a")


async def test_keys_that_are_idle_are_forgotten() -> None:
    clock = FakeClock()
    limiter = make_limiter(clock, key=10**6, user=10**6, upstream=10**6)
    for i in range(100):
        await limiter.admit(Caller(api_key_id=f"key_{i}", account_id="acct"), request_id="r").__aenter__()
    clock.advance(60)
    for _ in range(200):
        await limiter.admit(ALICE, request_id="r").__aenter__()
    assert limiter.keys_remembered == 1
