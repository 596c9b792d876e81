"""Comma-separated values, for spreadsheets (RFC 4180). Text that a spreadsheet would run as a formula is quoted."""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime

ROWS_AT_ONCE = 1_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def lines(rows: Iterable[Iterable[object]]) -> str:
    """Some lines, their ends included."""
    text = io.StringIO()
    csv.writer(text).writerows([_safe(value) for value in row] for row in rows)
    return text.getvalue()


def moment(microseconds: int | None) -> str:
    """A time in UTC, for programs; nothing for none."""
    return "" if microseconds is None else datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat()


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
