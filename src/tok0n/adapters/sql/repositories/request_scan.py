"""Search requests by tokens or latency, which no index has, in steps whose cost is bounded.

A step reads at most `SCANNED_MAX` requests of the account, so it takes as long with a million requests as with few.
"""

import sqlalchemy as sa

from tok0n.adapters.sql.repositories import request_totals
from tok0n.adapters.sql.repositories.request_search import UNBILLED, Rows, id_bounds, newest
from tok0n.adapters.sql.schema import request
from tok0n.domain.history import NOT_BILLED, RequestFilter, UseTotals

SCANNED_MAX = 10_000


def search(
    tx: sa.Connection,
    account_id: str,
    filters: RequestFilter,
    *,
    search_before: str | None,
    before: str | None,
    rows_max: int,
) -> tuple[Rows, UseTotals | None, str | None]:
    """Search the newest `SCANNED_MAX` requests below the id `search_before`. See `domain.history.RequestSearch`."""
    if not filters.statuses:
        return [], None, None
    lower, upper = id_bounds(filters, before=search_before)
    searched_to = _lowest(tx, account_id, filters, lower=lower, upper=upper)
    lowest = lower if searched_to is None else searched_to
    top = upper if before is None else min(before, upper)
    rows = newest(tx, account_id, filters, before=top, rows_max=rows_max, lowest=lowest)
    totals = None
    if filters.has_billed:
        totals = request_totals.totals_between(tx, account_id, filters, lower=lowest, upper=upper)
    return rows, totals, searched_to


def _lowest(tx: sa.Connection, account_id: str, filters: RequestFilter, *, lower: str, upper: str) -> str | None:
    """Return the lowest id to search. None if all ids within the bounds can be searched."""
    columns = request.c
    query = sa.select(columns.id).where(columns.account_id == account_id, columns.id >= lower, columns.id < upper)
    if filters.statuses <= NOT_BILLED:
        query = query.where(UNBILLED)
    last_two = list(tx.scalars(query.order_by(columns.id.desc()).offset(SCANNED_MAX - 1).limit(2)))
    return last_two[0] if len(last_two) > 1 else None
