"""The rules of the ledger: how an event changes the rows of an account, an API key and a request.

These pure functions are the specification that both SQL dialects implement, and contract tests compare the databases
with them. No server calls them: rows that Python has read may be stale, so the database decides in one statement.
"""

import msgspec

from tok0n.domain.errors import AlreadyResolved, InsufficientTokens, InvalidApiKey, KeyBudgetSpent
from tok0n.domain.ledger import EntryKind, NewReservation, RequestStatus

TRANSITIONS = {
    (RequestStatus.PENDING, "settle"): RequestStatus.SETTLED,
    (RequestStatus.PENDING, "release"): RequestStatus.RELEASED,
    (RequestStatus.PENDING, "expire"): RequestStatus.EXPIRED,
}
"""Every change of a request's status.

A missing pair changes nothing, or raises `AlreadyResolved` if it contradicts how the request ended.
"""


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """An account. `posted` are the tokens that it owns, `pending` those that are reserved. 0 ≤ pending ≤ posted."""

    posted: int
    pending: int = 0
    is_open: bool = True


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """An API key of the account. Amounts are tokens. `spent` and `pending` change only if the key has a budget."""

    budget: int | None = None
    spent: int = 0
    pending: int = 0
    expires_at_us: int | None = None
    is_revoked: bool = False


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation and the log entry of its request. Amounts are tokens."""

    id: str
    account_id: str
    status: RequestStatus
    reserved: int
    charged: int = 0
    shortfall: int = 0
    expires_at_us: int


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """The ledger entry of a charge."""

    kind: EntryKind
    amount: int
    posted_after: int
    request_id: str


class Rows(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of an account, a key and a request, and the ledger entry that the event appends."""

    account: AccountRow
    key: KeyRow
    request: RequestRow
    entry: Entry | None = None


def reserve(new: NewReservation, *, account: AccountRow, key: KeyRow) -> Rows:
    """Reserve tokens. Checks for `InvalidApiKey`, `KeyBudgetSpent` and `InsufficientTokens` in this order."""
    is_expired = key.expires_at_us is not None and key.expires_at_us <= new.created_at_us
    if key.is_revoked or is_expired or not account.is_open:
        raise InvalidApiKey("This API key is no longer active.")
    if key.budget is not None and key.budget - key.spent - key.pending < new.tokens:
        raise KeyBudgetSpent(left=key.budget - key.spent - key.pending, required=new.tokens)
    if account.posted - account.pending < new.tokens:
        raise InsufficientTokens(
            required=new.tokens, posted=account.posted, pending=account.pending, largest_output_tokens=0
        )
    request = RequestRow(
        id=new.request_id,
        account_id=new.account_id,
        status=RequestStatus.PENDING,
        reserved=new.tokens,
        expires_at_us=new.expires_at_us,
    )
    return _update_balances(Rows(account=account, key=key, request=request), pending_change=new.tokens)


def settle(rows: Rows, *, total_tokens: int) -> Rows:
    """Charge the use, up to the reservation plus the available tokens. The rest of the use becomes the shortfall.

    Does nothing if the request is already settled. Raises `AlreadyResolved` if it ended without a charge.
    """
    request, account = rows.request, rows.account
    if request.status is RequestStatus.SETTLED:
        return msgspec.structs.replace(rows, entry=None)
    status = _next(request, "settle")
    charged = min(total_tokens, request.reserved + account.posted - account.pending)
    updated = _update_balances(rows, pending_change=-request.reserved, charged=charged)
    return msgspec.structs.replace(
        updated,
        request=msgspec.structs.replace(request, status=status, charged=charged, shortfall=total_tokens - charged),
        entry=Entry(kind=EntryKind.USAGE, amount=-charged, posted_after=updated.account.posted, request_id=request.id),
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
    """Change the pending tokens and subtract the charged tokens of the account, and of a key with a budget."""
    account, key = rows.account, rows.key
    pending = account.pending + pending_change
    account = msgspec.structs.replace(account, posted=account.posted - charged, pending=pending)
    if key.budget is not None:
        key = msgspec.structs.replace(key, spent=key.spent + charged, pending=key.pending + pending_change)
    return Rows(account=account, key=key, request=rows.request)
