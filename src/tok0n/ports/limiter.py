"""Rate and concurrency limits."""

from collections.abc import Awaitable
from types import TracebackType
from typing import Protocol, Self

import msgspec

from tok0n.domain.accounts import Caller


class RateState(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where one key stands: its limit, what is left of it, and the seconds until all of it is there again."""

    limit: int
    remaining: int
    reset_seconds: float


class Admission(Protocol):
    """The admission of one request, an async context manager.

    Entering it takes the slots, or raises `RateLimited`, `Overloaded` or `LimiterUnavailable` and takes none. Leaving
    it releases them, however the block ends. A task that is cancelled while it enters holds no slot afterwards.
    """

    dispatched: bool
    """Set it before anything of the request may reach the upstream: the global slot then stays used."""

    @property
    def rate(self) -> RateState:
        """Where the key stands, this request included. Only inside the block."""

    async def __aenter__(self) -> Self:
        """Take the slots."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release them, as `release` does."""

    def is_still_valid(self) -> bool:
        """Whether the request may be sent: checked after its row is committed, before it is sent.

        A limiter that lost its data is filled again from the rows. A request that it admitted earlier, and whose row
        it did not find, must not be sent.
        """

    def release(self) -> None:
        """Release the concurrency slot, and the global slot too unless the request was `dispatched`. Idempotent."""


class Limiter(Protocol):
    """The rate and concurrency decision, exact in every rolling 60 seconds."""

    def admit(self, caller: Caller, *, request_id: str) -> Admission:
        """Key RPM, account concurrency and global RPM as ONE decision, made when the admission is entered.

        A rejection uses up none of the three. `request_id` is the id of the request's row: by it a request is never
        counted twice. `LimiterUnavailable` is raised in under a second.
        """

    def admit_operator(self, *, request_id: str) -> Admission:
        """As `admit`, for a request that the operator makes: it takes a global slot only."""

    async def probe(self) -> None:
        """Prove that it can decide. Raises `LimiterUnavailable` with the reason."""

    def state(self, caller: Caller) -> Awaitable[RateState]:
        """Where the key stands, using nothing up. Raises `LimiterUnavailable`."""
