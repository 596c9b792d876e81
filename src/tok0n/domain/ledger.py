"""Balances, reservations and receipts. `ledger_rules` has the rules for changing them.

Amounts are integers of LLM tokens. Times are integers of microseconds since the Unix epoch.
"""

from enum import StrEnum

import msgspec

from tok0n.domain.budgets import BudgetPeriod
from tok0n.domain.usage import Usage

STANDARD = "standard"
"""The token class that always exists. Models and packs that name no class belong to it."""

MICROSECONDS_PER_SECOND = 1_000_000
MICROSECONDS_PER_HOUR = 3_600_000_000

MICROSECONDS_PER_QUARTER_HOUR = MICROSECONDS_PER_HOUR // 4
"""Use is summed by quarter hours, because the offset of every time zone is a multiple of 15 minutes."""

MICROSECONDS_PER_DAY = 24 * MICROSECONDS_PER_HOUR


class RequestStatus(StrEnum):
    """The status of a request row, which is both the reservation and the log entry of a request."""

    PENDING = "PENDING"
    SETTLED = "SETTLED"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"


class EntryKind(StrEnum):
    """Why an account's posted tokens changed."""

    PURCHASE = "purchase"
    GRANT = "grant"
    USAGE = "usage"
    REFUND = "refund"
    DISPUTE = "dispute"
    ADJUSTMENT = "adjustment"


class Balance(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The tokens of a wallet: those that the account owns (`posted`) and has reserved (`pending`).

    A wallet is the part of an account in one token class. Always 0 ≤ pending ≤ posted.
    """

    posted: int
    pending: int

    @property
    def available(self) -> int:
        """The tokens that a new reservation can take."""
        return self.posted - self.pending

    def is_below(self, threshold_tokens: int | None) -> bool:
        """Whether the account owns less than a threshold; False without one."""
        return threshold_tokens is not None and self.posted < threshold_tokens


class NewReservation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The request row to insert, with the tokens to reserve for it in the wallet of `token_class`.

    `key_version` is the version that the key had when its caller was read. `periods` are the periods of the key's
    budgets that the request counts in, sorted by budget. `endpoint` is the name of the endpoint. `is_stream`: the
    customer asked for a stream.
    """

    request_id: str
    account_id: str
    api_key_id: str
    model: str
    tokens: int
    created_at_us: int
    expires_at_us: int
    token_class: str = STANDARD
    key_version: int = 1
    periods: tuple[BudgetPeriod, ...] = ()
    is_stream: bool = False
    endpoint: str = "chat"


class Settlement(msgspec.Struct, frozen=True, kw_only=True):
    """The use that the upstream reported for a request.

    `reservation` is the request's reservation if it is still in memory, so the ledger need not read its row. Only
    streams have `first_event_ms`, the time from sending the request to the upstream's first event with content, and
    `client_left`, whether the client left before the end.
    """

    request_id: str
    usage: Usage
    resolved_at_us: int
    upstream_ms: int
    reservation: NewReservation | None = None
    first_event_ms: int | None = None
    client_left: bool = False


class Release(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The end of a reservation without a charge. `code` is the error code that says why.

    `dispatched` is False only if the gateway sent nothing to the upstream. `first_event_ms` is as in `Settlement`.
    """

    request_id: str
    code: str
    dispatched: bool
    resolved_at_us: int
    first_event_ms: int | None = None


class Receipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The charge of a settled request, and the balance after it.

    `shortfall` is the use that neither the reservation nor the balance could cover. It is the operator's loss.
    """

    request_id: str
    reserved: int
    charged: int
    shortfall: int
    balance: Balance


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """An inconsistency that the audit found: `what` is wrong with `subject`. `found` is the actual figure."""

    subject: str
    what: str
    expected: int | None
    found: int | None


class AuditReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of recomputing every balance from the ledger entries and the request rows."""

    accounts: int
    requests: int
    entries: int
    shortfall: int
    differences: list[Difference]

    @property
    def ok(self) -> bool:
        """Whether the audit found no differences."""
        return not self.differences
