"""Find the newest requests of an account that match a filter, among millions, without an index for each filter.

Every index on `request` slows down each request. So charged requests of a model or key are found by the hourly use,
which shows the ranges of ids to scan. Requests that were not billed have a partial index that only failures update, and
requests in progress are few.
"""

from collections.abc import Iterator

import sqlalchemy as sa

from tok0n.adapters.sql.schema import api_key, request, usage_hour
from tok0n.domain import ids
from tok0n.domain.history import RequestFilter, UseFilter
from tok0n.domain.ledger import US_AN_HOUR, RequestStatus

REQUESTS = sa.select(request, api_key.c.name.label("key_name")).join(api_key, api_key.c.id == request.c.api_key_id)

HOURS_TO_CHARGE = 2
"""A request is charged at most this many hours after the hour of its creation: the longest timeout is one hour."""

_UNBILLED = sa.text("request.status IN ('RELEASED', 'EXPIRED')")
"""The literal condition of the partial index, because SQLite doesn't match a bound parameter with it."""

_PENDING = request.alias("pending")
_IN_PROGRESS = sa.select(_PENDING.c.id).where(sa.text("pending.status = 'PENDING'"), _PENDING.c.expires_at_us > 0)
"""The requests in progress of all accounts, which have a partial index."""

Rows = list[sa.Row[tuple[object, ...]]]


def newest(tx: sa.Connection, account_id: str, filters: RequestFilter, *, before: str | None, rows_max: int) -> Rows:
    """Return at most `rows_max` rows of `REQUESTS` with ids below `before`, newest first."""
    query = REQUESTS.where(request.c.account_id == account_id, *_conditions(filters, before=before))
    query = query.order_by(request.c.id.desc())
    if filters.model is None and filters.api_key_id is None and filters.status is None:
        return list(tx.execute(query.limit(rows_max)))
    statuses = list(RequestStatus) if filters.status is None else [filters.status]
    rows: Rows = []
    if RequestStatus.SETTLED in statuses:
        settled = query.where(request.c.status == RequestStatus.SETTLED)
        rows += _charged(tx, account_id, filters, settled, before=before, rows_max=rows_max)
    unbilled = [status for status in statuses if status in {RequestStatus.RELEASED, RequestStatus.EXPIRED}]
    if unbilled:
        rows += tx.execute(query.where(_UNBILLED, request.c.status.in_(unbilled)).limit(rows_max))
    if RequestStatus.PENDING in statuses:
        requests_in_progress = query.where(request.c.id.in_(_IN_PROGRESS), request.c.status == RequestStatus.PENDING)
        rows += tx.execute(requests_in_progress.limit(rows_max))
    return sorted(rows, key=lambda row: str(row.id), reverse=True)[:rows_max]


def use_conditions(account_id: str, filters: UseFilter) -> list[sa.ColumnElement[bool]]:
    """Return the conditions that select rows of `usage_hour`."""
    hours = usage_hour.c
    conditions: list[sa.ColumnElement[bool]] = [hours.account_id == account_id]
    if filters.since_hour is not None:
        conditions.append(hours.hour >= filters.since_hour)
    if filters.until_hour is not None:
        conditions.append(hours.hour < filters.until_hour)
    if filters.model is not None:
        conditions.append(hours.model == filters.model)
    if filters.api_key_id is not None:
        conditions.append(hours.api_key_id == filters.api_key_id)
    return conditions


def _conditions(filters: RequestFilter, *, before: str | None) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if filters.since_us is not None:
        conditions.append(request.c.id >= ids.first_request_id(filters.since_us))
    if filters.until_us is not None:
        conditions.append(request.c.id < ids.first_request_id(filters.until_us))
    if filters.model is not None:
        conditions.append(request.c.model == filters.model)
    if filters.api_key_id is not None:
        conditions.append(request.c.api_key_id == filters.api_key_id)
    if before is not None:
        conditions.append(request.c.id < before)
    return conditions


def _charged(
    tx: sa.Connection,
    account_id: str,
    filters: RequestFilter,
    query: "sa.Select[tuple[object, ...]]",
    *,
    before: str | None,
    rows_max: int,
) -> Rows:
    """Return rows of `query`, scanning only ranges of ids in which the hourly use shows charges."""
    hours = usage_hour.c
    use = UseFilter(model=filters.model, api_key_id=filters.api_key_id)
    charged_hours = sa.select(hours.hour).where(*use_conditions(account_id, use)).distinct().order_by(hours.hour.desc())
    rows: Rows = []
    for first, last in _ranges(list(tx.scalars(charged_hours))):
        start = ids.first_request_id((first - HOURS_TO_CHARGE) * US_AN_HOUR)
        end = ids.first_request_id((last + 1) * US_AN_HOUR)
        if before is not None and start >= before:
            continue
        rows += tx.execute(query.where(request.c.id >= start, request.c.id < end).limit(rows_max - len(rows)))
        if len(rows) >= rows_max:
            break
    return rows


def _ranges(hours: list[int]) -> Iterator[tuple[int, int]]:
    """Group hours, newest first, into ranges (first, last) whose request ids don't overlap."""
    while hours:
        last = first = hours[0]
        index = 1
        while index < len(hours) and first - hours[index] <= HOURS_TO_CHARGE:
            first = hours[index]
            index += 1
        yield first, last
        hours = hours[index:]
