"""Find the newest requests of an account that match a filter, among millions, without an index for each filter.

Every index on `request` slows down each request. So charged requests of a model or key are found by the quarter hours
in which it was used, which show the ranges of ids to scan. Requests that took long to charge, requests that were not
billed, and requests in progress have partial indexes that other requests don't update. Tokens and latency have no
index: `request_scan` limits how much of the history is searched for them.
"""

from collections.abc import Iterator, Sequence

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.use import quarters_of_use
from tok0n.adapters.sql.schema import api_key, request
from tok0n.domain import ids
from tok0n.domain.history import NOT_BILLED, RequestFilter, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR, RequestStatus

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
    if not filters.statuses:
        return []
    lower, upper = id_bounds(filters, before=before)
    bounds = max(lower, lowest), upper
    conditions = [request.c.account_id == account_id, *matching(request, filters), *measured(filters)]
    if not any((filters.model, filters.api_key_id, filters.status, filters.code)):
        page = REQUESTS.where(*conditions, *_within(*bounds)).order_by(request.c.id.desc())
        return list(tx.execute(page.limit(rows_max)))
    query = sa.select(request.c.id).where(*conditions).order_by(request.c.id.desc()).limit(rows_max)
    # Ids come first, because indexes have them, and only the rows of this page are needed.
    request_ids = sorted(_ids(tx, account_id, filters, query, bounds=bounds, rows_max=rows_max), reverse=True)[
        :rows_max
    ]
    rows = REQUESTS.where(request.c.account_id == account_id, request.c.id.in_(request_ids)).order_by(
        request.c.id.desc()
    )
    return list(tx.execute(rows)) if request_ids else []


def _ids(
    tx: sa.Connection,
    account_id: str,
    filters: RequestFilter,
    query: "sa.Select[tuple[str]]",
    *,
    bounds: tuple[str, str],
    rows_max: int,
) -> list[str]:
    """Return the newest ids of each kind of request that `query` selects."""
    statuses, within = filters.statuses, query.where(*_within(*bounds))
    request_ids: list[str] = []
    if RequestStatus.SETTLED in statuses:
        fast = query.where(request.c.status == RequestStatus.SETTLED, NOT_SLOW)
        request_ids += _charged(tx, account_id, filters, fast, bounds=bounds, rows_max=rows_max)
        request_ids += tx.scalars(within.where(IS_SLOW))
    if unbilled := sorted(statuses & NOT_BILLED):
        request_ids += tx.scalars(within.where(UNBILLED, request.c.status.in_(unbilled)))
    if RequestStatus.PENDING in statuses:
        in_progress = query.where(request.c.id.in_(_IN_PROGRESS), request.c.status == RequestStatus.PENDING)
        lower, upper = bounds
        # SQLite would seek by bounds of the plain column, and read all requests of the account.
        text = request.c.id.concat("")
        request_ids += tx.scalars(in_progress.where(text >= lower, text < upper))
    return request_ids


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
    query: "sa.Select[tuple[str]]",
    *,
    bounds: tuple[str, str],
    rows_max: int,
) -> list[str]:
    """Return the ids of `query` in `bounds`, scanning only ranges in which the use shows charges."""
    lower, upper = bounds
    since_us, until_us = ids.request_time_us(lower), ids.request_time_us(upper)
    use = UseFilter(
        since_quarter=None if since_us is None else since_us // MICROSECONDS_PER_QUARTER_HOUR,
        until_quarter=None if until_us is None else until_us // MICROSECONDS_PER_QUARTER_HOUR + QUARTERS_TO_CHARGE + 1,
        model=filters.model,
        api_key_id=filters.api_key_id,
    )
    request_ids: list[str] = []
    for quarters in quarters_of_use(tx, account_id, use, requests_min=rows_max):
        ranges = []
        for first, last in _ranges(quarters):
            start = max(lower, ids.first_request_id(max(0, first - QUARTERS_TO_CHARGE) * MICROSECONDS_PER_QUARTER_HOUR))
            end = min(upper, ids.first_request_id((last + 1) * MICROSECONDS_PER_QUARTER_HOUR))
            if start < end:
                ranges.append((start, end))
                upper = start
        request_ids += _newest_in(tx, query, ranges, rows_max=rows_max - len(request_ids))
        if len(request_ids) >= rows_max:
            break
    return request_ids


def _newest_in(
    tx: sa.Connection, query: "sa.Select[tuple[str]]", ranges: Sequence[tuple[str, str]], *, rows_max: int
) -> list[str]:
    """Return at most `rows_max` ids of `query` in ranges of ids, of which the newest must come first."""
    if not ranges:
        return []
    if tx.dialect.name != "sqlite":
        # Two arrays, because the text of `VALUES` would depend on the number of ranges, and be compiled at each call.
        starts, ends = (sa.literal([*column], sa.ARRAY(sa.Text)) for column in zip(*ranges, strict=True))
        bounds = sa.func.unnest(starts, ends).table_valued("start", "end", name="range").render_derived()
        page = query.where(request.c.id >= bounds.c.start, request.c.id < bounds.c.end).lateral()
        # PostgreSQL reads one range after another until it has enough rows.
        return list(tx.scalars(sa.select(page.c.id).select_from(bounds.join(page, sa.true())).limit(rows_max)))
    in_range = query.where(request.c.id >= sa.bindparam("start"), request.c.id < sa.bindparam("end"))
    request_ids: list[str] = []
    for start, end in ranges:  # SQLite has no lateral join.
        request_ids += tx.scalars(in_range, {"start": start, "end": end})
        if len(request_ids) >= rows_max:
            break
    return request_ids


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
