"""The `Lots` port in SQL. Every query seeks by index, however long the history of the account is."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.entry_search import ENTRIES_READ, first_with_less, last_before, nearest_of
from tok0n.adapters.sql.repositories.use import AFTER_QUARTERS, use_of_buckets
from tok0n.adapters.sql.schema import ledger_entry, pack_order, request, wallet
from tok0n.adapters.sql.store import SqlStore, force_index_scans
from tok0n.domain.history import UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR, EntryKind
from tok0n.domain.lots import MICROS_PER_CENT, LotEntry, Position, PriceChange, UsageEntry, UsagePoint
from tok0n.domain.orders import cents_without_tax

_entry = ledger_entry.c
_IS_CHANGE = _entry.kind != sa.literal_column("'usage'")
"""The condition of the index `ledger_entry_change`. With a parameter, SQLite could not use the index."""


class SqlLots:
    """The `Lots` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def lot_entries(self, account_id: str) -> dict[str, list[LotEntry]]:
        reversed_entry = ledger_entry.alias("reversed")
        entries = (
            sa.select(
                _entry.token_class,
                _entry.number,
                _entry.kind,
                _entry.amount,
                _entry.posted_after,
                _entry.order_id,
                reversed_entry.c.number.label("reversed_number"),
                reversed_entry.c.amount.label("reversed_amount"),
                reversed_entry.c.posted_after.label("reversed_posted_after"),
            )
            .outerjoin_from(ledger_entry, reversed_entry, reversed_entry.c.request_id == _entry.reverses_request_id)
            .where(_entry.account_id == account_id, _IS_CHANGE)
            .order_by(_entry.token_class, _entry.number)
        )
        order = pack_order.c
        paid = sa.select(order.id, order.tokens, order.price_cents, order.paid_cents, order.tax_cents)
        paid = paid.where(order.account_id == account_id, order.paid_cents.is_not(None))

        def fn(tx: sa.Connection) -> dict[str, list[LotEntry]]:
            force_index_scans(tx)
            orders = {row.id: row for row in tx.execute(paid)}
            changes: dict[str, list[LotEntry]] = {}
            for row in tx.execute(entries):
                changes.setdefault(row.token_class, []).append(_change(row, orders.get(row.order_id)))
            return changes

        return await self._store.read(fn)

    async def usage_entries(self, account_id: str, request_ids: Sequence[str]) -> dict[str, tuple[str, UsageEntry]]:
        query = sa.select(_entry.request_id, _entry.token_class, _entry.number, _entry.amount, _entry.posted_after)
        # SQLite would seek by the plain account, and read all of its entries.
        query = query.where(_entry.request_id.in_(request_ids), _entry.account_id.concat("") == account_id)

        def fn(tx: sa.Connection) -> dict[str, tuple[str, UsageEntry]]:
            force_index_scans(tx)
            return {
                row.request_id: (
                    row.token_class,
                    UsageEntry(number=row.number, tokens=-row.amount, posted_after=row.posted_after),
                )
                for row in tx.execute(query)
            }

        return await self._store.read(fn)

    async def positions(self, account_id: str, *, before_us: int | None = None) -> dict[str, Position | None]:
        def fn(tx: sa.Connection) -> dict[str, Position | None]:
            force_index_scans(tx)
            rows = tx.execute(sa.select(wallet).where(wallet.c.account_id == account_id)).all()
            current = {row.token_class: Position(number=row.entries, posted_after=row.posted) for row in rows}
            if before_us is None:
                return dict(current)
            last_id = last_before(tx, account_id, before_us)
            if last_id == _newest_id(tx, account_id):
                return dict(current)
            return {
                name: position_before(tx, account_id, name, last_id + 1, current=now) for name, now in current.items()
            }

        return await self._store.read(fn)

    async def first_use_after(self, account_id: str, change: PriceChange, *, token_class: str) -> UsagePoint | None:
        def fn(tx: sa.Connection) -> UsagePoint | None:
            force_index_scans(tx)
            return _first_use_after(tx, account_id, change, token_class)

        return await self._store.read(fn)

    async def tokens_of_keys(
        self, account_id: str, *, until: Sequence[UsagePoint | int | None]
    ) -> list[dict[tuple[str, str], int] | None]:
        quarters = [_quarter_of(point) for point in until]
        starts = sorted({0, *quarters})

        def fn(tx: sa.Connection) -> list[dict[tuple[str, str], int] | None]:
            force_index_scans(tx)
            use = use_of_buckets(
                tx,
                account_id,
                UseFilter(until_quarter=starts[-1]),
                by=("api_key_id", "model"),
                starts=starts[:-1],
                summed=("charged",),
            )
            return [
                _add_entries(tx, account_id, _before_quarter(use, quarter), point)
                for quarter, point in zip(quarters, until, strict=True)
            ]

        return await self._store.read(fn)


def _change(row: Any, order: Any) -> LotEntry:
    reverses = None
    if row.reversed_number is not None:
        reverses = UsageEntry(
            number=row.reversed_number, tokens=-row.reversed_amount, posted_after=row.reversed_posted_after
        )
    paid_cents = 0
    if order is not None:
        paid_cents = cents_without_tax(order.paid_cents, tax_cents=order.tax_cents, price_cents=order.price_cents)
    return LotEntry(
        number=row.number,
        kind=EntryKind(row.kind),
        tokens=row.amount,
        posted_after=row.posted_after,
        order_id=row.order_id,
        order_tokens=0 if order is None else order.tokens,
        order_usd_micros=paid_cents * MICROS_PER_CENT,
        reverses=reverses,
    )


