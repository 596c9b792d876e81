"""Add up the billed requests of an exact period, among millions.

The roll-ups count a request by the quarter hour of its charge, but a period selects requests by their creation. So the
sum of whole quarter hours is corrected by the requests near the edges of the period, which are few.
"""

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.request_search import matching
from tok0n.adapters.sql.repositories.use import SUMMED, use
from tok0n.adapters.sql.schema import request
from tok0n.adapters.sql.store import by_index
from tok0n.domain import ids
from tok0n.domain.history import RequestFilter, UseFilter, UseTotals
from tok0n.domain.ledger import US_A_QUARTER, US_AN_HOUR, RequestStatus

EDGE_US = 26 * US_AN_HOUR
"""The longest time between the creation of a request and its charge. A stream can take a day."""

_COLUMNS = (sa.func.count(), *(sa.func.coalesce(sa.func.sum(request.c[name]), 0) for name in SUMMED[1:]))
_Sums = tuple[int, ...]


def totals(tx: sa.Connection, account_id: str, filters: RequestFilter) -> UseTotals:
    """Return the totals of the billed requests that were created in the period of `filters`."""
    by_index(tx)
    since_us, until_us = filters.since_us, filters.until_us
    if since_us is not None and until_us is not None and until_us - since_us <= EDGE_US:
        return _to_totals(_created(tx, account_id, filters, since_us=since_us, until_us=until_us))
    first = end = None
    edges: list[_Sums] = []
    charged_at_us = request.c.resolved_at_us
    if since_us is not None:
        first = -(-since_us // US_A_QUARTER)
        start_us = first * US_A_QUARTER
        # Add what was created in the period and charged before its first whole quarter hour, and subtract what was
        # created before the period and charged since.
        early, late = charged_at_us < start_us, charged_at_us >= start_us
        edges.append(_created(tx, account_id, filters, early, since_us=since_us, until_us=start_us))
        before_us = max(0, since_us - EDGE_US)
        edges.append(_negative(_created(tx, account_id, filters, late, since_us=before_us, until_us=since_us)))
    if until_us is not None:
        end = until_us // US_A_QUARTER
        end_us = end * US_A_QUARTER
        after_us = max(since_us or 0, end_us - EDGE_US)
        late = charged_at_us >= end_us
        edges.append(_created(tx, account_id, filters, late, since_us=after_us, until_us=until_us))
    quarters = UseFilter(since_quarter=first, until_quarter=end, model=filters.model, api_key_id=filters.api_key_id)
    sums = [_charged(tx, account_id, quarters), *edges]
    return _to_totals(tuple(map(sum, zip(*sums, strict=True))))


def _charged(tx: sa.Connection, account_id: str, quarters: UseFilter) -> _Sums:
    """Return the sums of the requests that were charged in these quarter hours."""
    rows = use(tx, account_id, quarters)
    sums = tx.execute(sa.select(*(sa.func.coalesce(sa.func.sum(rows.c[name]), 0) for name in SUMMED))).one()
    return tuple(map(int, sums))


def _created(
    tx: sa.Connection,
    account_id: str,
    filters: RequestFilter,
    *conditions: sa.ColumnElement[bool],
    since_us: int,
    until_us: int,
) -> _Sums:
    """Return the sums of the billed requests that were created in a short period."""
    query = sa.select(*_COLUMNS).where(
        request.c.account_id == account_id,
        request.c.id >= ids.first_request_id(since_us),
        request.c.id < ids.first_request_id(until_us),
        request.c.status == RequestStatus.SETTLED,
        *conditions,
    )
    return tuple(map(int, tx.execute(query.where(*matching(request, filters))).one()))


def _negative(sums: _Sums) -> _Sums:
    return tuple(-value for value in sums)


def _to_totals(sums: _Sums) -> UseTotals:
    return UseTotals(**dict(zip(SUMMED, sums, strict=True)))
