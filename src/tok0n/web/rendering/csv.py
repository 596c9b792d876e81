"""Export CSV for spreadsheets (RFC 4180), with an apostrophe before text that a spreadsheet would run as a formula."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response, StreamingResponse

ROWS_AT_ONCE = 1_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def export(
    name: str,
    columns: Sequence[str],
    fetch: Callable[..., Awaitable[Sequence[Any]]],
    values: Callable[[Any], Iterable[object]],
) -> Response:
    """Stream the file tok0n-NAME.csv. `fetch` returns the newest `rows_max` rows `before` an id."""

    async def text() -> AsyncIterator[str]:
        yield _lines([columns])
        before: Any = None
        while rows := await fetch(before=before, rows_max=ROWS_AT_ONCE):
            yield await asyncio.to_thread(_lines, map(values, rows))
            before = rows[-1].id

    headers = {"content-disposition": f'attachment; filename="tok0n-{name}.csv"'}
    return StreamingResponse(text(), media_type="text/csv", headers=headers)


def file(name: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Response:
    """Return the file tok0n-NAME.csv with a few thousand rows at most."""
    headers = {"content-disposition": f'attachment; filename="tok0n-{name}.csv"'}
    return Response(_lines([columns, *rows]), media_type="text/csv", headers=headers)


def _lines(rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV lines, each with its line ending."""
    text = io.StringIO()
    csv.writer(text).writerows([_safe(value) for value in row] for row in rows)
    return text.getvalue()


def moment(microseconds: int | None) -> str:
    """Format a time for programs, in UTC. Return an empty string for None."""
    return "" if microseconds is None else datetime.fromtimestamp(microseconds / 1_000_000, UTC).isoformat()


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
