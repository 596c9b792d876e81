"""Write CSV for spreadsheets (RFC 4180), with an apostrophe before text that a spreadsheet would run as a formula."""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime

ROWS_AT_ONCE = 1_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def lines(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV lines, each with its line ending."""
    text = io.StringIO()
    csv.writer(text).writerows([_safe(value) for value in row] for row in rows)
    return text.getvalue()


def moment(microseconds: int | None) -> str:
    """Format a time for programs, in UTC. Return an empty string for None."""
    return "" if microseconds is None else datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat()


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
