"""The statement: every ledger entry with the balance after it. The amounts add up to the balance of their class."""

import functools

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.history import LedgerEntry
from tok0n.domain.ledger import STANDARD
from tok0n.domain.token_classes import EMPTY
from tok0n.web.dashboard.dashboard_context import DashboardContext, before_of, page_of
from tok0n.web.rendering import csv
from tok0n.web.rendering.endpoints import page_route
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

_COLUMNS = ("id", "created_at", "kind", "amount", "balance", "request_id", "reason")
_CLASS_COLUMNS = ("token_class", "number")
"""More columns, if there is more than one token class."""


def statement_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes of the statement and its CSV."""

    async def statement(page: PageRequest) -> Response:
        balances = await dashboard.history.wallets(page.account_id)
        classes = dashboard.shown_classes(balances)
        token_class = _selected(page, classes)
        fetch = functools.partial(dashboard.history.entries, page.account_id, token_class=token_class)
        before = before_of(page)
        page_rows = await page_of(fetch, before=before)
        if classes:
            selected = [token_class] if token_class else classes
            posted = {selected_class: balances.get(selected_class, EMPTY).posted for selected_class in selected}
        else:
            newest = await fetch(before=None, rows_max=1) if before is not None else page_rows["rows"]
            posted = {STANDARD: newest[0].posted_after if newest else 0}
        return page.render(
            "statement.html",
            posted=posted,
            classes=classes,
            token_class=token_class,
            query={} if token_class is None else {"class": token_class},
            **page_rows,
        )

    async def export(page: PageRequest) -> Response:
        classes = await dashboard.classes(page)
        fetch = functools.partial(dashboard.history.entries, page.account_id, token_class=_selected(page, classes))
        if classes:
            return csv.export("statement", (*_COLUMNS, *_CLASS_COLUMNS), fetch, _values_with_class)
        return csv.export("statement", _COLUMNS, fetch, _values)

    return [
        page_route(context, "/dashboard/statement", statement),
        page_route(context, "/dashboard/statement.csv", export),
    ]


def _selected(page: PageRequest, classes: dict[str, str]) -> str | None:
    """Return the token class that the page shows alone, or None for all."""
    token_class = page.query("class")
    return token_class if token_class in classes else None


def _values(entry: LedgerEntry) -> tuple[object, ...]:
    change = (entry.kind.lower(), entry.amount, entry.posted_after)
    reason = entry.reason
    if entry.reverses_request_id is not None:
        reason = f"gives back the charge of {entry.reverses_request_id}"
    return (entry.id, csv.moment(entry.created_at_us), *change, entry.request_id, reason)


def _values_with_class(entry: LedgerEntry) -> tuple[object, ...]:
    return (*_values(entry), entry.token_class, entry.number)