def _newest_id(tx: sa.Connection, account_id: str) -> int:
    newest = sa.select(_entry.id).where(_entry.account_id == account_id).order_by(_entry.id.desc()).limit(1)
    return tx.scalar(newest) or 0


def _first_use_after(tx: sa.Connection, account_id: str, change: PriceChange, token_class: str) -> UsagePoint | None:
    """Find the entry between two changes of a wallet, where its posted tokens only decrease."""
    of_class = sa.select(_entry.id).where(
        _entry.account_id == account_id, _entry.token_class == token_class, _IS_CHANGE
    )
    last_id = tx.scalar(of_class.where(_entry.number == change.after_number)) or 0
    next_id = tx.scalar(of_class.where(_entry.number > change.after_number).order_by(_entry.number).limit(1))
    end_id = _newest_id(tx, account_id) + 1 if next_id is None else next_id
    entry = first_with_less(tx, account_id, token_class, posted=change.posted, after_id=last_id, end_id=end_id)
    if entry is None:
        return None
    before = Position(number=entry.number - 1, posted_after=entry.posted_after - entry.amount)
    return UsagePoint(row_id=int(entry.id), at_us=entry.created_at_us, before=before)


def _quarter_of(point: UsagePoint | int | None) -> int:
    if point is None:
        return AFTER_QUARTERS
    return (point.at_us if isinstance(point, UsagePoint) else point) // MICROSECONDS_PER_QUARTER_HOUR


def _before_quarter(use: Mapping[tuple[int, tuple[str, ...]], list[int]], quarter: int) -> dict[tuple[str, str], int]:
    """Add up the tokens of the buckets of `use` that start before `quarter`, by key and model.

    `use` has the charged tokens by the start of a bucket and by key and model. A bucket must start or end at `quarter`.
    """
    tokens: dict[tuple[str, str], int] = {}
    for (start, (key_id, model)), (charged,) in use.items():
        if start < quarter:
            tokens[key_id, model] = tokens.get((key_id, model), 0) + charged
    return tokens


def _add_entries(
    tx: sa.Connection, account_id: str, tokens: dict[tuple[str, str], int], until: UsagePoint | int | None
) -> dict[tuple[str, str], int] | None:
    """Add what was used from the start of the quarter hour of `until` to `until` itself, if that is an entry.

    Returns None if these are too many entries to read.
    """
    if not isinstance(until, UsagePoint):
        return tokens
    start_us = until.at_us // MICROSECONDS_PER_QUARTER_HOUR * MICROSECONDS_PER_QUARTER_HOUR
    entries = _entries_of_keys(account_id, first_id=last_before(tx, account_id, start_us) + 1, end_id=until.row_id)
    rows = tx.execute(entries).all()
    for key_id, model, amount in rows:
        tokens[key_id, model] = tokens.get((key_id, model), 0) - amount
    return tokens if len(rows) < ENTRIES_READ[-1] else None


def _entries_of_keys(account_id: str, *, first_id: int, end_id: int) -> "sa.Select[Any]":
    """Select the key, the model and the amount of the usage entries from `first_id` to `end_id`."""
    entries = sa.select(_entry.request_id, _entry.amount).where(
        _entry.account_id == account_id, _entry.id >= first_id, _entry.id < end_id, _entry.request_id.is_not(None)
    )
    page = entries.order_by(_entry.id).limit(ENTRIES_READ[-1]).subquery()
    return sa.select(request.c.api_key_id, request.c.model, page.c.amount).join_from(
        page, request, request.c.id == page.c.request_id
    )


def position_before(
    tx: sa.Connection, account_id: str, token_class: str, first_id: int, *, current: Position
) -> Position | None:
    """Return where a wallet stood before the account's entry `first_id`, if its nearest entries aren't too far away."""
    of_account = sa.select(ledger_entry).where(_entry.account_id == account_id)
    of_class = of_account.where(_entry.token_class == token_class, _IS_CHANGE)
    # SQLite would seek by the plain id, and read all entries before it.
    last_change = of_class.where(_entry.id + 0 < first_id).order_by(_entry.number.desc()).limit(1)
    next_change = of_class.where(_entry.id + 0 >= first_id).order_by(_entry.number).limit(1)
    last, next_ = (tx.execute(query).one_or_none() for query in (last_change, next_change))
    after_last = Position(number=0, posted_after=0) if last is None else _position(last)
    uses_until = current.number if next_ is None else next_.number - 1
    if uses_until == after_last.number:
        return after_last
    before = of_account.where(_entry.id < first_id).order_by(_entry.id.desc())
    after = of_account.where(_entry.id >= first_id).order_by(_entry.id)
    for rows_max in ENTRIES_READ:
        row = tx.execute(nearest_of(before.limit(rows_max).subquery(), token_class, newest=True)).one_or_none()
        if row is not None:
            return _position(row)
        row = tx.execute(nearest_of(after.limit(rows_max).subquery(), token_class, newest=False)).one_or_none()
        if row is not None:
            return Position(number=row.number - 1, posted_after=row.posted_after - row.amount)
    return None


def _position(row: sa.Row[Any]) -> Position:
    return Position(number=row.number, posted_after=row.posted_after)
