"""A key is looked up once for all who use it at the same time, and again before it is forgotten."""

import asyncio

import pytest

from support.fakes import FakeClock
from tok0n.domain.accounts import Caller
from tok0n.domain.api_key import make_api_key
from tok0n.domain.errors import AccountingFailed, InvalidApiKey
from tok0n.services.caller_cache import CACHE_TTL_SECONDS, FRESH_SECONDS, CallerCache

pytestmark = pytest.mark.anyio

HEADER = b"Bearer " + make_api_key(bytes(32)).encode()
CALLER = Caller(api_key_id="key_1", account_id="acct_1")


class Asked:
    """Of the `Accounts` port, the one method that is needed: it answers when it is let, and counts."""

    def __init__(self) -> None:
        self.times = 0
        self.answer: Caller | Exception | None = CALLER
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def find_caller(self, digest: bytes, *, now_us: int) -> Caller | None:
        del digest, now_us
        self.times += 1
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def accounts() -> Asked:
    return Asked()


@pytest.fixture
def caller_cache(accounts: Asked, clock: FakeClock) -> CallerCache:
    return CallerCache(accounts, clock)  # type: ignore[arg-type]


async def test_many_at_once_are_one_lookup(caller_cache: CallerCache, accounts: Asked) -> None:
    callers = await asyncio.gather(*(caller_cache.authenticate(HEADER) for _ in range(50)))
    assert callers == [CALLER] * 50
    assert accounts.times == 1


async def test_a_busy_key_is_looked_up_again_and_nobody_waits_for_it(
    caller_cache: CallerCache, accounts: Asked, clock: FakeClock
) -> None:
    await caller_cache.authenticate(HEADER)
    clock.advance(FRESH_SECONDS)
    accounts.may_answer.clear()
    for _ in range(3):
        assert await caller_cache.authenticate(HEADER) == CALLER
        await asyncio.sleep(0)
    assert accounts.times == 2
    accounts.answer = None
    accounts.may_answer.set()
    await asyncio.wait([task for task in asyncio.all_tasks() if task.get_name() == "key lookup"])
    with pytest.raises(InvalidApiKey):
        await caller_cache.authenticate(HEADER)


async def test_a_caller_that_is_not_refreshed_is_forgotten(
    caller_cache: CallerCache, accounts: Asked, clock: FakeClock
) -> None:
    await caller_cache.authenticate(HEADER)
    accounts.answer = None
    clock.advance(CACHE_TTL_SECONDS)
    with pytest.raises(InvalidApiKey):
        await caller_cache.authenticate(HEADER)


async def test_a_lookup_that_fails_is_an_error_for_all_who_wait_and_for_nobody_else(
    caller_cache: CallerCache, accounts: Asked, clock: FakeClock
) -> None:
    accounts.answer = AccountingFailed(upstream_called=False, detail="the database is away")
    failed = await asyncio.gather(*(caller_cache.authenticate(HEADER) for _ in range(3)), return_exceptions=True)
    assert failed == [accounts.answer] * 3
    accounts.answer = CALLER
    await caller_cache.authenticate(HEADER)
    accounts.answer = AccountingFailed(upstream_called=False, detail="the database is away")
    clock.advance(FRESH_SECONDS)
    for _ in range(3):
        assert await caller_cache.authenticate(HEADER) == CALLER
        await asyncio.sleep(0)
    clock.advance(CACHE_TTL_SECONDS - FRESH_SECONDS)
    with pytest.raises(AccountingFailed):
        await caller_cache.authenticate(HEADER)


async def test_a_cancelled_lookup_does_not_cancel_the_other_waiters(caller_cache: CallerCache, accounts: Asked) -> None:
    accounts.may_answer.clear()
    leaves, stays = (asyncio.create_task(caller_cache.authenticate(HEADER)) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    accounts.may_answer.set()
    assert await stays == CALLER
    assert leaves.cancelled()
    assert accounts.times == 1
