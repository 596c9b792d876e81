"""The statement: the ledger entries of a month, between its opening and its closing balance."""

import functools

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.history import LedgerEntry
from tok0n.domain.ledger import STANDARD
from tok0n.domain.months import month_at, parse_month
from tok0n.domain.table_text import utc_time
from tok0n.ports.accounts import Statements
from tok0n.web.dashboard.dashboard_context import DashboardContext, fetch_rows
from tok0n.web.rendering import csv
from tok0n.web.rendering.filters import zone_of
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import page_route

_COLUMNS = ("number", "created_at", "kind", "amount", "balance", "request_id", "reason")
_CLASS_COLUMNS = ("token_class",)
"""More columns, if there is more than one token class."""


def statement_routes(context: PageContext, dashboard: DashboardContext, statements: Statements) -> list[Route]:
    """Return the routes of the statement and its CSV."""
    pages = _StatementPages(dashboard, statements)
    return [
        page_route(context, "/dashboard/statement", pages.statement),
        page_route(context, "/dashboard/statement.csv", pages.export),
    ]


class _StatementPages:
    def __init__(self, dashboard: DashboardContext, statements: Statements) -> None:
        self._dashboard = dashboard
        self._statements = statements

    async def statement(self, page: PageRequest) -> Response:
        account_id, zone = page.account_id, zone_of(page.session.time_zone)
        balances = await self._dashboard.history.wallets(account_id)
        classes = self._dashboard.class_titles_of(balances)
        token_class = _selected(page, classes)
        current = month_at(self._dashboard.clock.now_us(), zone)
        month = parse_month(page.query("month")) or current
        since_us, until_us = month.starts_at_us(zone), month.ends_at_us(zone)
        first_us = await self._statements.first_entry_at_us(account_id)
        selected = [token_class] if token_class else list(classes) or [STANDARD]
        opening = await self._statements.balances_at(account_id, since_us)
        closing = await self._statements.balances_at(account_id, until_us)
        fetch = functools.partial(
            self._statements.entries, account_id, since_us=since_us, until_us=until_us, token_class=token_class
        )
        return page.render(
            "statement.html",
            month=month,
            is_current=month == current,
            preceding=month.preceding if first_us is not None and first_us < since_us else None,
            following=month.following if month < current else None,
            balances=[(id_, opening.get(id_, 0), closing.get(id_, 0)) for id_ in selected],
            classes=classes,
            token_class=token_class,
            query={"month": str(month)} | ({} if token_class is None else {"class": token_class}),
            **await fetch_rows(fetch, before=page.query("before") or None),
        )

    async def export(self, page: PageRequest) -> Response:
        """Return the entries of a month, or all of them."""
        classes = await self._dashboard.class_titles(page)
        token_class, month = _selected(page, classes), parse_month(page.query("month"))
        fetch = functools.partial(self._statements.entries, page.account_id, token_class=token_class)
        if month is not None:
            zone = zone_of(page.session.time_zone)
            fetch = functools.partial(fetch, since_us=month.starts_at_us(zone), until_us=month.ends_at_us(zone))
        name = "statement" if month is None else f"statement-{month}"
        if classes:
            return csv.export(name, (*_COLUMNS, *_CLASS_COLUMNS), fetch, _values_with_class)
        return csv.export(name, _COLUMNS, fetch, _values)


def _selected(page: PageRequest, classes: dict[str, str]) -> str | None:
    """Return the token class that the page shows alone, or None for all."""
    token_class = page.query("class")
    return token_class if token_class in classes else None


def _values(entry: LedgerEntry) -> tuple[object, ...]:
    change = (entry.kind.lower(), entry.amount, entry.posted_after)
    reason = entry.reason
    if entry.reverses_request_id is not None:
        reason = f"gives back the charge of {entry.reverses_request_id}"
    return (entry.number, utc_time(entry.created_at_us), *change, entry.request_id, reason)


def _values_with_class(entry: LedgerEntry) -> tuple[object, ...]:
    return (*_values(entry), entry.token_class)
