"""The `Lots` port in SQL.

Reads usage by index, however long the history is, and all other entries of the account.
"""

import bisect
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.entry_search import (
    ENTRIES_READ,
    UseSearch,
    first_with_less,
    last_before_each,
    nearest,
)
from tok0n.adapters.sql.repositories.use import AFTER_QUARTERS, use_of_buckets
from tok0n.adapters.sql.schema import ledger_entry, pack_order, wallet
from tok0n.adapters.sql.store import Row, SqlStore, fetch
from tok0n.domain.history import UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR, EntryKind
from tok0n.domain.lots import MICROS_PER_CENT, LotEntry, Position, PriceChange, UsageEntry, UsagePoint
from tok0n.domain.orders import cents_without_tax

_entry = ledger_entry.c
_IS_CHANGE = _entry.kind != sa.literal_column("'usage'")
"""The condition of the index `ledger_entry_change`. With a parameter, SQLite could not use the index."""


_CHANGES = (
    "SELECT token_class, id, number, posted_after FROM ledger_entry"
    " WHERE account_id = :account_id AND kind <> 'usage' ORDER BY token_class, number"
)
_CHANGES_AROUND = """
WITH last AS (
    SELECT id, number, posted_after FROM ledger_entry
    WHERE account_id = :account_id AND token_class = :token_class AND kind <> 'usage' AND id + 0 < :first_id
    ORDER BY number DESC LIMIT 1
)
SELECT id, number, posted_after FROM last
UNION ALL
SELECT id, number, posted_after FROM (
    SELECT id, number, posted_after FROM ledger_entry
    WHERE account_id = :account_id AND token_class = :token_class AND kind <> 'usage'
    AND number > coalesce((SELECT number FROM last), 0) ORDER BY number LIMIT 1
) AS following
"""
"""With the plain id, SQLite would seek by it, and read all entries of all accounts before it."""

