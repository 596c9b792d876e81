"""Read sums of periods from tables whose rows cover a quarter hour, an hour, six hours or a UTC day.

Any period is a sum and a difference of few rows. For example, a local day is a UTC day, plus and minus a few shorter
rows at its edges.
"""

import itertools
import sys
from collections import Counter, defaultdict
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

Intervals = tuple[tuple[int, int], ...]
"""The intervals to which a group of spans belongs: the start of each, and 1 (added) or -1 (subtracted)."""

Span = tuple[int, int, int, int]
"""The group of a span, its sign (1 or -1), its first quarter hour, and the one after the last."""

_SELECT = "SELECT span.span_group AS span_group, {columns} FROM span_{index} AS span CROSS JOIN {rows}"
_GROUPED = "SELECT span_group, {columns} FROM ({selects}) AS part GROUP BY {group}"
_ROWS = """{table} AS u
WHERE u.account_id = :account_id AND u.quarter >= span.first AND u.quarter < span.until{conditions}"""
LATERAL = "LATERAL (SELECT * FROM {rows} OFFSET 0) AS {name}"
"""Makes PostgreSQL seek the rows of one span after another. The `OFFSET` keeps the planner from joining otherwise.

SQLite has no lateral join, but keeps the order of a cross join.
"""


class SpanRows(NamedTuple):
    """The rows of a table in spans. `span_quarters` selects the rows of that length, in a table that has several."""

    table: str
    spans: Sequence[Span]
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


def group_spans(lengths: Mapping[int, Targets]) -> tuple[dict[int, list[Span]], list[Intervals]]:
    """Return the spans by the length of their rows, and the intervals of each group.

    A group has the spans that belong to the same intervals with the same signs, or with all signs changed. The database
    adds them up.
    """
    groups: dict[Intervals, int] = {}
    spans: dict[int, list[Span]] = {length: [] for length in lengths}
    for length, targets in lengths.items():
        for (first, until), intervals in targets.items():
            (_, first_sign), *_ = in_order = sorted(intervals)
            of_group = tuple((start, sign * first_sign) for start, sign in in_order)
            spans[length].append((groups.setdefault(of_group, len(groups)), first_sign, first, until))
    return spans, list(groups)


def sums_of_spans(
    tx: sa.Connection,
    account_id: str,
    filters: UseFilter,
    parts: Sequence[SpanRows],
    *,
    by: Sequence[str],
    summed: Sequence[str],
) -> Sequence[Row]:
    """Return rows of a group of spans, the values of the columns `by`, and the sums of the columns `summed`.

    A group can have several rows.
    """
    sizes = Counter(group for part in parts for group, *_ in part.spans)
    single: list[SpanRows] = []
    several: list[SpanRows] = []
    for part in parts:
        # SQLite would sort the rows to group them, for nothing if each group has a single row.
        is_single = len(by) == len(SERIES) and _are_single(part, sizes)
        (single if is_single else several).append(part)
    values = [*(f"u.{name} AS {name}" for name in by), *(f"span.sign * u.{name} AS {name}" for name in summed)]
    selects = _selects(tx, filters, single, values, first_index=0)
    grouped = _selects(tx, filters, several, values, first_index=len(single))
    if grouped:
        # PostgreSQL adds up 64-bit integers to a numeric, which is slow to read.
        columns = [*by, *(f"CAST(sum({name}) AS BIGINT)" for name in summed)]
        text = _GROUPED.format(
            columns=", ".join(columns),
            selects=" UNION ALL ".join(select for _, select in grouped),
            group=", ".join(["span_group", *by]),
        )
        selects.append((", ".join(spans for spans, _ in grouped), text))
    return _read(tx, account_id, filters, selects)


def _are_single(part: SpanRows, sizes: Mapping[int, int]) -> bool:
    """Whether each group is one span of one row for each key and model."""
    return all(until - first == part.span_quarters and sizes[group] == 1 for group, _, first, until in part.spans)


def rows_of_spans(
    tx: sa.Connection, account_id: str, filters: UseFilter, parts: Sequence[SpanRows], *, columns: Sequence[str]
) -> Sequence[Row]:
    """Return each row as the group of its span, 1 or -1, and the columns."""
    selects = _selects(tx, filters, parts, ["span.sign", *(f"u.{name}" for name in columns)], first_index=0)
    return _read(tx, account_id, filters, selects)


def _selects(
    tx: sa.Connection,
    filters: UseFilter,
    parts: Sequence[SpanRows],
    columns: Sequence[str],
    *,
    first_index: int,
) -> list[tuple[str, str]]:
    """Return the spans of each part as a common table expression, and the query that reads the columns of its rows."""
    selects = []
    for index, part in enumerate((part for part in parts if part.spans), first_index):
        listed = ", ".join(map(str, part.spans))
        conditions = "".join(f" AND u.{name} = :{name}" for name in _values_of(filters))
        if part.span_quarters is not None:
            conditions += f" AND u.span_quarters = {part.span_quarters}"
        rows = _ROWS.format(table=part.table, index=index, conditions=conditions)
        if tx.dialect.name != "sqlite":
            rows = LATERAL.format(rows=rows, name="u")
        spans = f"span_{index} (span_group, sign, first, until) AS (VALUES {listed})"
        selects.append((spans, _SELECT.format(index=index, columns=", ".join(columns), rows=rows)))
    return selects


def _values_of(filters: UseFilter) -> dict[str, str]:
    values = {"model": filters.model, "api_key_id": filters.api_key_id}
    return {name: value for name, value in values.items() if value is not None}


def _read(tx: sa.Connection, account_id: str, filters: UseFilter, selects: Sequence[tuple[str, str]]) -> Sequence[Row]:
    if not selects:
        return []
    query = f"WITH {', '.join(spans for spans, _ in selects)} {' UNION ALL '.join(select for _, select in selects)}"
    return fetch(tx, query, account_id=account_id, **_values_of(filters))
