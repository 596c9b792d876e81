"""Add up the billed requests of an exact period, among millions.

The roll-ups count a request by the quarter hour of its charge, but a period selects requests by their creation. So the
sum of whole quarter hours is corrected by the requests near the edges of the period, which are few.
"""

import sqlalchemy as sa

from tok0n.adapters.sql.repositories import use
from tok0n.adapters.sql.repositories.request_search import IS_SLOW, NOT_SLOW, QUARTERS_TO_CHARGE, matching, measured
from tok0n.adapters.sql.repositories.use import SUMMED
from tok0n.adapters.sql.schema import request
from tok0n.domain import ids
from tok0n.domain.history import RequestFilter, UseFilter, UseTotals
from tok0n.domain.ledger import MICROSECONDS_PER_HOUR, MICROSECONDS_PER_QUARTER_HOUR, RequestStatus

_EDGE_US = QUARTERS_TO_CHARGE * MICROSECONDS_PER_QUARTER_HOUR
"""The longest time between the creation of a request's id and its charge, unless the request is slow."""

SLOWEST_US = 26 * MICROSECONDS_PER_HOUR
"""The longest time between the creation of any request and its charge. A stream can take a day."""

_COLUMNS = (sa.func.count(), *(sa.func.coalesce(sa.func.sum(request.c[name]), 0) for name in SUMMED[1:]))
_Sums = tuple[int, ...]


def totals(tx: sa.Connection, account_id: str, filters: RequestFilter) -> UseTotals:
    """Return the totals of the billed requests that were created in the period of `filters`, which isn't measured."""
    assert not filters.is_measured
    since_us, until_us = filters.since_us, filters.until_us
    if since_us is not None and until_us is not None and until_us - since_us <= _EDGE_US:
        return _to_totals(_created(tx, account_id, filters, since_us=since_us, until_us=until_us))
    first = None if since_us is None else -(-since_us // MICROSECONDS_PER_QUARTER_HOUR)
    end = None if until_us is None else until_us // MICROSECONDS_PER_QUARTER_HOUR
    edges: list[_Sums] = []
    charged_at_us = request.c.resolved_at_us
    if since_us is not None and first is not None:
        start_us = first * MICROSECONDS_PER_QUARTER_HOUR
        # Add what was created in the period and charged before its first whole quarter hour, and subtract what was
        # created before the period and charged in its whole quarter hours.
        early = _created(tx, account_id, filters, charged_at_us < start_us, since_us=since_us, until_us=start_us)
        is_counted = [
            charged_at_us >= start_us,
            *([] if end is None else [charged_at_us < end * MICROSECONDS_PER_QUARTER_HOUR]),
        ]
        late = _created_before(
            tx, account_id, filters, *is_counted, since_us=0, until_us=since_us, charged_since_us=start_us
        )
        edges += [early, *map(_negative, late)]
    if until_us is not None and end is not None:
        end_us = end * MICROSECONDS_PER_QUARTER_HOUR
        is_late = charged_at_us >= end_us
        edges += _created_before(
            tx, account_id, filters, is_late, since_us=since_us or 0, until_us=until_us, charged_since_us=end_us
        )
    quarters = UseFilter(since_quarter=first, until_quarter=end, model=filters.model, api_key_id=filters.api_key_id)
    sums = [use.totals(tx, account_id, quarters), *edges]
    return _to_totals(tuple(map(sum, zip(*sums, strict=True))))


def totals_between(tx: sa.Connection, account_id: str, filters: RequestFilter, *, lower: str, upper: str) -> UseTotals:
    """Return the totals of the billed requests with ids from `lower`, below `upper`. Reads all requests between."""
    return _to_totals(_sums(tx, account_id, filters, lower=lower, upper=upper))


def _created_before(
    tx: sa.Connection,
    account_id: str,
    filters: RequestFilter,
    *conditions: sa.ColumnElement[bool],
    since_us: int,
    until_us: int,
    charged_since_us: int,
) -> tuple[_Sums, _Sums]:
    """Return the sums of the requests that were created in a period and charged since a time near its end.

    The first sums are those of requests that were not slow, the second those of the others.
    """
    edge_us = min(until_us, charged_since_us)
    near_us, far_us = (max(since_us, edge_us - us) for us in (_EDGE_US, SLOWEST_US))
    near = _created(tx, account_id, filters, *conditions, NOT_SLOW, since_us=near_us, until_us=until_us)
    return near, _created(tx, account_id, filters, *conditions, IS_SLOW, since_us=far_us, until_us=until_us)


def _created(
    tx: sa.Connection,
    account_id: str,
    filters: RequestFilter,
    *conditions: sa.ColumnElement[bool] | sa.TextClause,
    since_us: int,
    until_us: int,
) -> _Sums:
    """Return the sums of the billed requests that were created in a short period."""
    lower, upper = ids.first_request_id(since_us), ids.first_request_id(until_us)
    return _sums(tx, account_id, filters, *conditions, lower=lower, upper=upper)


def _sums(
    tx: sa.Connection,
    account_id: str,
    filters: RequestFilter,
    *conditions: sa.ColumnElement[bool] | sa.TextClause,
    lower: str,
    upper: str,
) -> _Sums:
    query = sa.select(*_COLUMNS).where(
        request.c.account_id == account_id,
        request.c.id >= lower,
        request.c.id < upper,
        request.c.status == RequestStatus.SETTLED,
        *conditions,
        *measured(filters),
    )
    return tuple(map(int, tx.execute(query.where(*matching(request, filters))).one()))


def _negative(sums: _Sums) -> _Sums:
    return tuple(-value for value in sums)


def _to_totals(sums: _Sums) -> UseTotals:
    return UseTotals(**dict(zip(SUMMED, sums, strict=True)))
