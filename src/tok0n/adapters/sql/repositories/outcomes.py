"""The latency and the errors of an account's requests in SQL, behind the `Outcomes` port.

The roll-up has the older requests. Newer ones are read from `request`; if there are more than `NEWEST_MAX`, they are
left out.
"""

import itertools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.outcome_rollup import Progress, progress
from tok0n.adapters.sql.repositories.outcome_rows import decode
from tok0n.adapters.sql.repositories.span_rows import (
    SpanRows,
    group_spans,
    rows_of_spans,
    sums_of_spans,
    targets_by_length,
)
from tok0n.adapters.sql.repositories.use import column_of
from tok0n.adapters.sql.schema import request
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain import ids, latency
from tok0n.domain.history import NOT_BILLED, UseBy, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR, RequestStatus
from tok0n.domain.outcomes import ErrorCount, Latencies

NEWEST_MAX = 2_000
"""The most requests of an account that are read without the roll-up."""

_Sums = defaultdict[tuple[int, str], int]
"""By the start of an interval and the series."""

_Value = tuple[int, str, int]
"""A group of spans, a series, and the value of the series in these spans."""


class SqlOutcomes:
    """The `Outcomes` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def counted_until_us(self, account_id: str) -> int | None:
        def fn(tx: sa.Connection) -> int | None:
            position = _position(tx)
            is_complete = tx.scalar(_newest(account_id, position).offset(NEWEST_MAX)) is None
            return None if is_complete else position.quarter * MICROSECONDS_PER_QUARTER_HOUR

        return await self._store.read(fn)

    async def latencies(
        self, account_id: str, filters: UseFilter, *, by: UseBy, starts: Sequence[int]
    ) -> list[Latencies]:
        column = column_of(by)

        def fn(tx: sa.Connection) -> _Sums:
            def stored(parts: Sequence[SpanRows]) -> Iterable[_Value]:
                packed = _Sums(int)
                rows = rows_of_spans(tx, account_id, filters, parts, columns=[column, "latencies"])
                for group, sign, series, latencies in rows:
                    packed[group, series] += sign * decode(latencies)
                return [(group, series, sum_of_group) for (group, series), sum_of_group in packed.items()]

            sums = _rolled_up(filters, starts, stored)
            for start, row in _newest_of_intervals(tx, account_id, filters, starts):
                if row.status == RequestStatus.SETTLED and row.upstream_ms is not None:
                    sums[start, getattr(row, column)] += latency.pack({latency.bucket_of(row.upstream_ms): 1})
            return sums

        sums = await self._store.read(fn)
        return [
            Latencies(quarter=quarter, series=series, packed=packed)
            for (quarter, series), packed in sorted(sums.items())
            if packed
        ]

    async def errors(
        self, account_id: str, filters: UseFilter, *, by: UseBy, starts: Sequence[int]
    ) -> list[ErrorCount]:
        def fn(tx: sa.Connection) -> tuple[_Sums, _Sums]:
            return _failed(tx, account_id, filters, by, starts), _rejected(tx, account_id, filters, by, starts)

        failed, rejected = await self._store.read(fn)
        return [
            ErrorCount(quarter=key[0], series=key[1], failed=failed[key], rejected=rejected[key])
            for key in sorted(failed.keys() | rejected.keys())
            if failed[key] or rejected[key]
        ]


def _failed(tx: sa.Connection, account_id: str, filters: UseFilter, by: UseBy, starts: Sequence[int]) -> _Sums:
    """Return the failed requests by the start of their interval and by series."""
    column = column_of(by)

    def stored(parts: Sequence[SpanRows]) -> Iterable[_Value]:
        return sums_of_spans(tx, account_id, filters, parts, by=[column], summed=["failed"])

    sums = _rolled_up(filters, starts, stored)
    for start, row in _newest_of_intervals(tx, account_id, filters, starts):
        if row.status in NOT_BILLED:
            sums[start, getattr(row, column)] += 1
    return sums


def _rejected(tx: sa.Connection, account_id: str, filters: UseFilter, by: UseBy, starts: Sequence[int]) -> _Sums:
    """Return the rejected requests by the start of their interval and by series."""
    ends = [*starts[1:], _end(filters)]
    parts = [SpanRows(table="rejected_count", spans=list(zip(itertools.count(), itertools.repeat(1), starts, ends)))]
    counts = sums_of_spans(tx, account_id, filters, parts, by=[column_of(by)], summed=["requests"])
    return _Sums(int, {(starts[group], series): count for group, series, count in counts})


def _rolled_up(
    filters: UseFilter, starts: Sequence[int], stored: Callable[[Sequence[SpanRows]], Iterable[_Value]]
) -> _Sums:
    """Return the sums of each interval from the values that `stored` reads from rows of the roll-up."""
    sums = _Sums(int)
    spans, intervals = group_spans(targets_by_length(starts, _end(filters)))
    parts = [
        SpanRows(table="request_outcome", spans=of_length, span_quarters=length) for length, of_length in spans.items()
    ]
    for group, series, value in stored(parts):
        for start, sign in intervals[group]:
            sums[start, series] += sign * value
    return sums


def _end(filters: UseFilter) -> int:
    assert filters.until_quarter is not None
    return filters.until_quarter


def _position(tx: sa.Connection) -> Progress:
    return progress(tx) or Progress(0, "")


def _newest(account_id: str, position: Progress) -> "sa.Select[Any]":
    """Select the requests that the roll-up doesn't have yet, oldest first."""
    columns = request.c
    first, following = (
        ids.first_request_id(quarter * MICROSECONDS_PER_QUARTER_HOUR)
        for quarter in (position.quarter, position.quarter + 1)
    )
    is_counted = sa.and_(columns.api_key_id <= position.api_key_id, columns.id < following)
    query = sa.select(columns.id, columns.api_key_id, columns.model, columns.status, columns.upstream_ms)
    query = query.where(columns.account_id == account_id, columns.id >= first, sa.not_(is_counted))
    return query.order_by(columns.id).limit(NEWEST_MAX + 1)


def _newest_of_intervals(
    tx: sa.Connection, account_id: str, filters: UseFilter, starts: Sequence[int]
) -> Iterator[tuple[int, Any]]:
    """Yield the newest requests that match, with the start of their interval. None of them if they are too many."""
    position = _position(tx)
    if _end(filters) <= position.quarter:
        return
    rows = tx.execute(_newest(account_id, position)).all()
    for row in rows if len(rows) <= NEWEST_MAX else ():
        quarter = (ids.request_time_us(row.id) or 0) // MICROSECONDS_PER_QUARTER_HOUR
        is_in_period = starts[0] <= quarter < _end(filters)
        if is_in_period and filters.model in {None, row.model} and filters.api_key_id in {None, row.api_key_id}:
            yield starts[bisect_right(starts, quarter) - 1], row
