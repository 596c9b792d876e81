"""Add up the billed requests of an exact period, among millions.

The roll-ups count a request by the quarter hour of its charge, but a period selects requests by their creation. So the
sum of whole quarter hours is corrected by the requests near the edges of the period, which are few.
"""

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.use import SUMMED, use
from tok0n.adapters.sql.schema import request
from tok0n.adapters.sql.store import by_index
from tok0n.domain import ids
from tok0n.domain.history import RequestFilter, UseFilter, UseTotals
from tok0n.domain.ledger import US_A_QUARTER, RequestStatus

EDGE_QUARTERS = 26 * 4
"""A request is charged at most so many quarter hours after its creation: a stream can take a day."""

_COLUMNS = (sa.func.count(), *(sa.func.coalesce(sa.func.sum(request.c[name]), 0) for name in SUMMED[1:]))
_Sums = tuple[int, ...]


def totals(tx: sa.Connection, account_id: str, filters: RequestFilter) -> UseTotals:
    """Return the totals of the billed requests that were created in the period of `filters`."""
    by_index(tx)
    since_us, until_us = filters.since_us, filters.until_us
    first = None if since_us is None else -(-since_us // US_A_QUARTER)
    end = None if until_us is None else until_us // US_A_QUARTER
    if first is not None and end is not None and end - first <= EDGE_QUARTERS:
        return _to_totals(_created(tx, account_id, filters, since_us=since_us, until_us=until_us))
    quarters = UseFilter(since_quarter=first, until_quarter=end, model=filters.model, api_key_id=filters.api_key_id)
    sums = [_charged(tx, account_id, quarters)]
    if since_us is not None and first is not None:
        start_us = first * US_A_QUARTER
        earlier_us = max(0, since_us - EDGE_QUARTERS * US_A_QUARTER)
        # Created in the period and charged before its first whole quarter, or created earlier and charged in that.
        edge = request.c.resolved_at_us < start_us
        sums.append(_created(tx, account_id, filters, edge, since_us=since_us, until_us=start_us))
        late = request.c.resolved_at_us >= start_us
        sums.append(_negative(_created(tx, account_id, filters, late, since_us=earlier_us, until_us=since_us)))
    if until_us is not None and end is not None:
        end_us = end * US_A_QUARTER
        earlier_us = max(since_us or 0, end_us - EDGE_QUARTERS * US_A_QUARTER)
        late = request.c.resolved_at_us >= end_us
        sums.append(_created(tx, account_id, filters, late, since_us=earlier_us, until_us=until_us))
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
    since_us: int | None,
    until_us: int | None,
) -> _Sums:
    """Return the sums of the billed requests that were created in a short period."""
    assert since_us is not None
    assert until_us is not None
    query = sa.select(*_COLUMNS).where(
        request.c.account_id == account_id,
        request.c.id >= ids.first_request_id(since_us),
        request.c.id < ids.first_request_id(until_us),
        request.c.status == RequestStatus.SETTLED,
        *conditions,
    )
    if filters.model is not None:
        query = query.where(request.c.model == filters.model)
    if filters.api_key_id is not None:
        query = query.where(request.c.api_key_id == filters.api_key_id)
    return tuple(map(int, tx.execute(query).one()))


def _negative(sums: _Sums) -> _Sums:
    return tuple(-value for value in sums)


def _to_totals(sums: _Sums) -> UseTotals:
    return UseTotals(**dict(zip(SUMMED, sums, strict=True)))
