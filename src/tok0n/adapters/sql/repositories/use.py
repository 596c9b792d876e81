"""Add up the use of an account: whole past days from `usage_day`, all other quarter hours from `usage_quarter`.

`usage_rollup` says which days are complete. Every function must read it in the snapshot in which it reads the sums.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from tok0n.adapters.sql.schema import usage_day, usage_quarter, usage_rollup
from tok0n.domain.history import UseBy, UseFilter, UseTotals

QUARTERS_PER_DAY = 96

SUMMED = UseTotals.__struct_fields__

_SPANS = """
WITH span (number, first, until) AS (VALUES {spans})
SELECT span.number, {columns} FROM span CROSS JOIN {rows}{group}
"""
_ROWS = """{table} AS u
WHERE u.account_id = :account_id AND u.{time} >= span.first AND u.{time} < span.until{conditions}"""
_LATERAL = "LATERAL (SELECT * FROM {rows} OFFSET 0) AS u"
"""SQLite has no lateral join, but keeps the order of a cross join. PostgreSQL would not without the `OFFSET`."""

_QUARTERS_OF_DAYS = """
WITH RECURSIVE place (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM place WHERE number < 95)
SELECT DISTINCT u.quarter FROM usage_day AS d CROSS JOIN place CROSS JOIN {rows}
{condition} d.account_id = :account_id AND d.day >= :first_day AND d.day <= :last_day{filters}
ORDER BY u.quarter DESC
"""
_QUARTER_OF_DAY = """usage_quarter AS u
WHERE u.account_id = :account_id AND u.quarter = d.day * 96 + place.number AND u.api_key_id = d.api_key_id
    AND u.model = d.model"""
"""Seeks each quarter hour of each day, key and model with use, which are few if the model or the key is rare."""

_Spans = dict[tuple[int, int], list[tuple[int, int]]]
"""The buckets of each span of quarter hours or days (first and end), to which its use is added (1) or subtracted (-1).

The quarter hours between two local days are read once: added to one day and subtracted from the other.
"""


class SpanRows(NamedTuple):
    """The rows of a table whose column `time` is in a span: from its first value (inclusive) to its second (exclusive).

    `span_quarters` selects the rows of that length, in a table that has several.
    """

    table: str
    time: str
    spans: Sequence[tuple[int, int]]
    span_quarters: int | None = None


def column_of(by: UseBy) -> str:
    """Return the column that use is grouped by."""
    return "model" if by is UseBy.MODEL else "api_key_id"


def rolled_up_days(tx: sa.Connection) -> int:
    """Return the first day that `usage_day` doesn't have completely."""
    return tx.scalar(sa.select(usage_rollup.c.day)) or 0


