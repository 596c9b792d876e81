"""Read sums of periods from tables whose rows cover a quarter hour, an hour, six hours or a UTC day.

Any period is a sum and a difference of few rows. For example, a local day is a UTC day, plus and minus a few shorter
rows at its edges.
"""

import itertools
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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

_SELECT = "SELECT span_{index}.number, {columns} FROM span_{index} CROSS JOIN {rows}{group}"
_ROWS = """{table} AS u
WHERE u.account_id = :account_id AND u.quarter >= span_{index}.first AND u.quarter < span_{index}.until{conditions}"""
LATERAL = "LATERAL (SELECT * FROM {rows} OFFSET 0) AS {name}"
"""Makes PostgreSQL seek the rows of one span after another. The `OFFSET` keeps the planner from joining otherwise.

SQLite has no lateral join, but keeps the order of a cross join.
"""


class SpanRows(NamedTuple):
    """The rows of a table in spans: from their first quarter hour (inclusive) to their second (exclusive).

    `span_quarters` selects the rows of that length, in a table that has several.
    """

    table: str
    spans: Sequence[tuple[int, int]]
    span_quarters: int | None = None

    def are_single(self, by: Sequence[str]) -> bool:
        """Whether each span has a single row for each value of the columns `by`."""
        return len(by) == len(SERIES) and all(until - first == self.span_quarters for first, until in self.spans)


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


def intervals_of_spans(lengths: Mapping[int, Targets]) -> list[list[tuple[int, int]]]:
    """Return the intervals in which each span counts, by the number of the span: their starts, and 1 or -1."""
    return [intervals for targets in lengths.values() for intervals in targets.values()]


def sums_of_spans(
    tx: sa.Connection,
    account_id: str,
    filters: UseFilter,
    parts: Sequence[SpanRows],
    *,
    by: Sequence[str],
    summed: Sequence[str],
) -> Sequence[Row]:
    """Return rows of the number of a span, the values of the columns `by`, and the sums of the columns `summed`.

    Spans are numbered from 0, across all parts.
    """
    names = [f"u.{name}" for name in by]
    # PostgreSQL adds up 64-bit integers to a numeric, which is slow to read.
    sums = [*names, *(f"CAST(sum(u.{name}) AS BIGINT)" for name in summed)]
    single = [*names, *(f"u.{name}" for name in summed)]
    # SQLite would sort the rows to group them, for nothing if each group has a single row.
    return _read(
        tx,
        account_id,
        filters,
        [(rows, single, None) if rows.are_single(by) else (rows, sums, names) for rows in parts],
    )


def rows_of_spans(
    tx: sa.Connection, account_id: str, filters: UseFilter, parts: Sequence[SpanRows], *, columns: Sequence[str]
) -> Sequence[Row]:
    """Return each row as the number of its span and the columns. Spans are numbered from 0, across all parts."""
    return _read(tx, account_id, filters, [(rows, [f"u.{name}" for name in columns], None) for rows in parts])


def _read(
    tx: sa.Connection,
    account_id: str,
    filters: UseFilter,
    parts: Sequence[tuple[SpanRows, Sequence[str], Sequence[str] | None]],
) -> Sequence[Row]:
    """Read the columns of each part with one statement, grouped by the third value unless it is None."""
    values = {"model": filters.model, "api_key_id": filters.api_key_id}
    parameters = {name: value for name, value in values.items() if value is not None}
    numbers = itertools.count()
    spans, selects = [], []
    for index, (part, columns, group) in enumerate(parts):
        if not part.spans:
            continue
        listed = ", ".join(str((next(numbers), *span)) for span in part.spans)
        spans.append(f"span_{index} (number, first, until) AS (VALUES {listed})")
        conditions = "".join(f" AND u.{name} = :{name}" for name in parameters)
        if part.span_quarters is not None:
            conditions += f" AND u.span_quarters = {part.span_quarters}"
        rows = _ROWS.format(table=part.table, index=index, conditions=conditions)
        if tx.dialect.name != "sqlite":
            rows = LATERAL.format(rows=rows, name="u")
        grouped = "" if group is None else f" GROUP BY {', '.join([f'span_{index}.number', *group])}"
        selects.append(_SELECT.format(index=index, columns=", ".join(columns), rows=rows, group=grouped))
    if not selects:
        return []
    query = f"WITH {', '.join(spans)} {' UNION ALL '.join(selects)}"
    return fetch(tx, query, account_id=account_id, **parameters)
