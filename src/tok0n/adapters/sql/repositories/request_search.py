"""Find the newest requests of an account that fit a filter, among millions, without an index of their own.

Every index on `request` costs each call. So rare models and keys are found through the roll-ups instead: the hours in
which something fitting was charged tell which stretches of ids to look through. What was not billed has a partial index
that only failures write to, and what is in flight is little.
"""

from collections.abc import Iterator

import sqlalchemy as sa

from tok0n.adapters.sql.schema import api_key, request, usage_hour
from tok0n.domain import ids
from tok0n.domain.history import RequestFilter, UseFilter
from tok0n.domain.ledger import US_AN_HOUR, RequestStatus

REQUESTS = sa.select(request, api_key.c.name.label("key_name")).join(api_key, api_key.c.id == request.c.api_key_id)

HOURS_TO_CHARGE = 2
"""A request is charged at most so many hours after the one it was made in: the longest timeout is one hour."""

_UNBILLED = sa.text("request.status IN ('RELEASED', 'EXPIRED')")
"""The condition of the partial index, in its own words: a bound parameter would not be recognised in it."""

_PENDING = request.alias("pending")
_IN_PROGRESS = sa.select(_PENDING.c.id).where(sa.text("pending.status = 'PENDING'"), _PENDING.c.expires_at_us > 0)
"""Everybody's, by their own partial index: never more than are in flight."""

Rows = list[sa.Row[tuple[object, ...]]]


def newest(tx: sa.Connection, account_id: str, filter_by: RequestFilter, *, before: str | None, rows_max: int) -> Rows:
    """At most `rows_max` rows of `REQUESTS`, newest first, from before the id `before`."""
    query = REQUESTS.where(request.c.account_id == account_id, *_conditions(filter_by, before=before))
    query = query.order_by(request.c.id.desc())
    if filter_by.model is None and filter_by.api_key_id is None and filter_by.status is None:
        return list(tx.execute(query.limit(rows_max)))
    wanted = list(RequestStatus) if filter_by.status is None else [filter_by.status]
    rows: Rows = []
    if RequestStatus.SETTLED in wanted:
        settled = query.where(request.c.status == RequestStatus.SETTLED)
        rows += _charged(tx, account_id, filter_by, settled, before=before, rows_max=rows_max)
    unbilled = [status for status in wanted if status in {RequestStatus.RELEASED, RequestStatus.EXPIRED}]
    if unbilled:
        rows += tx.execute(query.where(_UNBILLED, request.c.status.in_(unbilled)).limit(rows_max))
    if RequestStatus.PENDING in wanted:
        requests_in_progress = query.where(request.c.id.in_(_IN_PROGRESS), request.c.status == RequestStatus.PENDING)
        rows += tx.execute(requests_in_progress.limit(rows_max))
    return sorted(rows, key=lambda row: str(row.id), reverse=True)[:rows_max]


def use_conditions(account_id: str, filter_by: UseFilter) -> list[sa.ColumnElement[bool]]:
    """What rows of the roll-up fit."""
    hours = usage_hour.c
    conditions: list[sa.ColumnElement[bool]] = [hours.account_id == account_id]
    if filter_by.since_hour is not None:
        conditions.append(hours.hour >= filter_by.since_hour)
    if filter_by.until_hour is not None:
        conditions.append(hours.hour < filter_by.until_hour)
    if filter_by.model is not None:
        conditions.append(hours.model == filter_by.model)
    if filter_by.api_key_id is not None:
        conditions.append(hours.api_key_id == filter_by.api_key_id)
    return conditions


def _conditions(filter_by: RequestFilter, *, before: str | None) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = []
    if filter_by.since_us is not None:
        conditions.append(request.c.id >= ids.first_request_id(filter_by.since_us))
    if filter_by.until_us is not None:
        conditions.append(request.c.id < ids.first_request_id(filter_by.until_us))
    if filter_by.model is not None:
        conditions.append(request.c.model == filter_by.model)
    if filter_by.api_key_id is not None:
        conditions.append(request.c.api_key_id == filter_by.api_key_id)
    if before is not None:
        conditions.append(request.c.id < before)
    return conditions


def _charged(
    tx: sa.Connection,
    account_id: str,
    filter_by: RequestFilter,
    query: "sa.Select[tuple[object, ...]]",
    *,
    before: str | None,
    rows_max: int,
) -> Rows:
    """The rows of `query`, looked for only where the roll-up says that there are some."""
    hours = usage_hour.c
    use = UseFilter(model=filter_by.model, api_key_id=filter_by.api_key_id)
    rolled = sa.select(hours.hour).where(*use_conditions(account_id, use)).distinct().order_by(hours.hour.desc())
    rows: Rows = []
    for first, last in _stretches(list(tx.scalars(rolled))):
        start = ids.first_request_id((first - HOURS_TO_CHARGE) * US_AN_HOUR)
        end = ids.first_request_id((last + 1) * US_AN_HOUR)
        if before is not None and start >= before:
            continue
        stretch = query.where(request.c.id >= start, request.c.id < end).limit(rows_max - len(rows))
        rows += tx.execute(stretch)
        if len(rows) >= rows_max:
            break
    return rows


def _stretches(hours: list[int]) -> Iterator[tuple[int, int]]:
    """Hours, newest first, as stretches (first, last) whose ids do not overlap."""
    while hours:
        last = first = hours[0]
        index = 1
        while index < len(hours) and first - hours[index] <= HOURS_TO_CHARGE:
            first = hours[index]
            index += 1
        yield first, last
        hours = hours[index:]