def use(tx: sa.Connection, account_id: str, filters: UseFilter, *, by: Sequence[str] = ()) -> sa.Subquery:
    """Return the sums of the matching use, for each value of the columns `by`.

    There are up to three rows for each: one of whole days, and two of the quarter hours before and after them.
    """
    since, until = filters.since_quarter or 0, filters.until_quarter
    first_day, end_day = -(-since // QUARTERS_PER_DAY), rolled_up_days(tx)
    if until is not None:
        end_day = min(end_day, until // QUARTERS_PER_DAY)

    def quarters(since: int, until: int | None) -> "sa.Select[tuple[object, ...]]":
        return _sums(usage_quarter, by).where(*_quarters(account_id, filters, since=since, until=until))

    if first_day >= end_day:
        return quarters(since, until).subquery("use")
    is_whole = (usage_day.c.day >= first_day, usage_day.c.day < end_day)
    days = _sums(usage_day, by).where(*_conditions(usage_day, account_id, filters), *is_whole)
    parts = [days, quarters(end_day * QUARTERS_PER_DAY, until)]
    if since < first_day * QUARTERS_PER_DAY:
        parts.append(quarters(since, first_day * QUARTERS_PER_DAY))
    return sa.union_all(*parts).subquery("use")


def use_of_buckets(
    tx: sa.Connection,
    account_id: str,
    filters: UseFilter,
    *,
    by: Sequence[str],
    starts: Sequence[int],
    until_quarter: int,
    summed: Sequence[str] = SUMMED,
) -> dict[tuple[int, tuple[str, ...]], list[int]]:
    """Return the sums of the columns `summed` in each bucket.

    The keys are the quarter hour of its start, and the values of the columns `by`. A bucket lasts until the start of
    the next one, the last until `until_quarter`.
    """
    sums: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    end, zeros = 1 + len(by), [0] * len(summed)
    days, quarters = _spans([*starts, until_quarter], end_day=rolled_up_days(tx))
    for table, time, spans in (("usage_day", "day", days), ("usage_quarter", "quarter", quarters)):
        targets = list(spans.values())
        rows = SpanRows(table=table, time=time, spans=[*spans])
        for row in sums_of_spans(tx, account_id, filters, rows, by=by, summed=summed):
            series, of_span = tuple(row[1:end]), row[end:]
            for start, sign in targets[row[0]]:
                bucket = sums.get((start, series), zeros)
                sums[start, series] = [total + sign * value for total, value in zip(bucket, of_span, strict=True)]
    return sums


def sums_of_spans(
    tx: sa.Connection,
    account_id: str,
    filters: UseFilter,
    rows: SpanRows,
    *,
    by: Sequence[str],
    summed: Sequence[str],
) -> Sequence[Any]:
    """Return the number of each span, the values of the columns `by`, and the sums of the columns `summed`."""
    columns = [f"u.{name}" for name in by]
    group = f" GROUP BY {', '.join(['span.number', *columns])}"
    # PostgreSQL adds up 64-bit integers to a numeric, which is slow to read.
    columns += [f"CAST(sum(u.{name}) AS BIGINT)" for name in summed]
    return rows_of_spans(tx, account_id, filters, rows, columns=columns, group=group)


def rows_of_spans(
    tx: sa.Connection,
    account_id: str,
    filters: UseFilter,
    rows: SpanRows,
    *,
    columns: Sequence[str],
    group: str = "",
) -> Sequence[Any]:
    """Return each row after the number of its span. `columns` are SQL, in which the table is `u`."""
    if not rows.spans:
        return []
    values = {"model": filters.model, "api_key_id": filters.api_key_id, "span_quarters": rows.span_quarters}
    parameters = {name: value for name, value in values.items() if value is not None}
    conditions = "".join(f" AND u.{name} = :{name}" for name in parameters)
    selected = _ROWS.format(table=rows.table, time=rows.time, conditions=conditions)
    if tx.dialect.name != "sqlite":
        selected = _LATERAL.format(rows=selected)
    listed = ", ".join(str((number, *span)) for number, span in enumerate(rows.spans))
    query = _SPANS.format(spans=listed, columns=", ".join(columns), rows=selected, group=group)
    return tx.execute(sa.text(query), {"account_id": account_id} | parameters).all()


def use_of_days(
    tx: sa.Connection, account_id: str, *, by: str | None, first_day: int, until_day: int
) -> list[tuple[int, str | None, tuple[int, ...]]]:
    """Return day, series and sums of each UTC day with use, oldest first. `by` is a column."""
    rolled_up = min(max(rolled_up_days(tx), first_day), until_day)
    day_of_quarter = usage_quarter.c.quarter // sa.literal_column(str(QUARTERS_PER_DAY))
    parts = (
        (usage_day, usage_day.c.day, usage_day.c.day, first_day, rolled_up),
        (
            usage_quarter,
            usage_quarter.c.quarter,
            day_of_quarter,
            rolled_up * QUARTERS_PER_DAY,
            until_day * QUARTERS_PER_DAY,
        ),
    )
    rows: list[tuple[int, str | None, tuple[int, ...]]] = []
    for table, time, day, first, until in parts:
        if first < until:
            columns = [day.label("day_of_use"), *([] if by is None else [table.c[by]])]
            query = sa.select(*columns, *(sa.func.sum(table.c[name]) for name in SUMMED))
            query = query.where(table.c.account_id == account_id, time >= first, time < until)
            rows += [
                (int(row[0]), None if by is None else row[1], tuple(map(int, row[-len(SUMMED) :])))
                for row in tx.execute(query.group_by(*columns).order_by(*columns))
            ]
    return rows


def quarters_of_use(
    tx: sa.Connection, account_id: str, filters: UseFilter, *, requests_min: int
) -> Iterator[list[int]]:
    """Yield the quarter hours with matching use, newest first: the newest ones, then those of past days.

    Each list of past days has at least `requests_min` requests, except for the last one.
    """
    end_day = rolled_up_days(tx)
    yield _distinct_quarters(tx, account_id, filters, since=end_day * QUARTERS_PER_DAY, until=filters.until_quarter)
    conditions = [*_conditions(usage_day, account_id, filters), usage_day.c.day < end_day]
    if filters.since_quarter is not None:
        conditions.append(usage_day.c.day >= filters.since_quarter // QUARTERS_PER_DAY)
    if filters.until_quarter is not None:
        conditions.append(usage_day.c.day <= filters.until_quarter // QUARTERS_PER_DAY)
    columns = (usage_day.c.day, sa.func.sum(usage_day.c.requests))
    days = sa.select(*columns).where(*conditions).group_by(columns[0]).order_by(columns[0].desc())
    group: list[int] = []
    requests_in_group = 0
    for day, requests in tx.execute(days).all():
        group.append(day)
        requests_in_group += requests
        if requests_in_group >= requests_min:
            yield _quarters_of_days(tx, account_id, filters, first_day=day, last_day=group[0])
            group, requests_in_group = [], 0
    if group:
        yield _quarters_of_days(tx, account_id, filters, first_day=group[-1], last_day=group[0])


def _quarters_of_days(
    tx: sa.Connection, account_id: str, filters: UseFilter, *, first_day: int, last_day: int
) -> list[int]:
    values = {"account_id": account_id, "model": filters.model, "api_key_id": filters.api_key_id}
    values = {name: value for name, value in values.items() if value is not None}
    conditions = "".join(f" AND d.{name} = :{name}" for name in values if name != "account_id")
    is_sqlite = tx.dialect.name == "sqlite"
    rows = _QUARTER_OF_DAY if is_sqlite else _LATERAL.format(rows=_QUARTER_OF_DAY)
    condition = "AND" if is_sqlite else "WHERE"
    query = sa.text(_QUARTERS_OF_DAYS.format(rows=rows, condition=condition, filters=conditions))
    return list(tx.scalars(query, values | {"first_day": first_day, "last_day": last_day}))


def _distinct_quarters(
    tx: sa.Connection, account_id: str, filters: UseFilter, *, since: int, until: int | None
) -> list[int]:
    since = max(since, filters.since_quarter or 0)
    query = sa.select(usage_quarter.c.quarter).where(*_quarters(account_id, filters, since=since, until=until))
    return list(tx.scalars(query.distinct().order_by(usage_quarter.c.quarter.desc())))


def _sums(table: sa.Table, by: Sequence[str]) -> "sa.Select[tuple[object, ...]]":
    columns = [table.c[name] for name in by]
    return sa.select(*columns, *(sa.func.sum(table.c[name]).label(name) for name in SUMMED)).group_by(*columns)


def _quarters(account_id: str, filters: UseFilter, *, since: int, until: int | None) -> list[sa.ColumnElement[bool]]:
    conditions = [*_conditions(usage_quarter, account_id, filters), usage_quarter.c.quarter >= since]
    return conditions if until is None else [*conditions, usage_quarter.c.quarter < until]


def _conditions(table: sa.Table, account_id: str, filters: UseFilter) -> list[sa.ColumnElement[bool]]:
    conditions = [table.c.account_id == account_id]
    if filters.model is not None:
        conditions.append(table.c.model == filters.model)
    if filters.api_key_id is not None:
        conditions.append(table.c.api_key_id == filters.api_key_id)
    return conditions


def _spans(edges: Sequence[int], *, end_day: int) -> tuple[_Spans, _Spans]:
    """Return the spans of days, and of quarter hours, that add up to the time between each two edges.

    A local day is the nearest UTC day, with the quarter hours at its edges added or subtracted. Days from `end_day` on
    are read by their quarter hours.
    """
    days: _Spans = defaultdict(list)
    quarters: _Spans = defaultdict(list)
    for start, end in itertools.pairwise(edges):
        first_day, last_day = (min(round(edge / QUARTERS_PER_DAY), end_day) for edge in (start, end))
        if first_day >= last_day or end - start < QUARTERS_PER_DAY // 2:
            quarters[start, end].append((start, 1))
            continue
        days[first_day, last_day].append((start, 1))
        for quarter, edge, sign in ((first_day * QUARTERS_PER_DAY, start, -1), (last_day * QUARTERS_PER_DAY, end, 1)):
            if edge != quarter:
                span = min(quarter, edge), max(quarter, edge)
                quarters[span].append((start, sign if edge > quarter else -sign))
    return days, quarters
