"""The rule book of the ledger: what an event does to the rows of an account, a key and a request.

Pure functions from rows to rows. Both SQL dialects translate them, and the contract tests compare the databases with
them. No server calls them: a database decides in one statement, because rows that Python read may have changed since.
"""

import msgspec

from tok0n.domain.errors import AlreadyResolved, InsufficientTokens, InvalidApiKey, KeyBudgetSpent
from tok0n.domain.ledger import EntryKind, NewReservation, RequestStatus

TRANSITIONS = {
    (RequestStatus.PENDING, "settle"): RequestStatus.SETTLED,
    (RequestStatus.PENDING, "release"): RequestStatus.RELEASED,
    (RequestStatus.PENDING, "expire"): RequestStatus.EXPIRED,
}
"""Every change of a request's status. A missing pair is `AlreadyResolved`."""


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """An account. 0 ≤ pending ≤ posted, in tokens."""

    posted: int
    pending: int = 0
    is_open: bool = True


class KeyRow(msgspec.Struct, frozen=True, kw_only=True):
    """An API key of the account. `spent` and `pending` count only with a budget, in tokens."""

    budget: int | None = None
    spent: int = 0
    pending: int = 0
    expires_at_us: int | None = None
    is_revoked: bool = False


class RequestRow(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation, and the log of its request."""

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
    """The three rows of one request, and the entry that the event appended to the ledger."""

    account: AccountRow
    key: KeyRow
    request: RequestRow
    entry: Entry | None = None


def reserve(new: NewReservation, *, account: AccountRow, key: KeyRow) -> Rows:
    """Set tokens aside. Raises `InvalidApiKey`, `KeyBudgetSpent` or `InsufficientTokens`, in this order."""
    is_expired = key.expires_at_us is not None and key.expires_at_us <= new.created_at_us
    if key.is_revoked or is_expired or not account.is_open:
        raise InvalidApiKey("This API key is not active any more.")
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
    return _move(Rows(account=account, key=key, request=request), reserved=new.tokens)


def settle(rows: Rows, *, total_tokens: int) -> Rows:
    """Charge the use, at most the reservation and what is available; the rest of the use is the shortfall.

    Repeated, it changes nothing. Raises `AlreadyResolved` when the request ended without a charge.
    """
    request, account = rows.request, rows.account
    if request.status is RequestStatus.SETTLED:
        return msgspec.structs.replace(rows, entry=None)
    status = _next(request, "settle")
    charged = min(total_tokens, request.reserved + account.posted - account.pending)
    moved = _move(rows, reserved=-request.reserved, charged=charged)
    return msgspec.structs.replace(
        moved,
        request=msgspec.structs.replace(request, status=status, charged=charged, shortfall=total_tokens - charged),
        entry=Entry(kind=EntryKind.USAGE, amount=-charged, posted_after=moved.account.posted, request_id=request.id),
    )


def release(rows: Rows) -> Rows:
    """End a reservation without a charge. After any such end it changes nothing.

    Raises `AlreadyResolved` when the request was settled.
    """
    if rows.request.status in {RequestStatus.RELEASED, RequestStatus.EXPIRED}:
        return rows
    return _end(rows, "release")


def expire(rows: Rows, *, now_us: int | None) -> Rows:
    """End a PENDING reservation past its expiry; `None` as the time is past every expiry. Others stay as they are."""
    request = rows.request
    is_due = now_us is None or request.expires_at_us < now_us
    return _end(rows, "expire") if is_due and request.status is RequestStatus.PENDING else rows


def _next(request: RequestRow, event: str) -> RequestStatus:
    try:
        return TRANSITIONS[request.status, event]
    except KeyError:
        raise AlreadyResolved(request_id=request.id, status=request.status, wanted=event) from None


def _end(rows: Rows, event: str) -> Rows:
    request = msgspec.structs.replace(rows.request, status=_next(rows.request, event))
    return msgspec.structs.replace(_move(rows, reserved=-request.reserved), request=request)


def _move(rows: Rows, *, reserved: int, charged: int = 0) -> Rows:
    """Change what is reserved and charged on the account, and on a key with a budget."""
    account, key = rows.account, rows.key
    account = msgspec.structs.replace(account, posted=account.posted - charged, pending=account.pending + reserved)
    if key.budget is not None:
        key = msgspec.structs.replace(key, spent=key.spent + charged, pending=key.pending + reserved)
    return Rows(account=account, key=key, request=rows.request)
