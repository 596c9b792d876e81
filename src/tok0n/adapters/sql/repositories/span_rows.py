"""Read sums of periods from tables whose rows cover a quarter hour, an hour, six hours or a UTC day.

Any period is a sum and a difference of few rows. For example, a local day is a UTC day, plus and minus a few shorter
rows at its edges.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from tok0n.adapters.sql.store import Row, fetch
from tok0n.domain.history import UseFilter

QUARTERS_PER_DAY = 96

LONG_LENGTHS = (QUARTERS_PER_DAY, 24, 4)
LENGTHS = (*LONG_LENGTHS, 1)
"""The lengths of rows, in quarter hours, longest first. A row starts at a multiple of its length."""

SERIES = ("api_key_id", "model")
"""A row has the sums of a key and a model."""

Targets = dict[tuple[int, int], list[tuple[int, int]]]
"""The spans of rows to read: the first quarter hour, and the one after the last.

Each value lists the intervals to whose sums the rows are added (1) or from which they are subtracted (-1), by the start
of the interval. So rows between two intervals are read once: added to one and subtracted from the other.
"""

_SPANS = """
WITH span (number, first, until) AS (VALUES {spans})
SELECT span.number, {columns} FROM span CROSS JOIN {rows}{group}
"""
_ROWS = """{table} AS u
WHERE u.account_id = :account_id AND u.quarter >= span.first AND u.quarter < span.until{conditions}"""
LATERAL = "LATERAL (SELECT * FROM {rows} OFFSET 0) AS u"
"""SQLite has no lateral join, but keeps the order of a cross join. PostgreSQL would not without the `OFFSET`."""


class SpanRows(NamedTuple):
    """The rows of a table in spans: from their first quarter hour (inclusive) to their second (exclusive).

    `span_quarters` selects the rows of that length, in a table that has several.
    """

    table: str
    spans: Sequence[tuple[int, int]]
    span_quarters: int | None = None


def targets_by_length(
    starts: Sequence[int], until_quarter: int, *, long_until: int = sys.maxsize
) -> dict[int, Targets]:
    """Return the spans whose sum is that of each interval, by the length of their rows.

    An interval lasts until the start of the next one, the last until `until_quarter`. From `long_until` on, which is
    the start of a UTC day, only rows of quarter hours are read.

    For example, the interval from 06:00 of one day to 00:00 of the next day but one is two rows of days, minus the row
    of the first six hours: `{96: {(0, 192): [(24, 1)]}, 24: {(0, 24): [(24, -1)]}, 4: {}, 1: {}}`.
    """
    by_length: dict[int, Targets] = {length: defaultdict(list) for length in LENGTHS}
    for start, end in itertools.pairwise([*starts, until_quarter]):
        for length, first, until, sign in _split(start, end, LENGTHS, long_until):
            by_length[length][first, until].append((start, sign))
    return by_length


def _split(start: int, end: int, lengths: Sequence[int], long_until: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield spans that add up to an interval: the length of the rows, the span, and 1 or -1."""
    length, *shorter = lengths
    if not shorter:
        yield length, start, end, 1
        return
    half = length // 2
    first = min((start + half) // length * length, long_until)
    last = min((end + half - 1) // length * length, long_until)  # both round a half inward, which needs fewer rows
    if first >= last or end - start <= half:
        yield from _split(start, end, shorter, long_until)
        return
    yield length, first, last, 1
    for since, until, sign in ((first, start, -1), (start, first, 1), (last, end, 1), (end, last, -1)):
        if since < until:
            for part_length, part_since, part_until, part_sign in _split(since, until, shorter, long_until):
                yield part_length, part_since, part_until, sign * part_sign


def by_interval(targets: Targets, rows: Iterable[Row]) -> Iterator[tuple[int, int, Row]]:
    """Yield each row once for each interval in which it counts: the start of the interval, 1 or -1, and the row.

    A row begins with the number of its span.
    """
    of_spans = list(targets.values())
    for row in rows:
        for start, sign in of_spans[row[0]]:
            yield start, sign, row


def sums_of_spans(
    tx: sa.Connection,
    account_id: str,
    filters: UseFilter,
    rows: SpanRows,
    *,
    by: Sequence[str],
    summed: Sequence[str],
) -> Sequence[Row]:
    """Return the number of each span, the values of the columns `by`, and the sums of the columns `summed`."""
    columns = [f"u.{name}" for name in by]
    if len(by) == len(SERIES) and all(until - first == rows.span_quarters for first, until in rows.spans):
        # Each row is a sum already, and SQLite would sort the rows to group them.
        columns += [f"u.{name}" for name in summed]
        return rows_of_spans(tx, account_id, filters, rows, columns=columns)
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
) -> Sequence[Row]:
    """Return each row after the number of its span. `columns` are SQL, in which the table is `u`."""
    if not rows.spans:
        return []
    values = {"model": filters.model, "api_key_id": filters.api_key_id, "span_quarters": rows.span_quarters}
    parameters = {name: value for name, value in values.items() if value is not None}
    conditions = "".join(f" AND u.{name} = :{name}" for name in parameters)
    selected = _ROWS.format(table=rows.table, conditions=conditions)
    if tx.dialect.name != "sqlite":
        selected = LATERAL.format(rows=selected)
    listed = ", ".join(str((number, *span)) for number, span in enumerate(rows.spans))
    query = _SPANS.format(spans=listed, columns=", ".join(columns), rows=selected, group=group)
    return fetch(tx, query, account_id=account_id, **parameters)
