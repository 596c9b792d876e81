"""Search the ledger entries of an account by their time or balance, in one statement for any number of points.

Within an account, an entry with a higher id is never older. So a binary search over the ids finds a time in about 50
seeks in the index by account and id, however long the history is.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from tok0n.adapters.sql.store import Row, fetch

ENTRIES_READ = (20, 10_000)
"""How many entries to read in each direction to find one of a wallet: first a few, which is enough for one class."""

_TOP_STEP = 2**47
"""The first step of a search. Ids are below twice this number."""

_SEARCH = """
WITH RECURSIVE point (number, low, {columns}) AS (VALUES {points}),
search (point, step, low, {columns}) AS (
    SELECT number, CAST({top_step} AS BIGINT), low, {columns} FROM point
    UNION ALL
    SELECT point, step / 2, low + CASE WHEN {is_before} THEN step ELSE 0 END, {columns} FROM search WHERE step > 0
)
"""
"""Each step asks whether the first entry from an id on comes before the point. The result is the last such id."""

_IS_BEFORE_TIME = (
    "(SELECT created_at_us FROM ledger_entry WHERE account_id = :account_id AND id >= low + step ORDER BY id LIMIT 1)"
    " < at_us"
)
_POSTED = (
    "(SELECT posted_after FROM (SELECT id, token_class, posted_after FROM ledger_entry"
    " WHERE account_id = :account_id AND id >= low + step AND id < end_id ORDER BY id LIMIT {rows_max}) AS nearest"
    " WHERE token_class = of_class ORDER BY id LIMIT 1)"
)
_LAST_IDS = "SELECT low FROM search WHERE step = 0 ORDER BY point"
_FIRST_AFTER = """
SELECT point, low, entry.id, entry.token_class, entry.number, entry.amount, entry.posted_after, entry.created_at_us
FROM search CROSS JOIN ledger_entry AS entry WHERE step = 0 AND entry.id = (
    SELECT later.id FROM ledger_entry AS later
    WHERE later.account_id = :account_id AND later.id > low AND later.id < end_id ORDER BY later.id LIMIT 1
)
"""
_NEAREST = """
SELECT id, token_class, number, amount, posted_after, created_at_us FROM (
    SELECT id, token_class, number, amount, posted_after, created_at_us FROM ledger_entry
    WHERE account_id = :account_id AND id {comparison} :row_id ORDER BY id {order} LIMIT {rows_max}
) AS nearest WHERE token_class = :token_class ORDER BY id {order} LIMIT 1
"""


class UseSearch(NamedTuple):
    """A search in a wallet for the first entry that leaves less than `posted` tokens.

    All entries between `after_id` and `end_id`, both exclusive, are usage.
    """

    token_class: str
    after_id: int
    end_id: int
    posted: int


def last_before(tx: sa.Connection, account_id: str, at_us: int) -> int:
    """Return the row id of the account's last entry before a time, or 0."""
    return last_before_each(tx, account_id, [at_us])[0]


def last_before_each(tx: sa.Connection, account_id: str, times_us: Sequence[int]) -> list[int]:
    """Return the row id of the account's last entry before each time, or 0."""
    if not times_us:
        return []
    values = {f"at_{point}": at_us for point, at_us in enumerate(times_us)}
    rows = fetch(tx, _before_times(len(times_us)), account_id=account_id, **values)
    return [int(low) for (low,) in rows]


@functools.cache
def _before_times(points: int) -> str:
    rows = ", ".join(f"({point}, CAST(0 AS BIGINT), CAST(:at_{point} AS BIGINT))" for point in range(points))
    search = _SEARCH.format(columns="at_us", points=rows, top_step=_TOP_STEP, is_before=_IS_BEFORE_TIME)
    return search + _LAST_IDS


def first_with_less(tx: sa.Connection, account_id: str, searches: Sequence[UseSearch]) -> list[Row | None]:
    """Return the entry that each search finds.

    A row is the id, class, number, amount, `posted_after` and time of an entry. None if there is none, or if too many
    entries of other classes precede it (`ENTRIES_READ`).
    """
    if not searches:
        return []
    values: dict[str, Any] = {}
    for point, search in enumerate(searches):
        values |= {f"{name}_{point}": value for name, value in search._asdict().items()}
    found: list[Row | None] = [None] * len(searches)
    for point, low, *entry in fetch(tx, _before_posted(len(searches), ENTRIES_READ), account_id=account_id, **values):
        search = searches[point]
        is_of_class = entry[1] == search.token_class
        found[point] = tuple(entry) if is_of_class else _first_of_class(tx, account_id, search, after_id=low)
    return found


def _first_of_class(tx: sa.Connection, account_id: str, search: UseSearch, *, after_id: int) -> Row | None:
    for rows_max in ENTRIES_READ:
        row = nearest(tx, account_id, search.token_class, row_id=after_id + 1, newest=False, rows_max=rows_max)
        if row is not None:
            return row if row[0] < search.end_id else None
    return None


@functools.cache
def _before_posted(points: int, entries_read: tuple[int, ...]) -> str:
    types = {"after_id": "BIGINT", "end_id": "BIGINT", "posted": "BIGINT", "token_class": "TEXT"}
    rows = ", ".join(
        f"({point}, {', '.join(f'CAST(:{name}_{point} AS {type_})' for name, type_ in types.items())})"
        for point in range(points)
    )
    posted = ", ".join(_POSTED.format(rows_max=rows_max) for rows_max in entries_read)
    is_before = f"low + step < end_id AND coalesce({posted}, NULL) >= posted"
    columns = "end_id, posted, of_class"
    search = _SEARCH.format(columns=columns, points=rows, top_step=_TOP_STEP, is_before=is_before)
    return search + _FIRST_AFTER


def nearest(
    tx: sa.Connection, account_id: str, token_class: str, *, row_id: int, newest: bool, rows_max: int
) -> Row | None:
    """Return the newest entry of a wallet before a row, or the oldest one from the row on.

    Reads at most `rows_max` entries of the account. A row has the columns that `first_with_less` describes.
    """
    comparison, order = ("<", "DESC") if newest else (">=", "ASC")
    query = _NEAREST.format(comparison=comparison, order=order, rows_max=rows_max)
    rows = fetch(tx, query, account_id=account_id, token_class=token_class, row_id=row_id)
    return rows[0] if rows else None
