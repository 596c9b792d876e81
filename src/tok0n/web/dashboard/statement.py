"""The statement: every ledger entry with the balance after it. The amounts add up to the balance."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tok0n.domain.history import LedgerEntry
from tok0n.web.dashboard.dashboard_context import ROWS_A_PAGE, DashboardContext
from tok0n.web.rendering import csv
from tok0n.web.rendering.endpoints import page_endpoint
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

_ENTRY_DIGITS_MAX = 18
_COLUMNS = ("id", "created_at", "kind", "amount", "balance", "request_id", "reason")


def statement_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes of the statement and its CSV."""

    async def statement(page: PageRequest) -> Response:
        before = page.query("before")
        is_page = before.isascii() and before.isdecimal() and len(before) <= _ENTRY_DIGITS_MAX
        rows = await dashboard.history.entries(
            page.account_id, before=int(before) if is_page else None, rows_max=ROWS_A_PAGE + 1
        )
        newest = await dashboard.history.entries(page.account_id, before=None, rows_max=1) if is_page else rows
        return page.render(
            "statement.html",
            posted=newest[0].posted_after if newest else 0,
            entries=rows[:ROWS_A_PAGE],
            older=rows[ROWS_A_PAGE - 1].id if len(rows) > ROWS_A_PAGE else None,
            is_first=not is_page,
        )

    async def export(page: PageRequest) -> Response:
        headers = {"content-disposition": 'attachment; filename="tok0n-statement.csv"'}
        return StreamingResponse(lines(page.account_id), media_type="text/csv", headers=headers)

    async def lines(account_id: str) -> AsyncIterator[str]:
        yield csv.lines([_COLUMNS])
        before = None
        while rows := await dashboard.history.entries(account_id, before=before, rows_max=csv.ROWS_AT_ONCE):
            yield await asyncio.to_thread(csv.lines, map(_values, rows))
            before = rows[-1].id

    return [
        Route("/dashboard/statement", page_endpoint(context, statement, private=True)),
        Route("/dashboard/statement.csv", page_endpoint(context, export, private=True)),
    ]


def _values(entry: LedgerEntry) -> tuple[object, ...]:
    change = (entry.kind.lower(), entry.amount, entry.posted_after)
    return (entry.id, csv.moment(entry.created_at_us), *change, entry.request_id, entry.reason)
