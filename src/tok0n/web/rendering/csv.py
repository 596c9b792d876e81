"""Stream a history as CSV for spreadsheets."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

from starlette.responses import Response, StreamingResponse

from tok0n.domain.table_text import lines

ROWS_AT_ONCE = 1_000


def export(
    name: str,
    columns: Sequence[str],
    fetch: Callable[..., Awaitable[Sequence[Any]]],
    values: Callable[[Any], Iterable[object]],
) -> Response:
    """Stream the file tok0n-NAME.csv. `fetch` returns the newest `rows_max` rows `before` an id."""

    async def text() -> AsyncIterator[str]:
        yield lines([columns])
        before: Any = None
        while rows := await fetch(before=before, rows_max=ROWS_AT_ONCE):
            yield await asyncio.to_thread(lines, map(values, rows))
            before = rows[-1].id

    headers = {"content-disposition": f'attachment; filename="tok0n-{name}.csv"'}
    return StreamingResponse(text(), media_type="text/csv", headers=headers)


def file(name: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Response:
    """Return the file tok0n-NAME.csv with a few thousand rows at most."""
    headers = {"content-disposition": f'attachment; filename="tok0n-{name}.csv"'}
    return Response(lines([columns, *rows]), media_type="text/csv", headers=headers)
