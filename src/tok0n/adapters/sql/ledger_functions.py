"""The ledger's transactions that are not on the hot path: functions of a SQLAlchemy connection for both engines."""

from collections import Counter
from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from tok0n.adapters.sql.schema import (
    account,
    api_key,
    debt,
    ledger_entry,
    operator_request,
    pack_order,
    request,
    usage_hour,
)
from tok0n.adapters.sql.store import by_index
from tok0n.domain import ids
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import NotFound, OperatorError
from tok0n.domain.ledger import AuditReport, Difference, EntryKind, RequestStatus
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
    overdue_rows = tx.execute(overdue.order_by(request.c.expires_at_us).limit(rows_max)).all()
    if not overdue_rows:
        return 0
    lock_accounts(tx, {row.account_id for row in overdue_rows})
    expired_rows = tx.execute(
        sa.update(request)
        .where(request.c.id.in_([row.id for row in overdue_rows]), request.c.resolved_at_us.is_(None))
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


def audit(tx: sa.Connection) -> AuditReport:
    """Recompute every balance from the ledger entries and the request rows, and report each difference."""
    accounts = tx.scalar(sa.select(sa.func.count()).select_from(account)) or 0
    entries = tx.scalar(sa.select(sa.func.count()).select_from(ledger_entry)) or 0
    requests, shortfall = tx.execute(
        sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(request.c.shortfall), 0)).select_from(request)
    ).one()
    checks = (_dangling, _balances, _charges, _running_sums, _hours, _budgets, _orders)
    differences = [difference for check in checks for difference in check(tx)]
    return AuditReport(
        accounts=accounts, requests=requests, entries=entries, shortfall=int(shortfall), differences=differences
    )


def _dangling(tx: sa.Connection) -> Iterator[Difference]:
    """Every request and entry refers to existing rows. PostgreSQL has no foreign keys for this: see ADR 12."""
    for column, target in (
        (request.c.account_id, account),
        (request.c.api_key_id, api_key),
        (ledger_entry.c.account_id, account),
        (ledger_entry.c.request_id, request),
        (ledger_entry.c.reverses_request_id, request),
    ):
        rows = tx.execute(
            sa.select(column.table.c.id, column)
            .outerjoin(target, target.c.id == column)
            .where(column.is_not(None), target.c.id.is_(None))
        )
        for row_id, target_id in rows:
            subject = f"entry {row_id}" if column.table is ledger_entry else row_id
            what = f"its {target.name} {target_id} does not exist"
            yield Difference(subject=subject, what=what, expected=None, found=None)


def _balances(tx: sa.Connection) -> Iterator[Difference]:
    """Posted = Σ entries, pending = Σ reserved of PENDING requests, 0 ≤ pending ≤ posted."""
    owned = _sum_by_account(ledger_entry.c.amount, ledger_entry).subquery()
    held = _sum_by_account(request.c.reserved, request).where(request.c.status == RequestStatus.PENDING).subquery()
    posted_expected = sa.func.coalesce(owned.c.total, 0)
    pending_expected = sa.func.coalesce(held.c.total, 0)
    rows = tx.execute(
        sa.select(account.c.id, account.c.posted, posted_expected, account.c.pending, pending_expected)
        .outerjoin(owned, owned.c.account_id == account.c.id)
        .outerjoin(held, held.c.account_id == account.c.id)
        .where(
            sa.or_(
                account.c.posted != posted_expected,
                account.c.pending != pending_expected,
                account.c.pending < 0,
                account.c.pending > account.c.posted,
            )
        )
        .order_by(account.c.id)
    )
    for account_id, posted, posted_sum, pending, pending_sum in rows:
        if posted != posted_sum:
            yield Difference(
                subject=account_id, what="posted is not the sum of the entries", expected=posted_sum, found=posted
            )
        if pending != pending_sum:
            yield Difference(
                subject=account_id,
                what="pending is not the sum of the reservations",
                expected=pending_sum,
                found=pending,
            )
        if not 0 <= pending <= posted:
            yield Difference(
                subject=account_id, what="pending is not between 0 and posted", expected=posted, found=pending
            )


def _sum_by_account(amount: sa.ColumnElement[int], table: sa.Table) -> sa.Select[tuple[str, int]]:
    return sa.select(table.c.account_id, sa.func.sum(amount).label("total")).group_by(table.c.account_id)


