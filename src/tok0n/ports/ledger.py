"""The ledger: the life of a reservation, and the audit of all of them.

Methods that return `Future` never block, and raise `Overloaded` at once when their queue is full. A command that was
submitted runs whatever happens to its caller: the futures can't be cancelled, and a task that is cancelled while it
awaits one gets its `CancelledError` when the future is done.
"""

from asyncio import Future
from typing import Protocol

import msgspec

from tok0n.domain.accounts import Caller
from tok0n.domain.ledger import AuditReport, Balance, NewReservation, Receipt, Release, Settlement


class RecentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request of the last minute, or one that is still PENDING.

    `dispatched` is False when certainly nothing reached the upstream. The operator's own requests have no caller.
    """

    request_id: str
    caller: Caller | None
    created_at_us: int
    dispatched: bool
    pending: bool


class Ledger(Protocol):
    """The life of reservations. Every answer is durable before its future resolves."""

    def has_room(self) -> bool:
        """Whether a reservation would be taken now. Else it raises `Overloaded`: asking first spares preparing it."""

    def reserve(self, reservation: NewReservation) -> Future[Balance]:
        """Set tokens aside, in one statement that also proves the key active and the account open.

        Gives the balance after. Raises `InvalidApiKey`, `InsufficientTokens` (its `largest_output_tokens` is 0: the
        ledger knows no outputs), `Overloaded`, or `AccountingFailed` when the database fails; then nothing is reserved.
        """

    def settle(self, settlement: Settlement) -> Future[Receipt]:
        """Charge the use and release the rest. Repeated, it gives the first figures, with the current balance.

        Raises `AlreadyResolved` when the reservation was released or expired, `AccountingFailed` when the database
        fails; then nothing is charged. Never refuses for a full queue: what was reserved must be able to end.
        """

    def release(self, release: Release) -> Future[None]:
        """End a reservation that costs nothing. Repeated, or after the row expired, it does nothing.

        Raises `AlreadyResolved` when it was settled, `AccountingFailed` when the database fails. Never refuses for a
        full queue.
        """

    async def reverse(self, *, request_id: str, now_us: int) -> None:
        """Reverse, once, the charge of a request whose customer was told that it was not charged.

        It is an `adjustment` entry. Does nothing for a request that is not settled. Raises `AccountingFailed`.
        """

    async def expire(self, *, now_us: int, rows_max: int) -> int:
        """Expire what is PENDING beyond its expiry, at most `rows_max` rows; gives how many were."""

    async def recover(self, *, now_us: int) -> int:
        """Expire everything PENDING, whatever its expiry. Only for a start that knows no other process lives."""

    async def recent(self, *, since_us: int) -> "list[RecentRequest]":
        """What a limiter that forgot is filled from, oldest first.

        The requests created at or after `since_us`, all that are PENDING, and the operator's own since then.
        """

    async def audit(self) -> AuditReport:
        """Recompute everything from the entries and the request rows, in one snapshot."""
