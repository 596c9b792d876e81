"""Find the newest requests of an account that match a filter, among millions, without an index for each filter.

Every index on `request` slows down each request. So charged requests of a model or key are found by the quarter hours
in which it was used, which show the ranges of ids to scan. Requests that took long to charge, requests that were not
billed, and requests in progress have partial indexes that other requests don't update. Tokens and latency have no
index: `request_scan` limits how much of the history is searched for them.
"""

import itertools
from collections.abc import Iterator

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.use import quarters_of_use
from tok0n.adapters.sql.schema import api_key, request
from tok0n.adapters.sql.store import by_index
from tok0n.domain import ids
from tok0n.domain.history import NOT_BILLED, RequestFilter, UseFilter
from tok0n.domain.ledger import US_A_QUARTER, RequestStatus

REQUESTS = sa.select(request, api_key.c.name.label("key_name")).join(api_key, api_key.c.id == request.c.api_key_id)

IS_SLOW = sa.text(
    "request.status = 'SETTLED' AND CASE WHEN request.resolved_at_us - request.created_at_us > 900000000 THEN 1 END = 1"
)
"""The literal condition of the partial index of charged requests that took longer than a quarter hour.

PostgreSQL expects a third of the rows to pass an inequality, and would not use the index. It expects an equality to
match few rows.
"""

NOT_SLOW = sa.text("request.resolved_at_us - request.created_at_us <= 900000000")

QUARTERS_TO_CHARGE = 2
"""A request that isn't slow is charged at most this many quarter hours after that of its id.

The second one is for the time from the creation of the id to the reservation.
"""

UNBILLED = sa.text("request.status IN ('RELEASED', 'EXPIRED')")
"""The literal condition of the partial index, because SQLite doesn't match a bound parameter with it."""

_PENDING = request.alias("pending")
_IN_PROGRESS = sa.select(_PENDING.c.id).where(sa.text("pending.status = 'PENDING'"), _PENDING.c.expires_at_us > 0)
"""The requests in progress of all accounts, which have a partial index."""

Rows = list[sa.Row[tuple[object, ...]]]


def newest(
    tx: sa.Connection,
    account_id: str,
    filters: RequestFilter,
    *,
    before: str | None,
    rows_max: int,
    lowest: str = "",
) -> Rows:
    """Return at most `rows_max` rows of `REQUESTS` with ids from `lowest`, below `before`, newest first."""
    statuses = filters.statuses
    if not statuses:
        return []
    by_index(tx)
    lower, upper = id_bounds(filters, before=before)
    bounds = max(lower, lowest), upper
    all_times = REQUESTS.where(request.c.account_id == account_id, *matching(request, filters), *measured(filters))
    all_times = all_times.order_by(request.c.id.desc())
    query = all_times.where(*_within(*bounds))
    if not any((filters.model, filters.api_key_id, filters.status, filters.code)):
        return list(tx.execute(query.limit(rows_max)))
    rows: Rows = []
    if RequestStatus.SETTLED in statuses:
        fast = all_times.where(request.c.status == RequestStatus.SETTLED, NOT_SLOW)
        rows += _charged(tx, account_id, filters, fast, bounds=bounds, rows_max=rows_max)
        rows += tx.execute(query.where(IS_SLOW).limit(rows_max))
    if unbilled := sorted(statuses & NOT_BILLED):
        rows += tx.execute(query.where(UNBILLED, request.c.status.in_(unbilled)).limit(rows_max))
    if RequestStatus.PENDING in statuses:
        in_progress = all_times.where(request.c.id.in_(_IN_PROGRESS), request.c.status == RequestStatus.PENDING)
        lower, upper = bounds
        # SQLite would seek by bounds of the plain column, and read all requests of the account.
        text = request.c.id.concat("")
        rows += tx.execute(in_progress.where(text >= lower, text < upper).limit(rows_max))
    return sorted(rows, key=lambda row: str(row.id), reverse=True)[:rows_max]


def matching(table: sa.Table, filters: RequestFilter) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of a filter on the model, the key and the error code of a table of requests."""
    values = {name: getattr(filters, name) for name in ("model", "api_key_id", "code")}
    return [table.c[name] == value for name, value in values.items() if value is not None]


def measured(filters: RequestFilter) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of a filter on the tokens and the latency of requests that reserved tokens."""
    least = {"charged": filters.tokens_min, "upstream_ms": filters.latency_ms_min}
    most = {"charged": filters.tokens_max, "upstream_ms": filters.latency_ms_max}
    conditions = [request.c[name] >= value for name, value in least.items() if value is not None]
    conditions += [request.c[name] <= value for name, value in most.items() if value is not None]
    if not conditions:
        return []
    return [*conditions, request.c.status.in_(sorted(filters.statuses))]


def id_bounds(filters: RequestFilter, *, before: str | None) -> tuple[str, str]:
    """Return the lower bound of the ids, inclusive, and the upper bound, exclusive.

    A query has one of each, because SQLite may seek by the wrong one of two.
    """
    lower = "" if filters.since_us is None else ids.first_request_id(filters.since_us)
    uppers = [ids.AFTER_REQUEST_IDS] if before is None else [before]
    if filters.until_us is not None:
        uppers.append(ids.first_request_id(filters.until_us))
    return lower, min(uppers)


def _within(lower: str, upper: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (request.c.id >= lower, request.c.id < upper)


def _charged(
    tx: sa.Connection,
    account_id: str,
    filters: RequestFilter,
    query: "sa.Select[tuple[object, ...]]",
    *,
    bounds: tuple[str, str],
    rows_max: int,
) -> Rows:
    """Return rows of `query` with ids in `bounds`, scanning only ranges in which the use shows charges."""
    lower, upper = bounds
    since_us, until_us = ids.request_time_us(lower), ids.request_time_us(upper)
    use = UseFilter(
        since_quarter=None if since_us is None else since_us // US_A_QUARTER,
        until_quarter=None if until_us is None else until_us // US_A_QUARTER + QUARTERS_TO_CHARGE + 1,
        model=filters.model,
        api_key_id=filters.api_key_id,
    )
    rows: Rows = []
    for first, last in itertools.chain.from_iterable(map(_ranges, quarters_of_use(tx, account_id, use))):
        start = max(lower, ids.first_request_id(max(0, first - QUARTERS_TO_CHARGE) * US_A_QUARTER))
        end = min(upper, ids.first_request_id((last + 1) * US_A_QUARTER))
        if start < end:
            rows += tx.execute(query.where(*_within(start, end)).limit(rows_max - len(rows)))
            upper = start
        if len(rows) >= rows_max:
            break
    return rows


def _ranges(quarters: list[int]) -> Iterator[tuple[int, int]]:
    """Group quarter hours, newest first, into ranges (first, last) whose request ids don't overlap."""
    while quarters:
        last = first = quarters[0]
        index = 1
        while index < len(quarters) and first - quarters[index] <= QUARTERS_TO_CHARGE:
            first = quarters[index]
            index += 1
        yield first, last
        quarters = quarters[index:]