_USED_BETWEEN = """
SELECT {point} AS point, request.api_key_id, request.model, CAST(-sum(page.amount) AS BIGINT), count(*)
FROM (
    SELECT request_id, amount FROM ledger_entry
    WHERE account_id = :account_id AND id > :after_{point} AND id < :end_{point} AND request_id IS NOT NULL
    ORDER BY id LIMIT {rows_max}
) AS page CROSS JOIN request WHERE request.id = page.request_id GROUP BY request.api_key_id, request.model
"""


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
            return {
                row.request_id: (
                    row.token_class,
                    UsageEntry(number=row.number, tokens=-row.amount, posted_after=row.posted_after),
                )
                for row in tx.execute(query)
            }

        return await self._store.read(fn)

    async def positions(self, account_id: str, *, before_us: Sequence[int | None]) -> list[dict[str, Position | None]]:
        times_us = [at_us for at_us in before_us if at_us is not None]

        def fn(tx: sa.Connection) -> list[dict[str, Position | None]]:
            rows = tx.execute(sa.select(wallet).where(wallet.c.account_id == account_id)).all()
            current = {row.token_class: Position(number=row.entries, posted_after=row.posted) for row in rows}
            last_ids = iter(last_before_each(tx, account_id, times_us))
            newest_id = _newest_id(tx, account_id) if times_us else 0
            changes = changes_of(tx, account_id) if times_us else {}
            positions: list[dict[str, Position | None]] = []
            for at_us in before_us:
                last_id = newest_id if at_us is None else next(last_ids)
                positions.append(
                    dict(current)
                    if last_id == newest_id
                    else {
                        name: position_before(
                            tx, account_id, name, last_id + 1, current=now, changes=changes.get(name, [])
                        )
                        for name, now in current.items()
                    }
                )
            return positions

        return await self._store.read(fn)

    async def first_uses(self, account_id: str, changes: Sequence[tuple[str, PriceChange]]) -> list[UsagePoint | None]:
        def fn(tx: sa.Connection) -> list[UsagePoint | None]:
            ids = changes_of(tx, account_id)
            newest_id = _newest_id(tx, account_id)
            searches = [_use_search(ids.get(name, []), name, change, newest_id=newest_id) for name, change in changes]
            return [None if row is None else _usage_point(row) for row in first_with_less(tx, account_id, searches)]

        return await self._store.read(fn) if changes else []

    async def tokens_of_keys(
        self, account_id: str, *, until: Sequence[UsagePoint | int | None]
    ) -> list[dict[tuple[str, str], int] | None]:
        quarters = [_quarter_of(point) for point in until]
        starts = sorted({0, *quarters})

        def fn(tx: sa.Connection) -> list[dict[tuple[str, str], int] | None]:
            use = use_of_buckets(
                tx,
                account_id,
                UseFilter(until_quarter=starts[-1]),
                by=("api_key_id", "model"),
                starts=starts[:-1],
                summed=("charged",),
            )
            points = [point for point in until if isinstance(point, UsagePoint)]
            in_quarters = iter(_used_in_quarters(tx, account_id, points))
            return [
                _added(_before_quarter(use, quarter), next(in_quarters) if isinstance(point, UsagePoint) else {})
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


class Change(NamedTuple):
    """An entry of a wallet that isn't usage."""

    id: int
    number: int
    posted_after: int


def changes_of(tx: sa.Connection, account_id: str) -> dict[str, list[Change]]:
    """Return the entries of each wallet that aren't usage, in the order of their numbers."""
    changes: dict[str, list[Change]] = {}
    for token_class, *change in fetch(tx, _CHANGES, account_id=account_id):
        changes.setdefault(token_class, []).append(Change(*change))
    return changes


def changes_around(tx: sa.Connection, account_id: str, token_class: str, first_id: int) -> list[Change]:
    """Return a wallet's last change before the account's entry `first_id`, and its first one from there on.

    Reads the later changes, newest first. For many positions, `changes_of` is faster.
    """
    values = {"account_id": account_id, "token_class": token_class, "first_id": first_id}
    return sorted(Change(*row) for row in fetch(tx, _CHANGES_AROUND, **values))


def _use_search(changes: Sequence[Change], token_class: str, price: PriceChange, *, newest_id: int) -> UseSearch:
    """Return the search for the first usage after a change of the price, before the wallet's next change."""
    index = bisect.bisect_right(changes, price.after_number, key=lambda change: change.number)
    after_id = changes[index - 1].id if index and changes[index - 1].number == price.after_number else 0
    end_id = changes[index].id if index < len(changes) else newest_id + 1
    return UseSearch(token_class, after_id, end_id, price.posted)


def _usage_point(row: Row) -> UsagePoint:
    row_id, _, number, amount, posted_after, at_us = row
    return UsagePoint(
        row_id=row_id, at_us=at_us, before=Position(number=number - 1, posted_after=posted_after - amount)
    )


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


def _added(
    tokens: dict[tuple[str, str], int], more: Mapping[tuple[str, str], int] | None
) -> dict[tuple[str, str], int] | None:
    if more is None:
        return None
    for key, added in more.items():
        tokens[key] = tokens.get(key, 0) + added
    return tokens


def _used_in_quarters(
    tx: sa.Connection, account_id: str, points: Sequence[UsagePoint]
) -> list[dict[tuple[str, str], int] | None]:
    """Return what was used from the start of the quarter hour of each point to the point, by key and model.

    None if these are too many entries to read.
    """
    if not points:
        return []
    starts_us = [point.at_us // MICROSECONDS_PER_QUARTER_HOUR * MICROSECONDS_PER_QUARTER_HOUR for point in points]
    values: dict[str, Any] = {}
    for index, (point, last_id) in enumerate(zip(points, last_before_each(tx, account_id, starts_us), strict=True)):
        values |= {f"after_{index}": last_id, f"end_{index}": point.row_id}
    used: list[dict[tuple[str, str], int]] = [{} for _ in points]
    entries = [0] * len(points)
    for index, key_id, model, tokens, rows in fetch(tx, _used_between(len(points)), account_id=account_id, **values):
        used[index][key_id, model] = tokens
        entries[index] += rows
    return [tokens if rows < ENTRIES_READ[-1] else None for tokens, rows in zip(used, entries, strict=True)]


@functools.cache
def _used_between(points: int) -> str:
    return " UNION ALL ".join(_USED_BETWEEN.format(point=point, rows_max=ENTRIES_READ[-1]) for point in range(points))


def position_before(
    tx: sa.Connection,
    account_id: str,
    token_class: str,
    first_id: int,
    *,
    current: Position,
    changes: Sequence[Change],
) -> Position | None:
    """Return a wallet's position before the account's entry `first_id`.

    `changes` are those of the wallet, at least the ones around `first_id`. None if the wallet's nearest entries are too
    far away (`ENTRIES_READ`).
    """
    index = bisect.bisect_left(changes, first_id, key=lambda change: change.id)
    after_last = Position(number=0, posted_after=0)
    if index:
        after_last = Position(number=changes[index - 1].number, posted_after=changes[index - 1].posted_after)
    next_number = changes[index].number if index < len(changes) else current.number + 1
    if next_number - 1 == after_last.number:
        return after_last
    for rows_max in ENTRIES_READ:
        row = nearest(tx, account_id, token_class, row_id=first_id, newest=True, rows_max=rows_max)
        if row is not None:
            _, _, number, _, posted_after, _ = row
            return Position(number=number, posted_after=posted_after)
        row = nearest(tx, account_id, token_class, row_id=first_id, newest=False, rows_max=rows_max)
        if row is not None:
            return _usage_point(row).before
    return None
