"""Reserve tokens in a context manager that ends the reservation: with a charge, or with a release.

If the database can't record the release, it is retried; at worst, the reservation expires.

The ledger's futures can't be cancelled (`ports.ledger.Ledger`). A cancelled task gets its `CancelledError` after the
ledger has responded, so it never leaves tokens reserved and never loses track of a charge.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

import msgspec
import structlog

from tok0n.domain.errors import AccountingFailed, AlreadyResolved, Overloaded, Tok0nError, UpstreamFailed
from tok0n.domain.ledger import NewReservation, Receipt, Release, Settlement
from tok0n.domain.usage import Usage
from tok0n.ports.clock import Clock
from tok0n.ports.ledger import Ledger

log = structlog.get_logger()

SETTLE_ATTEMPTS = 3
SETTLE_PAUSES_SECONDS = (0.1, 1.0)
"""The pause before each further attempt to settle."""

FAILED_RELEASES_MAX = 10_000
"""The most failed releases to retry. Beyond it, the oldest are dropped and their reservations expire."""

CANCELLED_CODE = "cancelled"

NOT_METERED_CODE = "not_metered"
"""The code of an answer that costs nothing."""


class Reservations:
    """Retries the releases that failed. All reservations of a process share it."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.failed_releases: deque[Release] = deque(maxlen=FAILED_RELEASES_MAX)

    async def release(self, release: Release) -> None:
        """Release a reservation, and queue the release for a retry if it fails.

        It must succeed eventually, because the error response says that nothing was charged.
        """
        try:
            await self._release(release)
        except Tok0nError as error:
            self.failed_releases.append(release)
            log.error("release_failed", request=release.request_id, detail=error.detail or error.message)

    async def retry_releases(self) -> int:
        """Retry each failed release once, and return the number that still fail."""
        for _ in range(len(self.failed_releases)):
            release = self.failed_releases.popleft()
            try:
                await self._release(release)
            except Tok0nError:
                self.failed_releases.append(release)
        return len(self.failed_releases)

    async def _release(self, release: Release) -> None:
        """Release a reservation. If a settlement of unknown outcome was committed, reverse its charge."""
        try:
            await self.ledger.release(release)
        except AlreadyResolved:
            await self.ledger.reverse(request_id=release.request_id, now_us=self.clock.now_us())
            log.warning("charge_reversed", request=release.request_id)


class Reservation(msgspec.Struct, eq=False):
    """A context manager that reserves tokens for one request. Settle it inside the block, or it is released on exit.

    Set `dispatched` before any byte of the request can reach the upstream. `first_event_ms` is as in `Settlement`.
    `receipt` is set once the charge is committed, even if the task was cancelled meanwhile.
    """

    owner: Reservations
    new: NewReservation
    dispatched: bool = False
    first_event_ms: int | None = None
    receipt: Receipt | None = None
    _is_released: bool = False

    async def __aenter__(self) -> Self:
        """Reserve the tokens. Raises the errors of `ports.Ledger.reserve`."""
        reserving = self.owner.ledger.reserve(self.new)
        try:
            await reserving
        except asyncio.CancelledError:
            if reserving.exception() is None:
                await self._release(CANCELLED_CODE)
            raise
        except AccountingFailed as error:
            if error.outcome_unknown:
                self.owner.failed_releases.append(self._release_as(error.code))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release the reservation unless it was settled. The error response waits for the attempt."""
        if self.receipt is not None or self._is_released:
            return
        if isinstance(error, UpstreamFailed):
            self.dispatched = error.reached
        elif isinstance(error, Overloaded):
            self.dispatched = False
        await self._release(_code(error))

    async def settle(self, usage: Usage, *, upstream_ms: int, client_left: bool = False) -> Receipt:
        """Charge the usage. Raises `AccountingFailed` if that fails, and then nothing is charged."""
        clock = self.owner.clock
        settlement = Settlement(
            request_id=self.new.request_id,
            usage=usage,
            resolved_at_us=clock.now_us(),
            upstream_ms=upstream_ms,
            reservation=self.new,
            first_event_ms=self.first_event_ms,
            client_left=client_left,
        )
        for attempt in range(SETTLE_ATTEMPTS):
            if attempt:
                await asyncio.sleep(SETTLE_PAUSES_SECONDS[attempt - 1])
            settling = self.owner.ledger.settle(settlement)
            try:
                self.receipt = await settling
            except asyncio.CancelledError:
                if settling.exception() is None:
                    self.receipt = settling.result()
                raise
            except AlreadyResolved as error:
                raise AccountingFailed(upstream_called=True, detail=error.message) from error
            except AccountingFailed as error:
                failure = error
            else:
                if self.receipt.shortfall:
                    new = self.new
                    log.error("shortfall", request=new.request_id, model=new.model, tokens=self.receipt.shortfall)
                return self.receipt
        raise AccountingFailed(upstream_called=True, detail=failure.detail) from failure

    async def release_unbilled(self) -> None:
        """Release the reservation of an answer that costs nothing."""
        self._is_released = True
        await self._release(NOT_METERED_CODE)

    async def _release(self, code: str) -> None:
        await self.owner.release(self._release_as(code))

    def _release_as(self, code: str) -> Release:
        return Release(
            request_id=self.new.request_id,
            code=code,
            dispatched=self.dispatched,
            resolved_at_us=self.owner.clock.now_us(),
            first_event_ms=self.first_event_ms,
        )


def _code(error: BaseException | None) -> str:
    assert error is not None, "the block ended without a settlement or an error"
    if isinstance(error, Tok0nError):
        return error.code
    return Tok0nError.code if isinstance(error, Exception) else CANCELLED_CODE
