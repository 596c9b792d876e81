"""The limiter of several processes. One script call decides about each batch of requests, with Redis's clock.

It fails closed: it admits requests only if the server has the data of the last minute, which is the case if its epoch
key has its run id. After a flush, a restart or a failover it has not, and one process refills it from the database
(`refill.py`).
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from tok0n.adapters.batcher import Batcher
from tok0n.adapters.redis.connection import CALL_SECONDS_MAX, Script, ScriptConnection, Unreachable
from tok0n.adapters.redis.refill import ADMISSION_SECONDS_MAX, EPOCH, EVERYTHING, LEASE_US, Refill
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import Limit, LimiterUnavailable, RateLimited
from tok0n.domain.rate_limit import RateLimits
from tok0n.ports.clock import Clock
from tok0n.ports.ledger import RecentRequest
from tok0n.ports.limiter import Admission, RateState

BATCH_MAX = 256
QUEUE_MAX = 1_000
OUTBOX_MAX = 10_000
"""The most releases to keep while the server is unreachable. Leases of dropped releases expire by themselves."""

RENEW_SECONDS = 10.0
"""The interval of renewals, a third of a lease."""

_SCRIPT = Script((Path(__file__).parent / "limiter.lua").read_text("utf-8"))
_FORGOTTEN = -1
_REJECTED_BY = {1: Limit.KEY, 2: Limit.CONCURRENCY, 3: Limit.GLOBAL}

Recent = Callable[..., Awaitable[list[RecentRequest]]]


class _Command(NamedTuple):
    """A command of the script. `requested_at` is the monotonic time of the admission.

    `account_id` is empty for an admission that takes no concurrency. `key_limit` is the key's limit per minute.
    """

    kind: str
    request_id: str
    api_key_id: str
    account_id: str
    key_limit: int = 0
    requested_at: float = 0.0


_ARGUMENTS = 5
"""The members of a command that the script gets."""


class RedisLimiter:
    """The `Limiter` port on Redis or Valkey. `recent` is `ports.Ledger.recent`."""

    def __init__(
        self, url: str, limits: RateLimits, clock: Clock, *, recent: Recent, call_seconds_max: float = CALL_SECONDS_MAX
    ) -> None:
        """Raises `ValueError` for an invalid URL."""
        self._limits = limits
        self._clock = clock
        self._script = _SCRIPT
        self._connection = ScriptConnection(url, call_seconds_max=call_seconds_max)
        self._refill = Refill(self._connection, clock, recent)
        self._batcher: Batcher[_Command, Any] = Batcher(
            self._run, name="limiter", batch_max=BATCH_MAX, queue_max=QUEUE_MAX
        )
        self._running: dict[str, str] = {}
        self._outbox: deque[_Command] = deque(maxlen=OUTBOX_MAX)
        self._renewing: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Refill Redis now if it has lost its data, instead of after the first rejected request."""
        self._refill.begin()

    async def wait_until_ready(self, *, seconds_max: float) -> None:
        """Wait until Redis has the data of the last minute. Raises `LimiterUnavailable` after `seconds_max`."""
        failure = LimiterUnavailable(detail=f"no answer within {seconds_max:g} seconds")
        try:
            async with asyncio.timeout(seconds_max):
                while True:
                    try:
                        return await self.probe()
                    except LimiterUnavailable as error:
                        failure = error
                    await self._refill.wait_until_finished()
        except TimeoutError:
            raise failure from None

    def admit(self, caller: Caller, *, request_id: str, is_concurrent: bool = True) -> Admission:
        requested_at = self._clock.monotonic()
        account_id = caller.account_id if is_concurrent else ""
        key_limit = self._limits.key_limit(caller.requests_per_minute)
        return _Admission(self, _Command("admit", request_id, caller.api_key_id, account_id, key_limit, requested_at))

    def admit_operator(self, *, request_id: str) -> Admission:
        return _Admission(self, _Command("operator", request_id, "", "", requested_at=self._clock.monotonic()))

    async def probe(self) -> None:
        await self.submit(_Command("state", "", "", ""))

    async def forget_idle_keys(self) -> None:
        """Do nothing: the keys in Redis expire by themselves."""

    def state(self, caller: Caller) -> asyncio.Future[RateState]:
        return self.submit(
            _Command("state", "", caller.api_key_id, "", self._limits.key_limit(caller.requests_per_minute))
        )

    async def aclose(self) -> None:
        """Flush the outbox, then close the connection. Leases that remain expire by themselves."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait([self._renewing])
        if self._outbox:
            self._flush()
        await self._batcher.wait_until_drained()
        await self._refill.aclose()
        await self._connection.aclose()

    def is_valid(self, requested_at: float) -> bool:
        """Whether an admission that was requested at `requested_at` is still valid."""
        return self._clock.monotonic() - requested_at <= ADMISSION_SECONDS_MAX

    def release(self, command: _Command) -> None:
        """Release a request's slots with the next batch."""
        self._running.pop(command.request_id, None)
        self._outbox.append(command)
        self._flush()

    def undo(self, command: _Command) -> asyncio.Future[RateState]:
        """Undo an admission. The future is done when its request may be admitted again."""
        self._running.pop(command.request_id, None)
        return self._batcher.submit(command._replace(kind="undo"), bypass_limit=True)

    def submit(self, command: _Command) -> asyncio.Future[RateState]:
        """Queue a command for the next script call. The future can't be cancelled (see `Batcher`)."""
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._keep_renewing(), name="limiter leases")
        return self._batcher.submit(command)

    def _flush(self) -> None:
        """Flush the outbox now, unless a running batch will pick it up."""
        if self._batcher.is_idle:
            self._batcher.submit(_Command("state", "", "", ""), bypass_limit=True).add_done_callback(_consume_error)

    def renew(self) -> None:
        """Extend the leases of running requests, or restore them on a server that has lost them."""
        self._outbox.extend(_Command("renew", request, "", account) for request, account in self._running.items())
        if self._outbox:
            self._flush()

    async def _keep_renewing(self) -> None:
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            self.renew()

    async def _run(self, commands: list[_Command]) -> list[Any]:
        outgoing = [self._outbox.popleft() for _ in range(min(len(self._outbox), BATCH_MAX))]
        limits = self._limits
        arguments: list[Any] = [
            limits.concurrent_requests_per_account,
            limits.upstream_requests_per_minute,
            LEASE_US,
        ]
        for command in (*outgoing, *commands):
            arguments += command[:_ARGUMENTS]
        try:
            reply = await self._connection.run(self._script, [EPOCH, EVERYTHING], arguments)
        except Unreachable as error:
            self._requeue(outgoing, commands, sent=error.sent)
            return [LimiterUnavailable(detail=str(error))] * len(commands)
        offset = 3 * len(outgoing)
        return [
            self._to_result(command, *reply[offset + 3 * n : offset + 3 * n + 3]) for n, command in enumerate(commands)
        ]

    def _requeue(self, outgoing: list[_Command], commands: list[_Command], *, sent: bool) -> None:
        """Put outgoing commands back, and undo admissions that Redis may have granted without our knowledge."""
        self._outbox.extendleft(command for command in reversed(outgoing) if command.kind != "renew")
        self._outbox.extend(command for command in commands if command.kind == "undo")
        if sent:
            self._outbox.extend(
                command._replace(kind="undo") for command in commands if command.kind in {"admit", "operator"}
            )

    def _to_result(self, command: _Command, rejected_by: int, used: int, microseconds: int) -> Any:
        if rejected_by == _FORGOTTEN:
            self._refill.begin()
            return LimiterUnavailable(detail="Redis has lost its data and is being refilled from the database")
        limit = command.key_limit
        if rejected_by:
            return self._rejection(command, _REJECTED_BY[rejected_by], seconds=microseconds / 1_000_000)
        if command.kind == "operator":
            limit, used = self._limits.upstream_requests_per_minute, self._limits.upstream_requests_per_minute
        if command.account_id and command.kind == "admit":
            self._running[command.request_id] = command.account_id
        return RateState(limit=limit, remaining=max(0, limit - used), reset_seconds=microseconds / 1_000_000)

    def _rejection(self, command: _Command, which: Limit, *, seconds: float) -> RateLimited:
        limits = {
            Limit.KEY: command.key_limit,
            Limit.CONCURRENCY: self._limits.concurrent_requests_per_account,
            Limit.GLOBAL: self._limits.upstream_requests_per_minute,
        }
        return RateLimited(which=which, limit=limits[which], retry_after_seconds=seconds)


