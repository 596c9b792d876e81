"""The statement: every ledger entry with the balance after it. The amounts add up to the balance."""

import functools

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.history import LedgerEntry
from tok0n.web.dashboard.dashboard_ports import DashboardPorts, page_of
from tok0n.web.pages import csv
from tok0n.web.pages.endpoints import page_route
from tok0n.web.pages.page_context import PageContext
from tok0n.web.pages.page_request import PageRequest

_ENTRY_DIGITS_MAX = 18
_COLUMNS = ("id", "created_at", "kind", "amount", "balance", "request_id", "reason")


def statement_routes(context: PageContext, ports: DashboardPorts) -> list[Route]:
    """Return the routes of the statement and its CSV."""

    async def statement(page: PageRequest) -> Response:
        before = page.query("before")
        is_page = before.isascii() and before.isdecimal() and len(before) <= _ENTRY_DIGITS_MAX
        fetch = functools.partial(ports.history.entries, page.account_id)
        page_rows = await page_of(fetch, before=int(before) if is_page else None)
        newest = await fetch(before=None, rows_max=1) if is_page else page_rows["rows"]
        return page.render("statement.html", posted=newest[0].posted_after if newest else 0, **page_rows)

    async def export(page: PageRequest) -> Response:
        fetch = functools.partial(ports.history.entries, page.account_id)
        return csv.export("statement", _COLUMNS, fetch, _values)

    return [
        page_route(context, "/dashboard/statement", statement),
        page_route(context, "/dashboard/statement.csv", export),
    ]


def _values(entry: LedgerEntry) -> tuple[object, ...]:
    change = (entry.kind.lower(), entry.amount, entry.posted_after)
    return (entry.id, csv.moment(entry.created_at_us), *change, entry.request_id, entry.reason)
