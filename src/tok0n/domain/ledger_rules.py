"""The rules of the ledger: how an event changes the rows of a wallet, an API key, its budgets and a request.

These pure functions are the specification that both SQL dialects implement, and contract tests compare the databases
with them. No server calls them: rows that Python has read may be stale, so the database decides in one statement.
"""

from collections.abc import Mapping

import msgspec

from tok0n.domain.errors import AlreadyResolved, InsufficientTokens, InvalidApiKey, KeyBudgetSpent, KeyChanged
from tok0n.domain.ledger import EntryKind, NewReservation, RequestStatus

TRANSITIONS = {
    (RequestStatus.PENDING, "settle"): RequestStatus.SETTLED,
    (RequestStatus.PENDING, "release"): RequestStatus.RELEASED,
    (RequestStatus.PENDING, "expire"): RequestStatus.EXPIRED,
}
"""Every change of a request's status.

A missing pair changes nothing, or raises `AlreadyResolved` if it contradicts how the request ended.
"""


PeriodId = tuple[str, int]
"""The id of a budget, and the start of one of its periods in microseconds."""


class WalletRow(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet: its tokens (`posted`), those that are reserved (`pending`), and the number of its last entry."""

    posted: int = 0
    pending: int = 0
    entries: int = 0


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """An API key. Its version grows when the key or its account changes."""

    version: int = 1
    expires_at_us: int | None = None


class PeriodRow(msgspec.Struct, frozen=True, kw_only=True):
    """A period of a budget of `tokens`: what its requests have spent and reserved."""

    tokens: int
    spent: int = 0
    pending: int = 0

    @property
    def left(self) -> int:
        """The tokens that a new reservation can take. Negative if the budget was exceeded or lowered."""
        return self.tokens - self.spent - self.pending


Periods = Mapping[PeriodId, PeriodRow]


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation and the log entry of its request. Amounts are tokens."""

    id: str
    account_id: str
    token_class: str
    status: RequestStatus
    reserved: int
    charged: int = 0
    shortfall: int = 0
    expires_at_us: int
    period_ids: tuple[PeriodId, ...] = ()


class ChargeEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger entry of a charge. The entries of a wallet are numbered 1, 2, and so on."""

    number: int
    kind: EntryKind
    amount: int
    posted_after: int
    request_id: str


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a wallet, the periods of budgets and a request, and the ledger entry that the event appends.

    `periods` are at least those of the request.
    """

    wallet: WalletRow
    periods: Periods
    request: RequestRow
    entry: ChargeEntry | None = None


def reserve(new: NewReservation, *, wallet: WalletRow, key: KeyRow, periods: Periods) -> Rows:
    """Reserve tokens. `periods` are those of `new`.

    Checks for `KeyChanged`, `InvalidApiKey`, `KeyBudgetSpent` (of the budget with the least left, then by id) and
    `InsufficientTokens`, in this order.
    """
    if key.version != new.key_version:
        raise KeyChanged
    if key.expires_at_us is not None and key.expires_at_us <= new.created_at_us:
        raise InvalidApiKey("This API key is no longer active.")
    if periods:
        left, budget_id = min((row.left, budget_id) for (budget_id, _), row in periods.items())
        if left < new.tokens:
            raise KeyBudgetSpent(left=left, required=new.tokens, budget_id=budget_id)
    if wallet.posted - wallet.pending < new.tokens:
        raise InsufficientTokens(
            required=new.tokens, posted=wallet.posted, pending=wallet.pending, largest_output_tokens=0
        )
    request = RequestRow(
        id=new.request_id,
        account_id=new.account_id,
        token_class=new.token_class,
        status=RequestStatus.PENDING,
        reserved=new.tokens,
        expires_at_us=new.expires_at_us,
        period_ids=tuple((period.budget_id, period.starts_at_us) for period in new.periods),
    )
    return _update_balances(Rows(wallet=wallet, periods=periods, request=request), pending_change=new.tokens)


def settle(rows: Rows, *, total_tokens: int) -> Rows:
    """Charge the use, up to the reservation plus the available tokens. The rest of the use becomes the shortfall.

    Does nothing if the request is already settled. Raises `AlreadyResolved` if it ended without a charge.
    """
    request, wallet = rows.request, rows.wallet
    if request.status is RequestStatus.SETTLED:
        return msgspec.structs.replace(rows, entry=None)
    status = _next(request, "settle")
    charged = min(total_tokens, request.reserved + wallet.posted - wallet.pending)
    updated = _update_balances(rows, pending_change=-request.reserved, charged=charged)
    return msgspec.structs.replace(
        updated,
        request=msgspec.structs.replace(request, status=status, charged=charged, shortfall=total_tokens - charged),
        wallet=msgspec.structs.replace(updated.wallet, entries=wallet.entries + 1),
        entry=ChargeEntry(
            number=wallet.entries + 1,
            kind=EntryKind.USAGE,
            amount=-charged,
            posted_after=updated.wallet.posted,
            request_id=request.id,
        ),
    )


def release(rows: Rows) -> Rows:
    """End a reservation without a charge. Does nothing if it is already released or expired.

    Raises `AlreadyResolved` if the request is settled.
    """
    if rows.request.status in {RequestStatus.RELEASED, RequestStatus.EXPIRED}:
        return rows
    return _end(rows, "release")


def expire(rows: Rows, *, before_us: int | None) -> Rows:
    """Expire a PENDING reservation whose expiry is before `before_us`, or any PENDING one if that is None."""
    request = rows.request
    is_due = before_us is None or request.expires_at_us < before_us
    return _end(rows, "expire") if is_due and request.status is RequestStatus.PENDING else rows


def _next(request: RequestRow, event: str) -> RequestStatus:
    try:
        return TRANSITIONS[request.status, event]
    except KeyError:
        raise AlreadyResolved(request_id=request.id, status=request.status, event=event) from None


def _end(rows: Rows, event: str) -> Rows:
    request = msgspec.structs.replace(rows.request, status=_next(rows.request, event))
    return msgspec.structs.replace(_update_balances(rows, pending_change=-request.reserved), request=request)


def _update_balances(rows: Rows, *, pending_change: int, charged: int = 0) -> Rows:
    """Change the pending tokens and subtract the charged tokens of the wallet, and count both in the periods."""
    wallet = rows.wallet
    wallet = msgspec.structs.replace(wallet, posted=wallet.posted - charged, pending=wallet.pending + pending_change)
    periods = dict(rows.periods)
    for period_id in rows.request.period_ids:
        row = periods[period_id]
        periods[period_id] = msgspec.structs.replace(
            row, spent=row.spent + charged, pending=row.pending + pending_change
        )
    return msgspec.structs.replace(rows, wallet=wallet, periods=periods)
