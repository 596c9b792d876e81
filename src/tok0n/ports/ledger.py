"""The ledger: the life of a reservation, and the audit of all of them.

Methods that return a `Future` never block, and raise `Overloaded` immediately if their queue is full. A submitted
command always runs, even if its caller is cancelled: the futures can't be cancelled, and a task that is cancelled while
it awaits one gets its `CancelledError` when the future is done.
"""

from asyncio import Future
from collections.abc import Callable
from typing import Protocol

import msgspec

from tok0n.domain.accounts import Caller
from tok0n.domain.ledger import AuditReport, Balance, NewReservation, Receipt, Release, Settlement


class RecentRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A request of the last minute, or one that is still PENDING.

    `dispatched` is False only if the gateway sent nothing to the upstream. The operator's requests have no caller.
    """

    request_id: str
    caller: Caller | None
    created_at_us: int
    dispatched: bool
    pending: bool


class Ledger(Protocol):
    """The life of reservations. A future resolves only after its command is durable."""

    def has_room(self) -> bool:
        """Whether `reserve` would currently accept a reservation, instead of raising `Overloaded`."""

    def reserve(self, reservation: NewReservation) -> Future[Balance]:
        """Reserve tokens in one statement that also checks the key, its budgets and the account.

        Returns the balance after it. Raises `KeyChanged` if the key has another version than its caller,
        `InvalidApiKey`, `KeyBudgetSpent`, `InsufficientTokens` (with 0 as `largest_output_tokens`, which the pipeline
        computes), `Overloaded`, or `AccountingFailed` if the database fails. After an error, nothing is reserved,
        unless it has `outcome_unknown`.
        """

    def settle(self, settlement: Settlement) -> Future[Receipt]:
        """Charge the use and release the rest. A repetition returns the first charge with the current balance.

        Raises `AlreadyResolved` if the reservation was released or has expired, and `AccountingFailed` if the database
        fails. Then nothing is charged. Never raises `Overloaded`, because every reservation must be able to end.
        """

    def release(self, release: Release) -> Future[None]:
        """End a reservation without a charge. Does nothing if it was released or has expired.

        Raises `AlreadyResolved` if it was settled, and `AccountingFailed` if the database fails. Never raises
        `Overloaded`.
        """

    async def reverse(self, *, request_id: str, now_us: int) -> None:
        """Give back, once, the charge of a request whose customer got the message that it was not charged.

        Appends an `adjustment` entry. Does nothing if the request is not settled. Raises `AccountingFailed`.
        """

    async def expire(self, *, now_us: int, rows_max: int) -> int:
        """Expire at most `rows_max` PENDING reservations past their expiry. Returns how many."""

    async def recover(self, *, now_us: int) -> int:
        """Expire every PENDING reservation. Call it only if no other process uses the database. Returns how many."""

    async def recent(self, *, since_us: int) -> "list[RecentRequest]":
        """Return the requests to refill a limiter with, oldest first.

        These are the requests created at or after `since_us`, including the operator's, and every PENDING one.
        """

    async def audit(self, *, progress: Callable[[int], None] = ...) -> AuditReport:
        """Recompute every balance from the ledger entries and the request rows, in many short snapshots.

        Calls `progress` with the number of rows read so far. Other processes can keep writing.
        """
