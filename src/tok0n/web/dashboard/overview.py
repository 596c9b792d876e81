"""The first page of the dashboard: the balance, recent usage and the latest requests."""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.history import RequestFilter, UseBy, UseFilter
from tok0n.domain.ledger import US_AN_HOUR
from tok0n.web.dashboard.dashboard_ports import DashboardPorts
from tok0n.web.pages.charts import plot
from tok0n.web.pages.endpoints import page_route
from tok0n.web.pages.filters import zone_of
from tok0n.web.pages.page_context import PageContext
from tok0n.web.pages.page_request import PageRequest

ROWS = 8
HOURS_PLOTTED = 48


def overview_routes(context: PageContext, ports: DashboardPorts) -> list[Route]:
    """Return the route of the overview."""

    async def overview(page: PageRequest) -> Response:
        account_id = page.account_id
        until_hour = ports.clock.now_us() // US_AN_HOUR + 1
        since_hour = until_hour - HOURS_PLOTTED
        by = UseBy.KEY if page.query("by") == UseBy.KEY else UseBy.MODEL
        balance = await ports.history.balance(account_id)
        threshold_tokens = await ports.low_balances.threshold_tokens(account_id)
        hours = await ports.history.hours(account_id, UseFilter(since_hour=since_hour, until_hour=until_hour), by=by)
        return page.render(
            "overview.html",
            balance=balance,
            is_low=balance.is_below(threshold_tokens),
            threshold_tokens=threshold_tokens,
            spent=(await ports.history.totals(account_id, UseFilter())).charged,
            by=by,
            chart=plot(
                hours,
                await ports.key_names(page),
                since_hour=since_hour,
                until_hour=until_hour,
                zone=zone_of(page.user.time_zone),
                link=page.context.link("/dashboard/requests", {}),
            ),
            hours_plotted=HOURS_PLOTTED,
            requests=await ports.history.requests(account_id, RequestFilter(), before=None, rows_max=ROWS),
            has_key=bool(await ports.api_keys.active(account_id)),
            models=ports.catalogue.listed(),
        )

    return [page_route(context, "/dashboard", overview)]
