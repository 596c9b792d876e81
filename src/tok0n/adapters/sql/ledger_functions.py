"""The ledger's transactions that are not on the hot path: functions of a SQLAlchemy connection for both engines."""

from collections import Counter
from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from tok0n.adapters.sql.schema import account, api_key, ledger_entry, operator_request, request
from tok0n.adapters.sql.store import by_index
from tok0n.domain import ids
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import NotFound, OperatorError
from tok0n.domain.ledger import EntryKind, RequestStatus
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.ledger import RecentRequest

EXPIRED_CODE = "expired"
RECOVERED_AT_ONCE = 1_000

_PENDING = request.c.status == sa.literal_column("'PENDING'")
"""The condition of the index `request_pending`. With a parameter, SQLite could not use the index."""


def append_entry(
    tx: sa.Connection,
    *,
    account_id: str,
    kind: EntryKind,
    amount: int,
    reason: str | None,
    now_us: int,
    order_id: str | None = None,
    reverses_request_id: str | None = None,
) -> None:
    """Append a ledger entry and add its amount to the account's posted tokens. The account must exist.

    Raises `OperatorError` if the account would exceed `TOKENS_MAX`.
    """
    posted = tx.execute(
        sa.update(account)
        .where(account.c.id == account_id)
        .values(posted=account.c.posted + amount)
        .returning(account.c.posted)
    ).scalar_one()
    if posted > TOKENS_MAX:
        raise OperatorError(f"An account can hold at most {TOKENS_MAX} tokens. This would bring it to {posted}.")
    tx.execute(
        sa.insert(ledger_entry).values(
            account_id=account_id,
            kind=kind,
            amount=amount,
            posted_after=posted,
            reason=reason,
            created_at_us=now_us,
            order_id=order_id,
            reverses_request_id=reverses_request_id,
        )
    )


def reverse(tx: sa.Connection, *, request_id: str, now_us: int) -> None:
    """Give a request's charge back with an `adjustment` entry, once."""
    settled = sa.select(request).where(request.c.id == request_id, request.c.status == RequestStatus.SETTLED)
    row = tx.execute(settled).one_or_none()
    if row is None:
        return
    lock_accounts(tx, [row.account_id])
    existing = sa.select(ledger_entry.c.id).where(ledger_entry.c.reverses_request_id == request_id)
    if tx.execute(existing).first() is None:
        append_entry(
            tx,
            account_id=row.account_id,
            kind=EntryKind.ADJUSTMENT,
            amount=row.charged,
            reason=f"reversal of {request_id}: its answer was not given",
            now_us=now_us,
            reverses_request_id=request_id,
        )


def recover(tx: sa.Connection, *, now_us: int) -> int:
    """Expire every PENDING reservation. Returns the number of rows."""
    total = 0
    while rows := expire(tx, now_us=now_us, rows_max=RECOVERED_AT_ONCE):
        total += rows
    return total


def expire(tx: sa.Connection, *, now_us: int, before_us: int | None = None, rows_max: int) -> int:
    """Expire at most `rows_max` PENDING reservations, or only those whose expiry is before `before_us`.

    Returns the number of rows.
    """
    by_index(tx)
    overdue = sa.select(request.c.id, request.c.account_id).where(_PENDING)
    if before_us is not None:
        overdue = overdue.where(request.c.expires_at_us < before_us)
    return _expire(tx, overdue, now_us=now_us, rows_max=rows_max)


def expire_of_processes(tx: sa.Connection, *, process_ids: Sequence[str], now_us: int, rows_max: int) -> int:
    """Expire at most `rows_max` PENDING reservations of ended processes. Returns the number of rows.

    Reads all PENDING reservations to find them: an index by process would slow down every reservation.
    """
    by_index(tx)
    abandoned = sa.select(request.c.id, request.c.account_id).where(is_pending_of(process_ids))
    return _expire(tx, abandoned, now_us=now_us, rows_max=rows_max)


def is_pending_of(process_ids: Sequence[str]) -> "sa.ColumnElement[bool]":
    """Return the condition for the PENDING reservations of processes."""
    return sa.and_(_PENDING, request.c.process_id.in_(process_ids))


def _expire(tx: sa.Connection, query: "sa.Select[tuple[str, str]]", *, now_us: int, rows_max: int) -> int:
    rows = tx.execute(query.order_by(request.c.expires_at_us).limit(rows_max)).all()
    if not rows:
        return 0
    lock_accounts(tx, {row.account_id for row in rows})
    expired_rows = tx.execute(
        sa.update(request)
        .where(request.c.id.in_([row.id for row in rows]), request.c.resolved_at_us.is_(None))
        .values(status=RequestStatus.EXPIRED, code=EXPIRED_CODE, resolved_at_us=now_us)
        .returning(request.c.account_id, request.c.api_key_id, request.c.reserved)
    ).all()
    by_account: Counter[str] = Counter()
    by_key: Counter[str] = Counter()
    for account_id, api_key_id, reserved in expired_rows:
        by_account[account_id] += reserved
        by_key[api_key_id] += reserved
    for account_id, reserved in sorted(by_account.items()):
        tx.execute(sa.update(account).where(account.c.id == account_id).values(pending=account.c.pending - reserved))
    for api_key_id, reserved in sorted(by_key.items()):
        tx.execute(
            sa.update(api_key)
            .where(api_key.c.id == api_key_id, api_key.c.budget.is_not(None))
            .values(pending=api_key.c.pending - reserved)
        )
    return len(expired_rows)


def lock_accounts(tx: sa.Connection, account_ids: Iterable[str]) -> None:
    """Lock the accounts' rows in the order of their ids, which prevents deadlocks. Call it before changing requests."""
    locked = sa.select(account.c.id).where(account.c.id.in_(list(account_ids))).order_by(account.c.id)
    tx.execute(locked.with_for_update(key_share=True)).all()


def lock_open_account(tx: sa.Connection, account_id: str) -> None:
    """Lock an account's row until the transaction ends, so that counts of its other rows stay valid.

    Raises `NotFound` if the account does not exist or is closed.
    """
    locked = sa.select(account.c.status).where(account.c.id == account_id).with_for_update(key_share=True)
    if tx.scalar(locked) != "open":
        raise NotFound("This account is closed.")


def recent(tx: sa.Connection, *, since_us: int) -> list[RecentRequest]:
    """Return the requests to refill a limiter with. Reads the recent ones by id, which starts with the time."""
    by_index(tx)
    columns = request.c.id, request.c.api_key_id, request.c.account_id, request.c.created_at_us, request.c.dispatched
    is_pending = (request.c.status == RequestStatus.PENDING).label("pending")
    query = sa.select(*columns, is_pending)
    is_recent = sa.and_(request.c.id >= ids.first_request_id(since_us), request.c.created_at_us >= since_us)
    rows = {row[0]: row for where in (is_recent, _PENDING) for row in tx.execute(query.where(where))}
    requests = [
        RecentRequest(
            request_id=request_id,
            caller=Caller(api_key_id=api_key_id, account_id=account_id),
            created_at_us=created_at_us,
            dispatched=bool(dispatched),
            pending=pending,
        )
        for request_id, api_key_id, account_id, created_at_us, dispatched, pending in rows.values()
    ]
    operators = sa.select(operator_request).where(operator_request.c.created_at_us >= since_us)
    requests += [
        RecentRequest(request_id=row.id, caller=None, created_at_us=row.created_at_us, dispatched=True, pending=False)
        for row in tx.execute(operators)
    ]
    return sorted(requests, key=lambda request: request.created_at_us)
