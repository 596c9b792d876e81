"""Add up the use of an account: past days from `usage_span`, all other quarter hours from `usage_quarter`.

`usage_rollup` says which days are complete. Every function must read it in the snapshot in which it reads the sums.
"""

import functools
import itertools
from collections.abc import Iterator, Sequence
from operator import add, sub

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.span_rows import (
    LATERAL,
    LENGTHS,
    QUARTERS_PER_DAY,
    SpanRows,
    group_spans,
    sums_of_spans,
    targets_by_length,
)
from tok0n.adapters.sql.schema import usage_quarter, usage_rollup, usage_span
from tok0n.domain.history import UseBy, UseFilter, UseTotals

SUMMED = UseTotals.__struct_fields__

AFTER_QUARTERS = 2**40
"""After every quarter hour."""

_QUARTERS_OF_DAYS = """
WITH RECURSIVE place (number) AS (SELECT 0 UNION ALL SELECT number + 1 FROM place WHERE number < 5)
SELECT DISTINCT span_1.quarter FROM usage_span AS span_96{joins}
WHERE span_96.account_id = :account_id AND span_96.span_quarters = 96
    AND span_96.quarter >= :first AND span_96.quarter <= :last{conditions}{{filters}}
ORDER BY span_1.quarter DESC
"""
"""Seeks the six hours, the hours and the quarter hours of each day, key and model with use.

They are few if the model or the key is rare.
"""

_PART_OF_SPAN = """{row}.account_id = :account_id
    AND {row}.quarter = span_{longer}.quarter + {length} * place_{length}.number
    AND {row}.api_key_id = span_96.api_key_id AND {row}.model = span_96.model"""


def column_of(by: UseBy) -> str:
    """Return the column that use is grouped by."""
    return "model" if by is UseBy.MODEL else "api_key_id"


def rolled_up_until(tx: sa.Connection) -> int:
    """Return the start of the first day that `usage_span` doesn't have completely, as a quarter hour."""
    return QUARTERS_PER_DAY * (tx.scalar(sa.select(usage_rollup.c.day)) or 0)


def totals(tx: sa.Connection, account_id: str, filters: UseFilter) -> list[int]:
    """Return the sums of the columns `SUMMED` of all matching use."""
    sums = use_of_buckets(tx, account_id, filters, by=(), starts=[filters.since_quarter or 0])
    return next(iter(sums.values()), [0] * len(SUMMED))


def use_of_buckets(
    tx: sa.Connection,
    account_id: str,
    filters: UseFilter,
    *,
    by: Sequence[str],
    starts: Sequence[int],
    summed: Sequence[str] = SUMMED,
) -> dict[tuple[int, tuple[str, ...]], list[int]]:
    """Return the sums of the columns `summed` in each bucket.

    The keys are the quarter hour of its start, and the values of the columns `by`. A bucket lasts until the start of
    the next one, the last until the end of `filters`. Without use, a bucket is missing or its sums are 0.
    """
    sums: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    end, nothing = 1 + len(by), [0] * len(summed)
    until_quarter = AFTER_QUARTERS if filters.until_quarter is None else filters.until_quarter
    spans, intervals = group_spans(targets_by_length(starts, until_quarter, long_until=rolled_up_until(tx)))
    parts = [
        SpanRows(table="usage_quarter", spans=of_length)
        if length == 1
        else SpanRows(table="usage_span", spans=of_length, span_quarters=length)
        for length, of_length in spans.items()
    ]
    rows = sums_of_spans(tx, account_id, filters, parts, by=by, summed=summed)
    for row in rows:
        names, values = row[1:end], row[end:]
        for start, sign in intervals[row[0]]:
            bucket = start, names
            sums[bucket] = [*map(add if sign > 0 else sub, sums.get(bucket, nothing), values)]
    return sums


def quarters_of_use(
    tx: sa.Connection, account_id: str, filters: UseFilter, *, requests_min: int
) -> Iterator[list[int]]:
    """Yield the quarter hours with matching use, newest first: the newest ones, then those of past days.

    Each list of past days has at least `requests_min` requests, except for the last one.
    """
    end = rolled_up_until(tx)
    yield _distinct_quarters(tx, account_id, filters, since=end)
    day = usage_span.c.quarter
    conditions = [
        *_conditions(usage_span, account_id, filters),
        usage_span.c.span_quarters == QUARTERS_PER_DAY,
        day < end,
    ]
    if filters.since_quarter is not None:
        conditions.append(day > filters.since_quarter - QUARTERS_PER_DAY)
    if filters.until_quarter is not None:
        conditions.append(day <= filters.until_quarter)
    days = sa.select(day, sa.func.sum(usage_span.c.requests)).where(*conditions).group_by(day).order_by(day.desc())
    group: list[int] = []
    requests_in_group = 0
    for quarter, requests in tx.execute(days).all():
        group.append(quarter)
        requests_in_group += requests
        if requests_in_group >= requests_min:
            yield _quarters_of_days(tx, account_id, filters, first=quarter, last=group[0])
            group, requests_in_group = [], 0
    if group:
        yield _quarters_of_days(tx, account_id, filters, first=group[-1], last=group[0])


def _quarters_of_days(tx: sa.Connection, account_id: str, filters: UseFilter, *, first: int, last: int) -> list[int]:
    """Return the quarter hours with matching use of the days that start from `first` to `last`."""
    values = {"account_id": account_id, "model": filters.model, "api_key_id": filters.api_key_id}
    values = {name: value for name, value in values.items() if value is not None}
    filters_text = "".join(f" AND span_96.{name} = :{name}" for name in values if name != "account_id")
    query = _quarters_of_days_query(is_sqlite=tx.dialect.name == "sqlite").format(filters=filters_text)
    return list(tx.scalars(sa.text(query), values | {"first": first, "last": last}))


@functools.cache
def _quarters_of_days_query(*, is_sqlite: bool) -> str:
    joins = conditions = ""
    for longer, length in itertools.pairwise(LENGTHS):
        table = "usage_quarter" if length == 1 else "usage_span"
        row = f"span_{length}" if is_sqlite else "u"
        part = _PART_OF_SPAN.format(row=row, longer=longer, length=length)
        if length > 1:
            part += f" AND {row}.span_quarters = {length}"
        rows = (
            f"{table} AS {row}"
            if is_sqlite
            else LATERAL.format(rows=f"{table} AS u WHERE {part}", name=f"span_{length}")
        )
        joins += f" CROSS JOIN place AS place_{length} CROSS JOIN {rows}"
        conditions += f" AND place_{length}.number < {longer // length}" + (f" AND {part}" if is_sqlite else "")
    return _QUARTERS_OF_DAYS.format(joins=joins, conditions=conditions)


def _distinct_quarters(tx: sa.Connection, account_id: str, filters: UseFilter, *, since: int) -> list[int]:
    """Return the quarter hours with matching use from `since` on, newest first."""
    quarter = usage_quarter.c.quarter
    conditions = [*_conditions(usage_quarter, account_id, filters), quarter >= max(since, filters.since_quarter or 0)]
    if filters.until_quarter is not None:
        conditions.append(quarter < filters.until_quarter)
    return list(tx.scalars(sa.select(quarter).where(*conditions).distinct().order_by(quarter.desc())))


def _conditions(table: sa.Table, account_id: str, filters: UseFilter) -> list[sa.ColumnElement[bool]]:
    conditions = [table.c.account_id == account_id]
    if filters.model is not None:
        conditions.append(table.c.model == filters.model)
    if filters.api_key_id is not None:
        conditions.append(table.c.api_key_id == filters.api_key_id)
    return conditions
