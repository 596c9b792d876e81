"""A key is looked up once, and stays cached until it changes, expires, is idle or is evicted."""

import asyncio
from collections.abc import Mapping

import pytest

from support.fakes import FakeClock
from tok0n.domain import api_key
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import AccountingFailed, InvalidApiKey, KeyLookupFailed
from tok0n.ports.callers import KeyChanges
from tok0n.services.caller_cache import IDLE_SECONDS, CallerCache

pytestmark = pytest.mark.anyio

CACHED_MAX = 10


def header(number: int = 0) -> bytes:
    return b"Bearer " + api_key.make_api_key(number.to_bytes(32)).encode()


class FakeCallers:
    """The `Callers` port. Every well-formed key is known, unless it is in `unknown`. `gate` delays lookups."""

    def __init__(self) -> None:
        self.lookups = 0
        self.error: Exception | None = None
        self.expires_at_us: int | None = None
        self.unknown: set[str] = set()
        self.locked: frozenset[str] = frozenset()
        self.used: dict[str, int] = {}
        self.gate = asyncio.Event()
        self.gate.set()
        self.change = KeyChanges(number=7, api_key_ids=frozenset())

    async def find(self, digest: bytes, *, now_us: int) -> Caller | None:
        self.lookups += 1
        key_id = digest.hex()
        caller = Caller(api_key_id=key_id, account_id="acct_1", expires_at_us=self.expires_at_us)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return None if key_id in self.unknown or caller.has_expired(now_us) else caller

    async def changes(self, *, after: int | None) -> KeyChanges:
        del after
        return self.change

    async def mark_used(self, used_at_us: Mapping[str, int]) -> frozenset[str]:
        if self.error is not None:
            raise self.error
        self.used |= {key_id: at for key_id, at in used_at_us.items() if key_id not in self.locked}
        return self.locked

    def changed(self, *key_ids: str, lost: bool = False) -> None:
        self.change = KeyChanges(number=self.change.number + 1, api_key_ids=None if lost else frozenset(key_ids))


def key_id(number: int = 0) -> str:
    return api_key.digest(header(number)[7:].decode()).hex()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def callers() -> FakeCallers:
    return FakeCallers()


@pytest.fixture
async def cache(callers: FakeCallers, clock: FakeClock) -> CallerCache:
    cache = CallerCache(callers, clock, callers_max=CACHED_MAX)
    await cache.refresh()
    return cache


async def test_many_requests_at_once_share_a_lookup(cache: CallerCache, callers: FakeCallers) -> None:
    found = await asyncio.gather(*(cache.authenticate(header()) for _ in range(50)))
    assert {caller.api_key_id for caller in found} == {key_id()}
    assert callers.lookups == 1


async def test_an_unchanged_key_is_looked_up_once(cache: CallerCache, callers: FakeCallers, clock: FakeClock) -> None:
    for _ in range(10):
        await cache.authenticate(header())
        assert cache.cached(header()) is not None
        clock.advance(IDLE_SECONDS / 2)
        await cache.refresh()
    assert callers.lookups == 1


@pytest.mark.parametrize("spelling", [b"bearer ", b"BEARER  ", b"Bearer   "])
async def test_other_spellings_of_the_header_share_the_entry(
    cache: CallerCache, callers: FakeCallers, spelling: bytes
) -> None:
    await cache.authenticate(header())
    await cache.authenticate(spelling + header()[7:] + b" ")
    assert callers.lookups == 1
    assert len(cache) == 1


@pytest.mark.parametrize("lost", [False, True], ids=["this key", "changes that are no longer known"])
async def test_a_changed_key_is_looked_up_again(cache: CallerCache, callers: FakeCallers, *, lost: bool) -> None:
    await cache.authenticate(header())
    callers.unknown.add(key_id())
    assert cache.cached(header()) is not None
    callers.changed(key_id(), lost=lost)
    await cache.refresh()
    with pytest.raises(InvalidApiKey):
        await cache.authenticate(header())


async def test_another_key_stays_cached_when_one_changes(cache: CallerCache, callers: FakeCallers) -> None:
    await cache.authenticate(header(1))
    await cache.authenticate(header(2))
    callers.changed(key_id(1))
    await cache.refresh()
    assert cache.cached(header(1)) is None
    assert cache.cached(header(2)) is not None


async def test_a_change_during_a_lookup_keeps_its_result_out_of_the_cache(
    cache: CallerCache, callers: FakeCallers
) -> None:
    callers.gate.clear()
    lookup = asyncio.create_task(cache.authenticate(header()))
    while not callers.lookups:
        await asyncio.sleep(0)
    callers.changed(key_id())
    await cache.refresh()
    callers.gate.set()
    await lookup
    assert cache.cached(header()) is None


