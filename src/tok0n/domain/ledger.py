"""What a reservation is, how it ends, and what a balance is. The database decides; this page says what it may decide.

All amounts are LLM tokens, integers. Times are microseconds since the Unix epoch, integers.
"""

from enum import StrEnum

import msgspec

from tok0n.domain.usage import Usage

US_AN_HOUR = 3_600_000_000
"""Microseconds in an hour: use is also kept by the hour since the Unix epoch, in which it was charged."""

MICROSECONDS_PER_DAY = 24 * US_AN_HOUR


class RequestStatus(StrEnum):
    """The life of a request row, which is the reservation and the log in one."""

    PENDING = "PENDING"
    SETTLED = "SETTLED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


class EntryKind(StrEnum):
    """Why the posted balance of an account changed."""

    PURCHASE = "purchase"
    GRANT = "grant"
    USAGE = "usage"
    REFUND = "refund"
    DISPUTE = "dispute"
    ADJUSTMENT = "adjustment"


class Balance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What an account owns and what of it is reserved. 0 ≤ pending ≤ posted, always."""

    posted: int
    pending: int

    @property
    def available(self) -> int:
        """What a new reservation may take."""
        return self.posted - self.pending

    def is_below(self, threshold_tokens: int | None) -> bool:
        """Whether the account owns less than a threshold; False without one."""
        return threshold_tokens is not None and self.posted < threshold_tokens


class NewReservation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Tokens to set aside for one request, and the row that will be its log."""

    request_id: str
    account_id: str
    api_key_id: str
    model: str
    tokens: int
    created_at_us: int
    expires_at_us: int
    has_budget: bool = False


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The use that the upstream reported for one request.

    `reservation` is the one that was made for it, where it is still at hand: it spares reading its row again.
    """

    request_id: str
    usage: Usage
    resolved_at_us: int
    upstream_ms: int
    reservation: NewReservation | None = None


class Release(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The end of a reservation that is not charged. `code` says why, in the words of the error table.

    `dispatched` is False when certainly nothing reached the upstream.
    """

    request_id: str
    code: str
    dispatched: bool
    resolved_at_us: int


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one settled request cost, and the balance right after it.

    `shortfall` is use that neither the reservation nor the balance could cover: the operator's loss.
    """

    request_id: str
    reserved: int
    charged: int
    shortfall: int
    balance: Balance


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the audit found wrong: `what` about `subject`, the figure expected and the figure found."""

    subject: str
    what: str
    expected: int | None
    found: int | None


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of recomputing every balance from the entries and the request rows."""

    accounts: int
    requests: int
    entries: int
    shortfall: int
    differences: list[Difference]

    @property
    def ok(self) -> bool:
        """Whether every balance can be recomputed."""
        return not self.differences
