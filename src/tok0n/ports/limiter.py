"""Rate and concurrency limits."""

from collections.abc import Awaitable
from types import TracebackType
from typing import Protocol, Self

import msgspec

from tok0n.domain.accounts import Caller


class RateState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The rate of a key: its limit per minute, the requests left, and the seconds until the full limit is available."""

    limit: int
    remaining: int
    reset_seconds: float


class Admission(Protocol):
    """The admission of one request, an async context manager.

    Entering it takes the slots, or raises `RateLimited`, `Overloaded` or `LimiterUnavailable` and takes none. Leaving
    it releases the slots. A task that is cancelled while it enters holds no slot.
    """

    dispatched: bool
    """Set it before sending anything to the upstream. The global slot then stays used."""

    @property
    def rate(self) -> RateState:
        """The key's rate including this request. Available only inside the block."""

    async def __aenter__(self) -> Self:
        """Take the slots."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the slots, as `release` does."""

    async def undo(self) -> None:
        """Give every slot back, including that of the key's rate, as if the request had never been admitted.

        The request may then be admitted again with the same id. Call it at most once, and only if nothing was sent.
        Raises `LimiterUnavailable`; the slots are then given back later.
        """

    def is_still_valid(self) -> bool:
        """Whether the request may be sent. Check it after the request's row is committed.

        A limiter that lost its data is refilled from the rows. A request that it admitted before, and that had no row
        during the refill, must not be sent.
        """

    def release(self) -> None:
        """Release the concurrency slot, and the global slot too unless the request was `dispatched`. Idempotent."""


class Limiter(Protocol):
    """The rate and concurrency decision, exact in every rolling 60 seconds."""

    def admit(self, caller: Caller, *, request_id: str, is_concurrent: bool = True) -> Admission:
        """Return an admission. Entering it checks the key's rate, the account's concurrency and the upstream rate.

        The limit of the key's rate is that of the installation, or the caller's own if that is lower.

        Without `is_concurrent`, it neither checks nor takes concurrency.

        A rejected request counts toward none of them. `request_id` is the id of the request's row, which prevents
        counting a request twice. `LimiterUnavailable` is raised in under a second.
        """

    def admit_operator(self, *, request_id: str) -> Admission:
        """Return an admission for the operator's request, which counts toward the upstream rate only."""

    async def probe(self) -> None:
        """Check that the limiter can decide. Raises `LimiterUnavailable` with the reason."""

    async def forget_idle_keys(self) -> None:
        """Free the memory of keys without a request in the last minute. Call it once a minute."""

    def state(self, caller: Caller) -> Awaitable[RateState]:
        """Return the key's rate without counting a request. Raises `LimiterUnavailable`."""
