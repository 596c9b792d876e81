"""Every limiter that the contract suite runs against."""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Sequence

from redis.asyncio import Redis

from support.fakes import FakeClock
from support.redis_server import shared_redis
from tok0n.adapters.memory.limiter import MemoryLimiter
from tok0n.adapters.redis.connection import Script
from tok0n.adapters.redis.limiter import RedisLimiter
from tok0n.adapters.redis.refill import EPOCH, EVERYTHING
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import LimiterUnavailable
from tok0n.domain.rate_limit import RateLimits
from tok0n.ports.clock import Clock
from tok0n.ports.ledger import RecentRequest
from tok0n.ports.limiter import Admission, Limiter

KINDS = ["memory", "redis"]
TIME = "redis.call('TIME')"


class ScriptAt(Script):
    """A script for which it is as late as a fake clock says."""

    def __init__(self, script: Script, clock: FakeClock) -> None:
        assert script.text.count(TIME) == 1
        self._script = script
        self._clock = clock

    @property
    def text(self) -> str:  # type: ignore[override]
        seconds, microseconds = divmod(self._clock.now_us(), 1_000_000)
        return self._script.text.replace(TIME, f"{{{seconds}, {microseconds}}}")

    @property
    def digest(self) -> str:  # type: ignore[override]
        return hashlib.sha1(self.text.encode()).hexdigest()


def make_limiter(clock: Clock, *, key: int = 60, user: int = 10, upstream: int = 55) -> MemoryLimiter:
    return MemoryLimiter(limits(key=key, user=user, upstream=upstream), clock)


def limits(*, key: int = 60, user: int = 10, upstream: int = 55) -> RateLimits:
    return RateLimits(
        requests_per_minute_per_key=key, concurrent_requests_per_account=user, upstream_requests_per_minute=upstream
    )


@contextlib.asynccontextmanager
async def open_limiter(
    kind: str,
    clock: FakeClock,
    *,
    key: int = 60,
    user: int = 10,
    upstream: int = 55,
    recent: Sequence[RecentRequest] | None = None,
) -> AsyncIterator[Limiter]:
    """A limiter that remembers nothing, or what is `recent`."""
    chosen = limits(key=key, user=user, upstream=upstream)
    if kind == "memory":
        memory = MemoryLimiter(chosen, clock)
        memory.refill(recent or [], now_us=clock.now_us())
        yield memory
        return

    async def rows(*, since_us: int) -> list[RecentRequest]:
        return [row for row in recent or [] if row.created_at_us >= since_us]

    server = await asyncio.to_thread(shared_redis)
    redis = RedisLimiter(server.url, chosen, clock, recent=rows, call_seconds_max=30)  # a busy machine is no outage
    redis._script = ScriptAt(redis._script, clock)
    redis._refill._script = ScriptAt(redis._refill._script, clock)
    client = Redis(port=server.port, protocol=2)
    await client.flushall()
    if recent is None:
        await client.set(EPOCH, (await client.info("server"))["run_id"])
    await client.aclose()
    try:
        await until_filled(redis)
        yield redis
    finally:
        await redis.aclose()


def release(admission: Admission, *, dispatched: bool) -> None:
    """Release an admission that a test entered without a block."""
    admission.dispatched = dispatched
    admission.release()


def renew_leases(limiter: Limiter) -> None:
    """What time does by itself where it passes by itself."""
    if isinstance(limiter, RedisLimiter):
        limiter.renew()


async def until_filled(limiter: Limiter) -> None:
    """Wait until the limiter decides."""
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(LimiterUnavailable):
                await limiter.state(Caller(api_key_id="key_nobody", account_id="acct_nobody"))
                return
            await asyncio.sleep(0.01)


async def slots(limiter: Limiter, clock: FakeClock, account_id: str) -> tuple[int, int]:
    """How many concurrency slots the account holds, and how many global slots are used."""
    if isinstance(limiter, MemoryLimiter):
        return limiter.running.get(account_id, 0), limiter._global.count(clock.monotonic())
    assert isinstance(limiter, RedisLimiter)
    await limiter._batcher.wait_until_drained()
    assert not limiter._running
    assert not limiter._outbox
    redis = shared_redis()
    return await redis.command("ZCARD", f"{{tok0n}}:leases:{account_id}"), await redis.command("ZCARD", EVERYTHING)
