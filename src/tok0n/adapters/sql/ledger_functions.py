"""The ledger's transactions that are not on the hot path: functions of a SQLAlchemy connection for both engines."""

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter

import sqlalchemy as sa

from tok0n.adapters.sql import budget_periods
from tok0n.adapters.sql.schema import (
    account,
    budget_period,
    key_budget,
    ledger_entry,
    operator_request,
    request,
    wallet,
)
from tok0n.adapters.sql.store import fetch
from tok0n.domain import ids
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import AccountSuspended, NotFound, OperatorError
from tok0n.domain.ledger import STANDARD, EntryKind, RequestStatus
from tok0n.domain.ledger_rules import PeriodId
from tok0n.domain.usage import TOKENS_MAX
from tok0n.ports.ledger import RecentRequest

EXPIRED_CODE = "expired"
RECOVERED_AT_ONCE = 1_000

_PENDING = request.c.status == sa.literal_column("'PENDING'")
"""The condition of the index `request_pending`. With a parameter, SQLite could not use the index."""

_REQUESTS = "SELECT id, api_key_id, account_id, created_at_us, dispatched, status = 'PENDING' FROM request WHERE "
_IS_RECENT = "id >= :first_id AND created_at_us >= :since_us"
_RECENT = f"{_REQUESTS}{_IS_RECENT}"
_OLDER_PENDING = f"{_REQUESTS}status = 'PENDING' AND NOT ({_IS_RECENT})"

_INSERT_WALLET = sa.text(
    "INSERT INTO wallet (account_id, token_class, posted, pending, entries) VALUES (:account_id, :token_class, 0, 0, 0)"
    " ON CONFLICT (account_id, token_class) DO NOTHING"
)


def append_entry(
    tx: sa.Connection,
    *,
    account_id: str,
    kind: EntryKind,
    amount: int,
    reason: str | None,
    now_us: int,
    token_class: str = STANDARD,
    author: str | None = None,
    order_id: str | None = None,
    reverses_request_id: str | None = None,
) -> None:
    """Append a ledger entry and add its amount to the posted tokens of a wallet. The account must exist.

    Creates the wallet of a class that the account never had. Raises `OperatorError` if the wallet would exceed
    `TOKENS_MAX`. The caller has made sure that the wallet has a negative amount available.
    """
    columns = wallet.c
    change = {"posted": columns.posted + amount, "entries": columns.entries + 1}
    update = sa.update(wallet).where(columns.account_id == account_id, columns.token_class == token_class)
    returned = update.values(change).returning(columns.posted, columns.entries)
    row = tx.execute(returned).one_or_none()
    if row is None:
        insert_wallet(tx, account_id, token_class)
        row = tx.execute(returned).one()
    if row.posted > TOKENS_MAX:
        raise OperatorError(f"A wallet can hold at most {TOKENS_MAX} tokens. This would bring it to {row.posted}.")
    tx.execute(
        sa.insert(ledger_entry).values(
            account_id=account_id,
            token_class=token_class,
            number=row.entries,
            kind=kind,
            amount=amount,
            posted_after=row.posted,
            reason=reason,
            author=author,
            created_at_us=now_us,
            order_id=order_id,
            reverses_request_id=reverses_request_id,
        )
    )


def insert_wallet(tx: sa.Connection, account_id: str, token_class: str) -> None:
    """Add an empty wallet to an account. Does nothing if a concurrent transaction has added it."""
    tx.execute(_INSERT_WALLET, {"account_id": account_id, "token_class": token_class})


