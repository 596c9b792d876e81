"""The limiter of a single process. It checks all three limits without an await between them.

After a restart, `refill` restores it from the request rows of the last minute.
"""

from collections.abc import Iterable
from types import TracebackType
from typing import NoReturn, Self

from tok0n.domain.accounts import Caller
from tok0n.domain.errors import Limit, RateLimited
from tok0n.domain.rate_limit import WINDOW_SECONDS, RateLimits, SlidingWindow
from tok0n.ports.clock import Clock
from tok0n.ports.ledger import RecentRequest
from tok0n.ports.limiter import Admission, RateState

CONCURRENCY_RETRY_SECONDS = 1.0
"""The end of a request in progress is unknown, so clients are told the shortest `retry-after`."""


class MemoryLimiter:
    """The `Limiter` port in memory."""

    def __init__(self, limits: RateLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._keys: dict[str, SlidingWindow] = {}
        self._older_keys: dict[str, SlidingWindow] = {}
        """The keys that had requests before the last `forget_idle_keys`, and none since."""
        self._forgot_at = clock.monotonic()
        self._running: dict[str, int] = {}
        self._global = SlidingWindow()

    @property
    def keys_remembered(self) -> int:
        """The number of API keys that have a window in memory."""
        return len(self._keys) + len(self._older_keys)

    @property
    def running(self) -> dict[str, int]:
        """The number of requests in progress of each account that has any."""
        return dict(self._running)

    def refill(self, requests: Iterable[RecentRequest], *, now_us: int) -> None:
        """Count the requests of the last minute as if this limiter had admitted them."""
        now = self._clock.monotonic()
        for request in requests:
            admitted_at = now - max(0, now_us - request.created_at_us) / 1_000_000
            if request.caller is not None:
                self._window(request.caller.api_key_id).add(admitted_at)
            if request.dispatched:
                self._global.add(admitted_at)

    def admit(self, caller: Caller, *, request_id: str, is_concurrent: bool = True) -> Admission:
        del request_id  # Not needed: `refill` reads the rows before the first admission.
        return _Admission(self, caller) if is_concurrent else _RateAdmission(self, caller)

    def admit_operator(self, *, request_id: str) -> Admission:
        del request_id
        return _Admission(self, None)

    def take(self, caller: Caller, *, concurrency: int = 1) -> tuple[int, RateState, SlidingWindow, int]:
        """Take the slots of a request. Returns the number of its global slot, and its number in the key's window.

        Raises `RateLimited`.

        `concurrency` is how many slots of the account's concurrency it takes, 1 or 0.
        """
        now = self._clock.monotonic()
        limits = self._limits
        window = self._keys.get(caller.api_key_id) or self._window(caller.api_key_id)
        used = window.count(now)
        running = self._running.get(caller.account_id, 0)
        limit = limits.requests_per_minute_per_key
        if caller.requests_per_minute is not None:
            limit = limits.key_limit(caller.requests_per_minute)
        if used >= limit:
            _reject(Limit.KEY, limit, window.seconds_until_room(now))
        if concurrency and running >= limits.concurrent_requests_per_account:
            _reject(Limit.CONCURRENCY, limits.concurrent_requests_per_account, CONCURRENCY_RETRY_SECONDS)
        number = self._take_global(now)
        number_of_key = window.add(now)
        if concurrency:
            self._running[caller.account_id] = running + 1
        rate = RateState(limit=limit, remaining=limit - used - 1, reset_seconds=60.0)
        return number, rate, window, number_of_key

    def take_for_operator(self) -> tuple[int, RateState]:
        """Take a global slot. Returns its number. Raises `RateLimited`."""
        number = self._take_global(self._clock.monotonic())
        return number, RateState(limit=self._limits.upstream_requests_per_minute, remaining=0, reset_seconds=60.0)

    async def probe(self) -> None:
        """Do nothing: this limiter is always available."""

    async def forget_idle_keys(self) -> None:
        """Does nothing within a minute of the last time."""
        now = self._clock.monotonic()
        if now - self._forgot_at >= WINDOW_SECONDS:
            self._keys, self._older_keys = {}, self._keys
            self._forgot_at = now

    async def state(self, caller: Caller) -> RateState:
        limit = self._limits.key_limit(caller.requests_per_minute)
        window = self._keys.get(caller.api_key_id) or self._older_keys.get(caller.api_key_id)
        if window is None:
            return RateState(limit=limit, remaining=limit, reset_seconds=0.0)
        now = self._clock.monotonic()
        remaining = max(0, limit - window.count(now))
        return RateState(limit=limit, remaining=remaining, reset_seconds=window.seconds_until_empty(now))

    def give_back(self, number: int, caller: Caller | None, *, dispatched: bool) -> None:
        """Release the slots of an admission."""
        if not dispatched:
            self._global.take_back(number)
        if caller is None:
            return
        account_id = caller.account_id
        running = self._running[account_id] - 1
        if running:
            self._running[account_id] = running
        else:
            del self._running[account_id]

    def _window(self, api_key_id: str) -> SlidingWindow:
        window = self._keys.get(api_key_id)
        if window is None:
            window = self._keys[api_key_id] = self._older_keys.pop(api_key_id, SlidingWindow())
        return window

    def _take_global(self, now: float) -> int:
        limit = self._limits.upstream_requests_per_minute
        number = self._global.add_below(limit, now)
        if number < 0:
            _reject(Limit.GLOBAL, limit, self._global.seconds_until_room(now))
        return number


class _Admission:
    """The `Admission` port in memory."""

    __slots__ = ("_caller", "_limiter", "_number", "_number_of_key", "_window", "dispatched", "rate")

    def __init__(self, limiter: MemoryLimiter, caller: Caller | None) -> None:
        self._limiter = limiter
        self._caller = caller
        self._number: int | None = None
        self.dispatched = False
        self.rate: RateState
        self._window: SlidingWindow | None = None
        self._number_of_key: int

    async def __aenter__(self) -> Self:
        caller = self._caller
        if caller is None:
            self._number, self.rate = self._limiter.take_for_operator()
        else:
            self._number, self.rate, self._window, self._number_of_key = self._limiter.take(caller)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    async def undo(self) -> None:
        assert not self.dispatched
        if self._window is not None:
            self._window.take_back(self._number_of_key)
        self.release()

    def is_still_valid(self) -> bool:
        return True  # This limiter loses no data while it runs.

    def release(self) -> None:
        number = self._number
        if number is not None:
            self._number = None
            self._limiter.give_back(number, self._caller, dispatched=self.dispatched)


class _RateAdmission(_Admission):
    """An admission that takes no concurrency."""

    __slots__ = ()

    async def __aenter__(self) -> Self:
        caller = self._caller
        assert caller is not None
        self._number, self.rate, self._window, self._number_of_key = self._limiter.take(caller, concurrency=0)
        self._caller = None  # It has no slot of the account to release.
        return self


def _reject(which: Limit, limit: int, retry_after_seconds: float) -> NoReturn:
    raise RateLimited(which=which, limit=limit, retry_after_seconds=retry_after_seconds)