async def test_nothing_is_cached_before_the_changes_are_known(callers: FakeCallers, clock: FakeClock) -> None:
    cache = CallerCache(callers, clock)
    await cache.authenticate(header())
    assert cache.cached(header()) is None


async def test_a_key_that_expires_leaves_the_cache(cache: CallerCache, callers: FakeCallers, clock: FakeClock) -> None:
    callers.expires_at_us = clock.now_us() + 1_000_000
    await cache.authenticate(header())
    clock.advance(1)
    assert cache.cached(header()) is None
    with pytest.raises(InvalidApiKey):
        await cache.authenticate(header())


async def test_a_request_that_does_not_reserve_can_ask_the_database(cache: CallerCache, callers: FakeCallers) -> None:
    await cache.authenticate(header())
    callers.unknown.add(key_id())
    with pytest.raises(InvalidApiKey):
        await cache.authenticate_now(header())
    assert cache.cached(header()) is None


async def test_a_full_cache_evicts_the_least_recently_used(cache: CallerCache, callers: FakeCallers) -> None:
    for number in range(CACHED_MAX):
        await cache.authenticate(header(number))
    assert cache.cached(header(0)) is not None
    await cache.authenticate(header(CACHED_MAX))
    assert len(cache) == CACHED_MAX
    assert cache.cached(header(0)) is not None
    assert cache.cached(header(1)) is None
    assert callers.lookups == CACHED_MAX + 1


async def test_a_flood_of_unknown_keys_evicts_no_known_one(cache: CallerCache, callers: FakeCallers) -> None:
    await cache.authenticate(header())
    callers.unknown = {key_id(number) for number in range(1, 5 * CACHED_MAX)}
    for number in range(1, 5 * CACHED_MAX):
        with pytest.raises(InvalidApiKey):
            await cache.authenticate(header(number))
    assert cache.cached(header()) is not None


async def test_idle_callers_are_forgotten(cache: CallerCache, clock: FakeClock) -> None:
    await cache.authenticate(header(1))
    clock.advance(IDLE_SECONDS)
    await cache.authenticate(header(2))
    await cache.refresh()
    assert cache.cached(header(1)) is None
    assert cache.cached(header(2)) is not None


async def test_a_lookup_that_fails_is_an_error_and_not_a_401(cache: CallerCache, callers: FakeCallers) -> None:
    callers.error = AccountingFailed(upstream_called=False, detail="the database is away")
    failed = await asyncio.gather(*(cache.authenticate(header()) for _ in range(3)), return_exceptions=True)
    for error in failed:
        assert isinstance(error, KeyLookupFailed)
        assert error.message == "The gateway could not look up this API key. You were not charged."
        assert (error.code, error.detail) == ("api_error", "the database is away")
    callers.error = None
    await cache.authenticate(header())


async def test_a_cancelled_request_does_not_cancel_the_lookup_of_others(
    cache: CallerCache, callers: FakeCallers
) -> None:
    callers.gate.clear()
    leaves, stays = (asyncio.create_task(cache.authenticate(header())) for _ in range(2))
    await asyncio.sleep(0)
    leaves.cancel()
    callers.gate.set()
    assert (await stays).api_key_id == key_id()
    assert leaves.cancelled()
    assert callers.lookups == 1


async def test_each_use_is_stored_once(cache: CallerCache, callers: FakeCallers, clock: FakeClock) -> None:
    await cache.authenticate(header(1))
    await cache.authenticate(header(2))
    clock.advance(5)
    cache.cached(header(1))
    now_us = clock.now_us()
    clock.advance(1)
    await cache.flush_last_used()
    assert callers.used == {key_id(1): now_us, key_id(2): now_us - 5_000_000}
    callers.used.clear()
    clock.advance(60)
    await cache.flush_last_used()
    assert callers.used == {}


async def test_the_use_of_an_evicted_caller_is_stored(cache: CallerCache, callers: FakeCallers) -> None:
    for number in range(2 * CACHED_MAX):
        await cache.authenticate(header(number))
    await cache.flush_last_used()
    assert callers.used.keys() == {key_id(number) for number in range(2 * CACHED_MAX)}


async def test_a_use_that_could_not_be_stored_is_kept(cache: CallerCache, callers: FakeCallers) -> None:
    await cache.authenticate(header(1))
    await cache.authenticate(header(2))
    callers.error = AccountingFailed(upstream_called=False, detail="the database is away")
    with pytest.raises(AccountingFailed):
        await cache.flush_last_used()
    callers.error, callers.locked = None, frozenset({key_id(1)})
    await cache.flush_last_used()
    assert callers.used.keys() == {key_id(2)}
    callers.locked = frozenset()
    await cache.flush_last_used()
    assert callers.used.keys() == {key_id(1), key_id(2)}