def reverse(tx: sa.Connection, *, request_id: str, now_us: int) -> None:
    """Give a request's charge back with an `adjustment` entry, once."""
    settled = sa.select(request).where(request.c.id == request_id, request.c.status == RequestStatus.SETTLED)
    row = tx.execute(settled).one_or_none()
    if row is None:
        return
    lock_wallets(tx, [row.account_id])
    existing = sa.select(ledger_entry.c.id).where(ledger_entry.c.reverses_request_id == request_id)
    if tx.execute(existing).first() is None:
        append_entry(
            tx,
            account_id=row.account_id,
            token_class=row.token_class,
            kind=EntryKind.ADJUSTMENT,
            amount=row.charged,
            reason=None,
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
    overdue = sa.select(request.c.id, request.c.account_id).where(_PENDING)
    if before_us is not None:
        overdue = overdue.where(request.c.expires_at_us < before_us)
    return _expire(tx, overdue, now_us=now_us, rows_max=rows_max)


def expire_of_processes(tx: sa.Connection, *, process_ids: Sequence[str], now_us: int, rows_max: int) -> int:
    """Expire at most `rows_max` PENDING reservations of ended processes. Returns the number of rows.

    Reads all PENDING reservations to find them: an index by process would slow down every reservation.
    """
    abandoned = sa.select(request.c.id, request.c.account_id).where(is_pending_of(process_ids))
    return _expire(tx, abandoned, now_us=now_us, rows_max=rows_max)


def is_pending_of(process_ids: Sequence[str]) -> "sa.ColumnElement[bool]":
    """Return the condition for the PENDING reservations of processes."""
    return sa.and_(_PENDING, request.c.process_id.in_(process_ids))


def _expire(tx: sa.Connection, query: "sa.Select[tuple[str, str]]", *, now_us: int, rows_max: int) -> int:
    rows = tx.execute(query.order_by(request.c.expires_at_us).limit(rows_max)).all()
    if not rows:
        return 0
    lock_wallets(tx, {row.account_id for row in rows})
    expired_rows = tx.execute(
        sa.update(request)
        .where(request.c.id.in_([row.id for row in rows]), request.c.resolved_at_us.is_(None))
        .values(status=RequestStatus.EXPIRED, code=EXPIRED_CODE, resolved_at_us=now_us)
        .returning(request.c.account_id, request.c.token_class, request.c.reserved, request.c.budget_periods)
    ).all()
    by_wallet: Counter[tuple[str, str]] = Counter()
    by_period: Counter[PeriodId] = Counter()
    for account_id, token_class, reserved, periods in expired_rows:
        by_wallet[account_id, token_class] += reserved
        for period_id in budget_periods.period_ids(periods):
            by_period[period_id] += reserved
    for (account_id, token_class), reserved in sorted(by_wallet.items()):
        update = sa.update(wallet).where(wallet.c.account_id == account_id, wallet.c.token_class == token_class)
        tx.execute(update.values(pending=wallet.c.pending - reserved))
    lock_budgets(tx, {budget_id for budget_id, _ in by_period})
    for (budget_id, starts_at_us), reserved in sorted(by_period.items()):
        columns = budget_period.c
        ended = sa.update(budget_period).where(columns.budget_id == budget_id, columns.starts_at_us == starts_at_us)
        tx.execute(ended.values(pending=columns.pending - reserved))
    return len(expired_rows)


def lock_wallets(tx: sa.Connection, account_ids: Iterable[str]) -> None:
    """Lock all wallets of accounts in the order of their ids, which prevents deadlocks.

    The standard wallet comes first, as in `postgres/batch.sql`. Call it before changing requests or balances.
    """
    locked = sa.select(wallet.c.account_id).where(wallet.c.account_id.in_(list(account_ids)))
    locked = locked.order_by(wallet.c.account_id, wallet.c.token_class != STANDARD, wallet.c.token_class)
    tx.execute(locked.with_for_update(key_share=True)).all()


def lock_budgets(tx: sa.Connection, budget_ids: Iterable[str]) -> list[str]:
    """Lock budgets in the order of their ids, and return the ids of those that exist.

    Call it after `lock_wallets`, and before changing their periods.
    """
    locked = sa.select(key_budget.c.id).where(key_budget.c.id.in_(list(budget_ids))).order_by(key_budget.c.id)
    return list(tx.scalars(locked.with_for_update(key_share=True)))


def lock_account(tx: sa.Connection, account_id: str) -> str:
    """Lock an account's row until the transaction ends, and return its status. Call it before `lock_wallets`.

    Raises `NotFound`.
    """
    locked = sa.select(account.c.status).where(account.c.id == account_id).with_for_update(key_share=True)
    status: str | None = tx.scalar(locked)
    if status is None:
        raise NotFound("There is no such account.")
    return status


def lock_open_account(tx: sa.Connection, account_id: str) -> None:
    """Lock an account's row until the transaction ends, so that counts of its other rows stay valid.

    Raises `AccountSuspended`, or `NotFound` if the account does not exist or is closed.
    """
    status = lock_account(tx, account_id)
    if status == "suspended":
        raise AccountSuspended
    if status != "open":
        raise NotFound("This account is closed.")


def recent(tx: sa.Connection, *, since_us: int) -> list[RecentRequest]:
    """Return the requests to refill a limiter with. Reads the recent ones by id, which starts with the time."""
    values = {"first_id": ids.first_request_id(since_us), "since_us": since_us}
    rows = fetch(tx, _RECENT, **values) + fetch(tx, _OLDER_PENDING, **values)
    # A caller for each key, not for each request: a minute can have 100,000 requests.
    accounts = {api_key_id: account_id for _, api_key_id, account_id, *_ in rows}
    callers = {key_id: Caller(api_key_id=key_id, account_id=account_id) for key_id, account_id in accounts.items()}
    requests = [
        RecentRequest(
            request_id=request_id,
            caller=callers[api_key_id],
            created_at_us=created_at_us,
            dispatched=bool(dispatched),
            pending=bool(pending),
        )
        for request_id, api_key_id, _, created_at_us, dispatched, pending in rows
    ]
    operators = sa.select(operator_request).where(operator_request.c.created_at_us >= since_us)
    requests += [
        RecentRequest(request_id=row.id, caller=None, created_at_us=row.created_at_us, dispatched=True, pending=False)
        for row in tx.execute(operators)
    ]
    return sorted(requests, key=attrgetter("created_at_us"))
