"""Redis is pulled away, paused, flushed and starved: nothing is admitted that is not counted, and it mends itself."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest

from support.fakes import FakeClock
from support.free_ports import free_port
from support.limiters import ScriptAt, limits, release, until_filled
from support.redis_server import RedisServer
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.redis.limiter import RedisLimiter
from tok0n.adapters.redis.refill import ADMISSION_SECONDS_MAX, EPOCH, LEASE_US, LOCK
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import Limit, LimiterUnavailable, RateLimited
from tok0n.ports.clock import Clock
from tok0n.ports.ledger import RecentRequest
from tok0n.ports.limiter import Admission

pytestmark = pytest.mark.anyio

ALICE = Caller(api_key_id="key_a", account_id="acct_a")
BOB = Caller(api_key_id="key_b", account_id="acct_b")
ANSWER_SECONDS_MAX = 1.0


class Rows:
    """The request rows that a limiter is filled from."""

    def __init__(self) -> None:
        self.rows: list[RecentRequest] = []
        self.read = 0

    async def __call__(self, *, since_us: int) -> list[RecentRequest]:
        self.read += 1
        return [row for row in self.rows if row.created_at_us >= since_us or row.pending]

    def add(self, request_id: str, caller: Caller, *, pending: bool = False) -> None:
        now_us = SystemClock().now_us()
        self.rows.append(
            RecentRequest(request_id=request_id, caller=caller, created_at_us=now_us, dispatched=True, pending=pending)
        )


@pytest.fixture
async def server() -> AsyncIterator[RedisServer]:
    async with RedisServer() as server:
        yield server


@pytest.fixture
def rows() -> Rows:
    return Rows()


@contextlib.asynccontextmanager
async def open_limiter(
    server: RedisServer,
    rows: Rows,
    *,
    clock: Clock | None = None,
    remembers: bool = True,
    filled: bool = True,
    **more: int,
) -> AsyncIterator[RedisLimiter]:
    limiter = RedisLimiter(server.url, limits(**more), clock or SystemClock(), recent=rows)
    if remembers:
        await server.command("SET", EPOCH, (await server.command("INFO", "server"))["run_id"])
    if isinstance(clock, FakeClock):
        limiter._script = ScriptAt(limiter._script, clock)
    try:
        if filled:
            await until_filled(limiter)
        yield limiter
    finally:
        await limiter.aclose()


async def admit(limiter: RedisLimiter, number: int, caller: Caller = ALICE) -> Admission:
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        return await limiter.admit(caller, request_id=f"req_{number}").__aenter__()


async def refused(limiter: RedisLimiter, number: int, caller: Caller = ALICE) -> Limit:
    with pytest.raises(RateLimited) as refusal:
        await admit(limiter, number, caller)
    return refusal.value.which


async def read_only(server: RedisServer, *, broken: bool) -> None:
    await server.command("REPLICAOF", *(("127.0.0.1", free_port()) if broken else ("NO", "ONE")))


async def stopped(server: RedisServer, *, broken: bool) -> None:
    await (server.stop() if broken else server.start())


async def paused(server: RedisServer, *, broken: bool) -> None:
    (server.pause if broken else server.go_on)()


@pytest.mark.parametrize("fault", [stopped, paused, read_only])
async def test_a_server_that_cannot_count_admits_nobody_and_is_used_again_when_it_can(
    server: RedisServer, rows: Rows, fault: Callable[..., AsyncIterator[None]]
) -> None:
    async with open_limiter(server, rows, key=4) as limiter:
        release(await admit(limiter, 1), dispatched=True)
        rows.add("req_1", ALICE)
        await fault(server, broken=True)  # type: ignore[misc]
        waiting = [admit(limiter, n) for n in range(2, 40)]
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert {type(result) for result in results} == {LimiterUnavailable}
        await fault(server, broken=False)  # type: ignore[misc]
        await until_filled(limiter)
        async with asyncio.timeout(10):
            while (await limiter.state(ALICE)).remaining != 3:
                await asyncio.sleep(0.01)
        for n in range(50, 53):
            await admit(limiter, n)
        assert await refused(limiter, 60) is Limit.KEY


async def test_a_server_without_memory_admits_nothing_that_it_does_not_count(server: RedisServer, rows: Rows) -> None:
    async with open_limiter(server, rows, key=4) as limiter:
        await server.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(LimiterUnavailable):
            await admit(limiter, 1)
        await server.command("CONFIG", "SET", "maxmemory", "0")
        for n in range(2, 6):
            await admit(limiter, n)
        assert await refused(limiter, 7) is Limit.KEY


async def test_a_flush_forgets_nothing_that_was_dispatched(server: RedisServer, rows: Rows) -> None:
    async with open_limiter(server, rows, key=5, user=4) as limiter:
        for n in range(3):
            await admit(limiter, n)
            rows.add(f"req_{n}", ALICE, pending=True)
        await server.command("FLUSHALL")
        with pytest.raises(LimiterUnavailable):
            await admit(limiter, 10)
        async with asyncio.timeout(5):
            await until_filled(limiter)
        release(await admit(limiter, 11), dispatched=True)
        await admit(limiter, 12)
        assert await refused(limiter, 13) is Limit.KEY
    assert rows.read == 1


async def test_a_restart_is_noticed_although_the_data_is_there(rows: Rows) -> None:
    """What was written last may be missing in it, as after a failover."""
    async with RedisServer("--appendonly", "yes") as server, open_limiter(server, rows) as limiter:
        await admit(limiter, 1)
        await server.stop()
        await server.start()
        with pytest.raises(LimiterUnavailable):
            await admit(limiter, 2)
        await until_filled(limiter)
        assert (await limiter.state(ALICE)).remaining == 59
    assert rows.read == 1


async def test_one_process_of_several_fills_it_again(server: RedisServer, rows: Rows) -> None:
    async with contextlib.AsyncExitStack() as stack:
        limiters = [
            await stack.enter_async_context(open_limiter(server, rows, remembers=False, filled=False)) for _ in range(4)
        ]
        await asyncio.gather(*map(until_filled, limiters))
    assert rows.read == 1


async def test_a_process_that_dies_while_it_fills_is_replaced(server: RedisServer, rows: Rows) -> None:
    await server.command("SET", LOCK, "a dead process", "PX", 2500)
    async with open_limiter(server, rows, remembers=False):
        assert rows.read == 1


async def test_whoever_lost_the_lock_does_not_say_that_it_is_filled(server: RedisServer, rows: Rows) -> None:
    async def read_and_lose(*, since_us: int) -> list[RecentRequest]:
        if rows.read == 0:
            await server.command("FLUSHALL")
        return await rows(since_us=since_us)

    limiter = RedisLimiter(server.url, limits(), SystemClock(), recent=read_and_lose)
    await until_filled(limiter)
    await limiter.aclose()
    assert rows.read == 2


async def test_an_admission_stands_only_for_as_long_as_a_refill_waits(server: RedisServer, rows: Rows) -> None:
    clock = FakeClock()
    async with open_limiter(server, rows, clock=clock) as limiter:
        admission = await admit(limiter, 1)
        clock.advance(ADMISSION_SECONDS_MAX)
        assert admission.is_still_valid()
        clock.advance(0.000001)
        assert not admission.is_still_valid()


async def test_leases_last_while_the_call_runs_and_end_by_themselves_after_a_crash(
    server: RedisServer, rows: Rows
) -> None:
    clock = FakeClock()
    async with open_limiter(server, rows, clock=clock, user=2) as other:
        async with open_limiter(server, rows, clock=clock, user=2) as dying:
            await admit(dying, 1)
            await admit(dying, 2)
            clock.advance(LEASE_US / 1_500_000)
            dying.renew()
            await until_filled(dying)
            clock.advance(LEASE_US / 1_500_000)
            assert await refused(other, 3) is Limit.CONCURRENCY
        clock.advance(LEASE_US / 1_000_000)
        await admit(other, 4)


async def test_the_end_of_another_request_does_not_free_a_lease(server: RedisServer, rows: Rows) -> None:
    """Fencing: an end that comes late, after its lease ran out and another took the place, ends nothing else."""
    clock = FakeClock()
    async with open_limiter(server, rows, clock=clock, user=1) as limiter:
        old = await admit(limiter, 1)
        clock.advance(LEASE_US / 1_000_000)
        await admit(limiter, 2)
        release(old, dispatched=True)
        assert await refused(limiter, 3) is Limit.CONCURRENCY


async def test_two_processes_share_every_limit_exactly(server: RedisServer, rows: Rows) -> None:
    async with (
        open_limiter(server, rows, key=60, user=10**6, upstream=75) as one,
        open_limiter(server, rows, key=60, user=10**6, upstream=75) as two,
    ):
        calls = [admit((one, two)[n % 2], n) for n in range(100)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(not isinstance(result, Exception) for result in results) == 60
        calls = [admit((one, two)[n % 2], n, BOB) for n in range(100, 200)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(not isinstance(result, Exception) for result in results) == 15
    async with open_limiter(server, rows, user=10) as one, open_limiter(server, rows, user=10) as two:
        await server.command("DEL", "{tok0n}:everything", "{tok0n}:key:key_a", "{tok0n}:leases:acct_a")
        calls = [admit((one, two)[n % 2], n) for n in range(300, 340)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(not isinstance(result, Exception) for result in results) == 10


async def test_a_server_that_evicts_is_refused_and_said_why(rows: Rows) -> None:
    options = ("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    async with RedisServer(*options) as server, open_limiter(server, rows, remembers=False, filled=False) as limiter:
        with pytest.raises(LimiterUnavailable) as refusal:
            await admit(limiter, 1)
        assert "maxmemory-policy must be noeviction" in refusal.value.detail
        await server.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
        await until_filled(limiter)


async def test_on_a_cluster_it_follows_the_keys_to_their_node(rows: Rows) -> None:
    def options() -> list[str]:
        return ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]

    async with RedisServer(*options()) as here, RedisServer(*(there_options := options())) as there:
        await there.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await here.command("CLUSTER", "MEET", "127.0.0.1", there.port, there_options[-1])
        async with asyncio.timeout(30):
            while b"cluster_state:ok" not in await here.command("CLUSTER", "INFO"):
                await asyncio.sleep(0.05)
        async with open_limiter(here, rows, remembers=False, key=2) as limiter:
            await admit(limiter, 1)
            await admit(limiter, 2)
            assert await refused(limiter, 3) is Limit.KEY
        assert await there.command("ZCARD", "{tok0n}:key:key_a") == 2


async def test_a_command_waits_until_redis_has_its_data_and_no_longer(server: RedisServer, rows: Rows) -> None:
    async with open_limiter(server, rows, remembers=False, filled=False) as limiter:
        await limiter.wait_until_ready(seconds_max=30)
        release(await admit(limiter, 1), dispatched=True)
        await server.stop()
        with pytest.raises(LimiterUnavailable):
            await limiter.wait_until_ready(seconds_max=0.1)
