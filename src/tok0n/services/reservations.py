"""The life of a reservation, in one context manager: leaving it always ends the reservation.

The futures of the ledger cannot be cancelled (`ports.Ledger`): a cancelled task gets its `CancelledError` once the
ledger has answered, so it never leaves tokens reserved, or charged without a trace.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Self

import structlog

from tok0n.domain.errors import AccountingFailed, AlreadyResolved, Overloaded, Tok0nError, UpstreamFailed
from tok0n.domain.ledger import NewReservation, Receipt, Release, Settlement
from tok0n.domain.usage import Usage
from tok0n.ports.clock import Clock
from tok0n.ports.ledger import Ledger

log = structlog.get_logger()

SETTLE_ATTEMPTS = 3
SETTLE_PAUSES_SECONDS = (0.1, 1.0)
"""How long to wait before each further attempt to settle."""

FAILED_RELEASES_MAX = 10_000
"""How many failed releases are kept for another attempt; beyond it they wait for their expiry."""

CANCELLED_CODE = "cancelled"


class Reservations:
    """Opens reservations, and keeps the releases that the database could not take yet."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self.ledger = ledger
        self.clock = clock
        self.failed_releases: deque[Release] = deque(maxlen=FAILED_RELEASES_MAX)

    def open(self, new: NewReservation) -> "Reservation":
        """A reservation that is made on entering and has ended on leaving."""
        return Reservation(self, new)

    async def release(self, release: Release) -> None:
        """Release, now or as soon as the database can. The customer was told that nothing is charged."""
        try:
            await self._release(release)
        except Tok0nError as error:
            self.failed_releases.append(release)
            log.error("release_failed", request=release.request_id, detail=error.detail or error.message)

    async def retry_releases(self) -> int:
        """Try each failed release once more; gives how many still fail."""
        for _ in range(len(self.failed_releases)):
            release = self.failed_releases.popleft()
            try:
                await self._release(release)
            except Tok0nError:
                self.failed_releases.append(release)
        return len(self.failed_releases)

    async def _release(self, release: Release) -> None:
        """A settlement whose outcome nobody could learn may have been committed: then its charge is given back."""
        try:
            await self.ledger.release(release)
        except AlreadyResolved:
            await self.ledger.reverse(request_id=release.request_id, now_us=self.clock.now_us())
            log.warning("charge_reversed", request=release.request_id)


class Reservation:
    """Tokens set aside for one request: settled inside the block, or released on leaving it.

    Set `dispatched` just before anything of the request may reach the upstream.
    """

    __slots__ = ("_new", "_owner", "_receipt", "dispatched")

    def __init__(self, owner: Reservations, new: NewReservation) -> None:
        self._owner = owner
        self._new = new
        self.dispatched = False
        self._receipt: Receipt | None = None

    async def __aenter__(self) -> Self:
        """Reserve. Raises what `ports.Ledger.reserve` raises."""
        reserving = self._owner.ledger.reserve(self._new)
        try:
            await reserving
        except asyncio.CancelledError:
            if reserving.exception() is None:
                await self._release(CANCELLED_CODE)
            raise
        except AccountingFailed as error:
            if error.outcome_unknown:
                self._owner.failed_releases.append(self._release_as(error.code))
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Release what was not settled, durably, before anybody hears of the failure."""
        if self._receipt is not None:
            return
        if isinstance(error, UpstreamFailed):
            self.dispatched = error.reached
        elif isinstance(error, Overloaded):
            self.dispatched = False
        await self._release(_code(error))

    async def settle(self, usage: Usage, *, upstream_ms: int) -> Receipt:
        """Charge what was used. Raises `AccountingFailed` when it cannot be done; then nothing is charged."""
        clock = self._owner.clock
        settlement = Settlement(
            request_id=self._new.request_id,
            usage=usage,
            resolved_at_us=clock.now_us(),
            upstream_ms=upstream_ms,
            reservation=self._new,
        )
        for attempt in range(SETTLE_ATTEMPTS):
            if attempt:
                await asyncio.sleep(SETTLE_PAUSES_SECONDS[attempt - 1])
            settling = self._owner.ledger.settle(settlement)
            try:
                self._receipt = await settling
            except asyncio.CancelledError:
                if settling.exception() is None:
                    self._receipt = settling.result()
                raise
            except AlreadyResolved as error:
                raise AccountingFailed(upstream_called=True, detail=error.message) from error
            except AccountingFailed as error:
                failure = error
            else:
                return self._receipt
        raise AccountingFailed(upstream_called=True, detail=failure.detail) from failure

    async def _release(self, code: str) -> None:
        await self._owner.release(self._release_as(code))

    def _release_as(self, code: str) -> Release:
        return Release(
            request_id=self._new.request_id,
            code=code,
            dispatched=self.dispatched,
            resolved_at_us=self._owner.clock.now_us(),
        )


def _code(error: BaseException | None) -> str:
    assert error is not None, "left without settling and without a reason"
    if isinstance(error, Tok0nError):
        return error.code
    return Tok0nError.code if isinstance(error, Exception) else CANCELLED_CODE
