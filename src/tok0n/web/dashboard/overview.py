"""The first page of the dashboard: the balance, recent usage and the latest requests."""

import asyncio

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.first_steps import first_steps
from tok0n.domain.history import RequestFilter, UseBy, UseFilter
from tok0n.domain.ledger import STANDARD
from tok0n.web.dashboard.dashboard_context import DashboardContext, key_names
from tok0n.web.dashboard.periods import local_hours
from tok0n.web.rendering.charts import plot, starts
from tok0n.web.rendering.endpoints import page_route
from tok0n.web.rendering.filters import zone_of
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

ROWS = 8
HOURS_PLOTTED = 48


def overview_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the route of the overview."""

    async def overview(page: PageRequest) -> Response:
        account_id = page.account_id
        by = UseBy.KEY if page.query("by") == UseBy.KEY else UseBy.MODEL
        zone = zone_of(page.user.time_zone)
        period = local_hours(HOURS_PLOTTED, now_us=dashboard.clock.now_us(), zone=zone)
        since_quarter, until_quarter = period.since_quarter, period.until_quarter
        assert since_quarter is not None
        assert until_quarter is not None
        balances = await dashboard.history.wallets(account_id)
        balance = balances[STANDARD]
        threshold_tokens = await dashboard.low_balances.threshold_tokens(account_id)
        use = await dashboard.history.buckets(
            account_id,
            UseFilter(since_quarter=since_quarter, until_quarter=until_quarter),
            by=by,
            starts=starts(since_quarter, until_quarter, zone=zone),
        )
        keys = await dashboard.keys(page)
        spent = (await dashboard.history.totals(account_id, UseFilter())).charged
        posted = sum(balance.posted for balance in balances.values())
        return page.render(
            "overview.html",
            balance=balance,
            wallets=dashboard.token_classes.wallets(balances),
            classes=dashboard.shown_classes(balances),
            is_low=balance.is_below(threshold_tokens),
            threshold_tokens=threshold_tokens,
            spent=spent,
            steps=first_steps(posted=posted, spent=spent, keys=len(keys)),
            dismissed=await dashboard.users.dismissed(page.user.user_id),
            token_source=await dashboard.token_sources.find(),
            available_usd_micros=await _worth(dashboard, account_id, balance.available),
            spent_this_month=await dashboard.costs.this_month(account_id, time_zone=page.user.time_zone),
            by=by,
            chart=await asyncio.to_thread(
                plot,
                use,
                key_names(keys),
                since_quarter=since_quarter,
                until_quarter=until_quarter,
                zone=zone,
                link=page.context.link("/dashboard/requests", {}),
            ),
            hours_plotted=HOURS_PLOTTED,
            requests=await dashboard.history.requests(account_id, RequestFilter(), before=None, rows_max=ROWS),
        )

    return [page_route(context, "/dashboard", overview)]


async def _worth(dashboard: DashboardContext, account_id: str, tokens: int) -> int | None:
    """Return the price of the available standard tokens in micro-dollars. None if they have none."""
    if not tokens:
        return None
    return await dashboard.costs.estimate(account_id, token_class=STANDARD, tokens=tokens)
