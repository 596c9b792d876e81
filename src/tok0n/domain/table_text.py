"""Turn rows into text for programs and spreadsheets: CSV (RFC 4180), and values that JSON can hold.

Text that a spreadsheet would run as a formula gets an apostrophe. Times become ISO 8601 in UTC.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec

_FORMULA = frozenset("=+-@\t\r")


def lines(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV lines, each with its line ending."""
    text = io.StringIO()
    csv.writer(text).writerows(
        [f"'{value}" if isinstance(value, str) and value[:1] in _FORMULA else value for value in row] for row in rows
    )
    return text.getvalue()


def table(rows: Sequence[msgspec.Struct | Mapping[str, Any]], *, with_head: bool) -> bytes:
    """Return structs of one type, or such dicts, as CSV lines. Each member is a column; a nested one is JSON."""
    members = [readable(row) for row in rows]
    head = [list(members[0])] if with_head else []
    return lines([*head, *(map(_cell, row.values()) for row in members)]).encode()


def readable(value: Any) -> Any:
    """Return structs as dicts, with each member `NAME_us` as the time `NAME`."""
    match value:
        case msgspec.Struct():
            return readable(msgspec.structs.asdict(value))
        case Mapping():
            return dict(_member(name, item) for name, item in value.items())
        case list() | tuple():
            return [readable(item) for item in value]
        case Enum():
            return str(value)
        case _:
            return value


def utc_time(microseconds: int | None) -> str:
    """Format a time for programs, in UTC. Return an empty string for None."""
    return "" if microseconds is None else datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat()


def _member(name: str, value: Any) -> tuple[str, Any]:
    if name.endswith("_us") and (value is None or isinstance(value, int)):
        return name.removesuffix("_us"), utc_time(value) or None
    return name, readable(value)


def _cell(value: Any) -> object:
    match value:
        case None:
            return ""
        case dict() | list():
            return msgspec.json.encode(value).decode() if value else ""
        case _:
            return value