class _Admission:
    """The `Admission` port on Redis."""

    __slots__ = ("_command", "_holds_slots", "_limiter", "dispatched", "rate")

    def __init__(self, limiter: RedisLimiter, command: _Command) -> None:
        self._limiter = limiter
        self._command = command
        self._holds_slots = False
        self.dispatched = False
        self.rate: RateState

    async def __aenter__(self) -> Self:
        # A cancelled task continues only after Redis has replied. If Redis admitted the request, release it here,
        # because the block is never entered.
        decision = self._limiter.submit(self._command)
        try:
            self.rate = await decision
        except asyncio.CancelledError:
            self._holds_slots = decision.exception() is None
            self.release()
            raise
        self._holds_slots = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    async def undo(self) -> None:
        assert self._holds_slots
        assert not self.dispatched
        self._holds_slots = False
        await self._limiter.undo(self._command)

    def is_still_valid(self) -> bool:
        return self._holds_slots and self._limiter.is_valid(self._command.requested_at)

    def release(self) -> None:
        if self._holds_slots:
            self._holds_slots = False
            self._limiter.release(self._command._replace(kind="end" if self.dispatched else "unsent"))


def _consume_error(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception, because asyncio warns about exceptions that are never retrieved."""
    if not future.cancelled():
        future.exception()