def _charges(tx: sa.Connection) -> Iterator[Difference]:
    """Only a charged request has a usage entry, which has the same amount and account.

    Every request except a PENDING one has a time of its end.
    """
    rows = tx.execute(
        sa.select(
            request.c.id,
            request.c.status,
            request.c.charged,
            request.c.shortfall,
            request.c.total_tokens,
            request.c.resolved_at_us,
            ledger_entry.c.amount,
            (ledger_entry.c.account_id == request.c.account_id),
        )
        .outerjoin(ledger_entry, ledger_entry.c.request_id == request.c.id)
        .where(
            sa.or_(
                request.c.charged != -sa.func.coalesce(ledger_entry.c.amount, 0),
                ledger_entry.c.account_id != request.c.account_id,
                (request.c.status == RequestStatus.SETTLED) != (request.c.charged > 0),
                (request.c.status == RequestStatus.PENDING) != request.c.resolved_at_us.is_(None),
                sa.and_(
                    request.c.status == RequestStatus.SETTLED,
                    request.c.charged + request.c.shortfall != request.c.total_tokens,
                ),
            )
        )
    )
    for request_id, status, charged, shortfall, total, resolved_at_us, amount, same_account in rows:
        if charged != -(amount or 0):
            yield Difference(
                subject=request_id, what="the usage entry is not the charge", expected=-charged, found=amount
            )
        if same_account is not None and not same_account:
            yield Difference(
                subject=request_id, what="the usage entry is on another account", expected=None, found=None
            )
        if (status == RequestStatus.SETTLED) != (charged > 0):
            yield Difference(subject=request_id, what=f"a {status} request is charged", expected=None, found=charged)
        if (status == RequestStatus.PENDING) != (resolved_at_us is None):
            what = f"a {status} request has {'no' if resolved_at_us is None else 'a'} time of its end"
            yield Difference(subject=request_id, what=what, expected=None, found=resolved_at_us)
        if status == RequestStatus.SETTLED and charged + shortfall != total:
            yield Difference(
                subject=request_id, what="charged + shortfall is not the use", expected=total, found=charged + shortfall
            )


def _running_sums(tx: sa.Connection) -> Iterator[Difference]:
    """The `posted_after` of each entry is the running sum of its account's entries."""
    running = sa.func.sum(ledger_entry.c.amount).over(
        partition_by=ledger_entry.c.account_id, order_by=ledger_entry.c.id
    )
    chain = sa.select(ledger_entry.c.id, ledger_entry.c.posted_after, running.label("running")).subquery()
    rows = tx.execute(
        sa.select(chain.c.id, chain.c.running, chain.c.posted_after).where(chain.c.running != chain.c.posted_after)
    )
    for entry_id, expected, found in rows:
        yield Difference(
            subject=f"entry {entry_id}", what="posted_after is not the running sum", expected=int(expected), found=found
        )


def _hours(tx: sa.Connection) -> Iterator[Difference]:
    """The sum of an account's hourly use is the sum of its usage entries."""
    hours = _sum_by_account(usage_hour.c.charged, usage_hour).subquery()
    entries = _sum_by_account(-ledger_entry.c.amount, ledger_entry).where(ledger_entry.c.kind == EntryKind.USAGE)
    used = entries.subquery()
    rows = tx.execute(
        sa.select(account.c.id, sa.func.coalesce(used.c.total, 0), sa.func.coalesce(hours.c.total, 0))
        .outerjoin(used, used.c.account_id == account.c.id)
        .outerjoin(hours, hours.c.account_id == account.c.id)
        .where(sa.func.coalesce(used.c.total, 0) != sa.func.coalesce(hours.c.total, 0))
    )
    for account_id, expected, found in rows:
        yield Difference(
            subject=account_id,
            what="the hourly use is not the sum of the usage entries",
            expected=int(expected),
            found=int(found),
        )


def _budgets(tx: sa.Connection) -> Iterator[Difference]:
    """The spent and reserved tokens of a key with a budget are the sums of its requests."""
    of_key = (
        sa.select(
            request.c.api_key_id,
            sa.func.sum(request.c.charged).label("spent"),
            sa.func.sum(sa.case((request.c.status == RequestStatus.PENDING, request.c.reserved), else_=0)).label(
                "pending"
            ),
        )
        .group_by(request.c.api_key_id)
        .subquery()
    )
    spent, pending = sa.func.coalesce(of_key.c.spent, 0), sa.func.coalesce(of_key.c.pending, 0)
    rows = tx.execute(
        sa.select(api_key.c.id, spent, api_key.c.spent, pending, api_key.c.pending)
        .outerjoin(of_key, of_key.c.api_key_id == api_key.c.id)
        .where(api_key.c.budget.is_not(None), sa.or_(api_key.c.spent != spent, api_key.c.pending != pending))
    )
    for key_id, spent_sum, spent_found, pending_sum, pending_found in rows:
        yield Difference(
            subject=key_id,
            what="the tokens that the key has spent and reserved are not the sum of its requests",
            expected=int(spent_sum) + int(pending_sum),
            found=spent_found + pending_found,
        )


def _orders(tx: sa.Connection) -> Iterator[Difference]:
    """The tokens that an account's orders have applied, plus its debt, are the sum of the orders' entries."""
    orders = pack_order.c
    net = orders.purchase_applied - orders.refund_applied - orders.dispute_applied
    applied = _sum_by_account(net, pack_order).subquery()
    moved = _sum_by_account(ledger_entry.c.amount, ledger_entry).where(ledger_entry.c.order_id.is_not(None)).subquery()
    expected = sa.func.coalesce(applied.c.total, 0) + sa.func.coalesce(debt.c.tokens, 0)
    found = sa.func.coalesce(moved.c.total, 0)
    rows = tx.execute(
        sa.select(account.c.id, expected, found)
        .outerjoin(applied, applied.c.account_id == account.c.id)
        .outerjoin(moved, moved.c.account_id == account.c.id)
        .outerjoin(debt, debt.c.account_id == account.c.id)
        .where(expected != found)
    )
    for account_id, worth, entries in rows:
        yield Difference(
            subject=account_id,
            what="the entries of the orders are not the orders' tokens plus the debt",
            expected=int(worth),
            found=int(entries),
        )
