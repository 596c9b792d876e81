"""Search the ledger entries of an account by their time or balance, in one statement each.

Within an account, an entry with a higher id is never older. So a binary search over the ids finds a time in about 50
seeks in the index by account and id, however long the history is.
"""

import functools
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.schema import ledger_entry

ENTRIES_READ = (20, 10_000)
"""How many entries to read in each direction to find one of a wallet: first a few, which is enough for one class."""

_TOP_STEP = 2**47
"""The first step of a search. Ids are below twice this number."""

_SEARCH = """
WITH RECURSIVE search (step, low) AS (
    SELECT CAST({top_step} AS BIGINT), CAST(:low AS BIGINT)
    UNION ALL
    SELECT step / 2, low + CASE WHEN {is_before} THEN step ELSE 0 END FROM search WHERE step > 0
)
SELECT low FROM search WHERE step = 0
"""
"""Each step asks whether the first entry from an id on comes before the point. The result is the last such id."""

_BEFORE_TIME = sa.text(
    _SEARCH.format(
        top_step=_TOP_STEP,
        is_before="(SELECT created_at_us FROM ledger_entry WHERE account_id = :account_id AND id >= low + step"
        " ORDER BY id LIMIT 1) < :at_us",
    )
)
_POSTED = (
    "(SELECT posted_after FROM (SELECT id, token_class, posted_after FROM ledger_entry"
    " WHERE account_id = :account_id AND id >= low + step AND id < :end_id ORDER BY id LIMIT {rows_max}) AS nearest"
    " WHERE token_class = :token_class ORDER BY id LIMIT 1)"
)
_NEXT = (
    sa.select(ledger_entry)
    .where(
        ledger_entry.c.account_id == sa.bindparam("account"),
        ledger_entry.c.id > sa.bindparam("after_id"),
        ledger_entry.c.id < sa.bindparam("end_id"),
    )
    .order_by(ledger_entry.c.id)
    .limit(1)
)


def last_before(tx: sa.Connection, account_id: str, at_us: int) -> int:
    """Return the row id of the account's last entry before a time, or 0."""
    return int(tx.scalar(_BEFORE_TIME, {"low": 0, "account_id": account_id, "at_us": at_us}) or 0)


def first_with_less(
    tx: sa.Connection, account_id: str, token_class: str, *, posted: int, after_id: int, end_id: int
) -> "sa.Row[Any] | None":
    """Return the first entry of a wallet between two ids that leaves less than `posted` tokens.

    Between the ids, the posted tokens of the wallet must only decrease. None if there is none, or if too many entries
    of other classes precede it (`ENTRIES_READ`).
    """
    values = {"account_id": account_id, "token_class": token_class, "posted": posted, "end_id": end_id}
    last = int(tx.scalar(_before_posted(ENTRIES_READ), values | {"low": after_id}) or 0)
    row = tx.execute(_NEXT, {"account": account_id, "after_id": last, "end_id": end_id}).one_or_none()
    if row is None or row.token_class == token_class:
        return row
    entry = ledger_entry.c
    entries = sa.select(ledger_entry).where(entry.account_id == account_id, entry.id > last, entry.id < end_id)
    for rows_max in ENTRIES_READ:
        page = entries.order_by(entry.id).limit(rows_max).subquery()
        row = tx.execute(nearest_of(page, token_class, newest=False)).one_or_none()
        if row is not None:
            return row
    return None


@functools.cache
def _before_posted(entries_read: tuple[int, ...]) -> sa.TextClause:
    nearest = ", ".join(_POSTED.format(rows_max=rows_max) for rows_max in entries_read)
    is_before = f"low + step < :end_id AND coalesce({nearest}, NULL) >= :posted"
    return sa.text(_SEARCH.format(top_step=_TOP_STEP, is_before=is_before))


def nearest_of(entries: sa.Subquery, token_class: str, *, newest: bool) -> "sa.Select[Any]":
    """Select the newest or oldest of the entries that is of a token class."""
    query = sa.select(entries).where(entries.c.token_class == token_class)
    return query.order_by(entries.c.id.desc() if newest else entries.c.id).limit(1)
