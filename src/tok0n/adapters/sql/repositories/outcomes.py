"""The latency and the errors of an account's requests in SQL, behind the `Outcomes` port.

The roll-up has the older requests. Newer ones are read from `request`; if there are more than `NEWEST_MAX`, they are
left out.
"""

import itertools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.outcome_rollup import Progress, progress
from tok0n.adapters.sql.repositories.outcome_rows import LENGTHS, decode, spans
from tok0n.adapters.sql.repositories.use import column_of, rows_of_spans, sums_of_spans
from tok0n.adapters.sql.schema import request
from tok0n.adapters.sql.store import SqlStore, force_index_scans
from tok0n.domain import ids, latency
from tok0n.domain.history import NOT_BILLED, UseBy, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR, RequestStatus
from tok0n.domain.outcomes import ErrorCount, Latencies

NEWEST_MAX = 2_000
"""The most requests of an account that are read without the roll-up."""

_Sums = defaultdict[tuple[int, str], int]


class SqlOutcomes:
    """The `Outcomes` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def counted_until_us(self, account_id: str) -> int | None:
        """See `ports.Outcomes.counted_until_us`."""

        def fn(tx: sa.Connection) -> int | None:
            position = _position(tx)
            return (
                None
                if _newest(tx, account_id, position) is not None
                else position.quarter * MICROSECONDS_PER_QUARTER_HOUR
            )

        return await self._store.read(fn)

    async def latencies(
        self, account_id: str, filters: UseFilter, *, by: UseBy, starts: Sequence[int]
    ) -> list[Latencies]:
        """See `ports.Outcomes.latencies`."""
        column = column_of(by)

        def fn(tx: sa.Connection) -> _Sums:
            sums = _Sums(int)
            for length, targets_by_span in _by_length(starts, filters).items():
                targets = list(targets_by_span.values())
                rows = rows_of_spans(
                    tx,
                    account_id,
                    filters,
                    table="request_outcome",
                    time="quarter",
                    quarters=length,
                    spans=[*targets_by_span],
                    columns=[f"u.{column}", "u.latencies"],
                )
                for number, series, stored in rows:
                    packed = decode(stored)
                    for start, sign in targets[number]:
                        sums[start, series] += sign * packed
            for start, row in _newest_of_intervals(tx, account_id, filters, starts):
                if row.status == RequestStatus.SETTLED and row.upstream_ms is not None:
                    sums[start, getattr(row, column)] += latency.pack({latency.bucket_of(row.upstream_ms): 1})
            return sums

        sums = await self._store.read(fn)
        return [
            Latencies(quarter=quarter, series=series, histogram=latency.unpack(packed))
            for (quarter, series), packed in sorted(sums.items())
            if packed
        ]

    async def errors(
        self, account_id: str, filters: UseFilter, *, by: UseBy, starts: Sequence[int]
    ) -> list[ErrorCount]:
        """See `ports.Outcomes.errors`."""

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
    sums = _Sums(int)
    for length, targets_by_span in _by_length(starts, filters).items():
        targets = list(targets_by_span.values())
        rows = sums_of_spans(
            tx,
            account_id,
            filters,
            table="request_outcome",
            time="quarter",
            quarters=length,
            spans=[*targets_by_span],
            by=[column],
            summed=["failed"],
        )
        for number, series, count in rows:
            for start, sign in targets[number]:
                sums[start, series] += sign * int(count)
    for start, row in _newest_of_intervals(tx, account_id, filters, starts):
        if row.status in NOT_BILLED:
            sums[start, getattr(row, column)] += 1
    return sums


def _rejected(tx: sa.Connection, account_id: str, filters: UseFilter, by: UseBy, starts: Sequence[int]) -> _Sums:
    """Return the rejected requests by the start of their interval and by series."""
    rows = sums_of_spans(
        tx,
        account_id,
        filters,
        table="rejected_count",
        time="quarter",
        spans=list(itertools.pairwise([*starts, _end(filters)])),
        by=[column_of(by)],
        summed=["requests"],
    )
    return _Sums(int, {(starts[number], series): int(count) for number, series, count in rows})


def _by_length(starts: Sequence[int], filters: UseFilter) -> dict[int, dict[tuple[int, int], list[tuple[int, int]]]]:
    """Return the spans of each length of rows, with the intervals to which they are added."""
    found: dict[int, dict[tuple[int, int], list[tuple[int, int]]]] = {length: {} for length in LENGTHS}
    for (length, since, until), targets in spans(starts, _end(filters)).items():
        found[length][since, until] = targets
    return found


def _end(filters: UseFilter) -> int:
    assert filters.until_quarter is not None
    return filters.until_quarter


def _position(tx: sa.Connection) -> Progress:
    return progress(tx) or Progress(0, "")


def _newest(tx: sa.Connection, account_id: str, position: Progress) -> Sequence[Any] | None:
    """Return the requests that the roll-up doesn't have yet. None if they are too many."""
    columns = request.c
    first, following = (
        ids.first_request_id(quarter * MICROSECONDS_PER_QUARTER_HOUR)
        for quarter in (position.quarter, position.quarter + 1)
    )
    is_counted = sa.and_(columns.api_key_id <= position.api_key_id, columns.id < following)
    query = sa.select(columns.id, columns.api_key_id, columns.model, columns.status, columns.upstream_ms)
    query = query.where(columns.account_id == account_id, columns.id >= first, sa.not_(is_counted))
    force_index_scans(tx)
    rows = tx.execute(query.order_by(columns.id).limit(NEWEST_MAX + 1)).all()
    return None if len(rows) > NEWEST_MAX else rows


def _newest_of_intervals(
    tx: sa.Connection, account_id: str, filters: UseFilter, starts: Sequence[int]
) -> Iterator[tuple[int, Any]]:
    """Yield the newest requests that match, with the start of their interval."""
    position = _position(tx)
    if _end(filters) <= position.quarter:
        return
    for row in _newest(tx, account_id, position) or ():
        quarter = (ids.request_time_us(row.id) or 0) // MICROSECONDS_PER_QUARTER_HOUR
        is_in_period = starts[0] <= quarter < _end(filters)
        if is_in_period and filters.model in {None, row.model} and filters.api_key_id in {None, row.api_key_id}:
            yield starts[bisect_right(starts, quarter) - 1], row
