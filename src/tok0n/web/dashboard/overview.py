"""The first page of the dashboard: the balance, recent usage and the latest requests."""

import asyncio
from collections import Counter
from collections.abc import Mapping

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.first_steps import first_steps
from tok0n.domain.history import RequestFilter, UseBy, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR, STANDARD, Balance
from tok0n.domain.trends import runway_days
from tok0n.web.dashboard.dashboard_context import DashboardContext, key_names
from tok0n.web.dashboard.periods import bar_period, local_hours
from tok0n.web.rendering.charts import plot, use_values
from tok0n.web.rendering.filters import zone_of
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import page_route

ROWS = 8
HOURS_PLOTTED = 48
RUNWAY_DAYS = 7
QUARTERS_PER_DAY = 96


def overview_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the route of the overview."""

    async def overview(page: PageRequest) -> Response:
        account_id = page.account_id
        by = UseBy.KEY if page.query("by") == UseBy.KEY else UseBy.MODEL
        zone = zone_of(page.session.time_zone)
        now_us = dashboard.clock.now_us()
        bars = bar_period(page, local_hours(HOURS_PLOTTED, now_us=now_us, zone=zone), now_us=now_us)
        balances = await dashboard.history.wallets(account_id)
        balance = balances[STANDARD]
        threshold_tokens = await dashboard.low_balances.threshold_tokens(account_id)
        use = await dashboard.history.buckets(
            account_id,
            UseFilter(since_quarter=bars.since_quarter, until_quarter=bars.until_quarter),
            by=by,
            starts=bars.starts,
        )
        keys = await dashboard.keys(page)
        spent = (await dashboard.history.totals(account_id, UseFilter())).charged
        posted = sum(balance.posted for balance in balances.values())
        return page.render(
            "overview.html",
            balance=balance,
            wallets=dashboard.token_classes.wallets(balances),
            classes=dashboard.class_titles_of(balances),
            is_low=balance.is_below(threshold_tokens),
            threshold_tokens=threshold_tokens,
            spent=spent,
            steps=first_steps(posted=posted, spent=spent, keys=len(keys)),
            dismissed=await dashboard.users.dismissed_hints(page.session.user_id),
            token_source=await dashboard.token_sources.find(),
            available_usd_micros=await _worth(dashboard, account_id, balance.available),
            spent_this_month=await dashboard.costs.spent_this_month(account_id, time_zone=page.session.time_zone),
            by=by,
            chart=await asyncio.to_thread(
                plot,
                use_values(use),
                key_names(keys),
                period=bars,
                link=page.context.link("/dashboard/requests", {}),
            ),
            hours_plotted=HOURS_PLOTTED,
            runways=await _runways(page, dashboard, balances, now_us=now_us),
            runway_days=RUNWAY_DAYS,
            requests=await dashboard.history.requests(account_id, RequestFilter(), before=None, rows_max=ROWS),
        )

    return [page_route(context, "/dashboard", overview)]


async def _worth(dashboard: DashboardContext, account_id: str, tokens: int) -> int | None:
    """Return the price of the available standard tokens in micro-dollars. None if they have none."""
    if not tokens:
        return None
    return await dashboard.costs.estimate(account_id, token_class=STANDARD, tokens=tokens)


async def _runways(
    page: PageRequest, dashboard: DashboardContext, balances: Mapping[str, Balance], *, now_us: int
) -> list[tuple[str, int]]:
    """Return for each token class in use how many days its tokens last, at the rate of the last `RUNWAY_DAYS` days.

    A model counts as of the class that it has now.
    """
    until = now_us // MICROSECONDS_PER_QUARTER_HOUR + 1
    since = until - RUNWAY_DAYS * QUARTERS_PER_DAY
    # UTC days, most of which are summed already.
    starts = [since, *range(since // QUARTERS_PER_DAY * QUARTERS_PER_DAY + QUARTERS_PER_DAY, until, QUARTERS_PER_DAY)]
    period = UseFilter(since_quarter=since, until_quarter=until)
    used = Counter[str]()
    for part in await dashboard.history.buckets(page.account_id, period, by=UseBy.MODEL, starts=starts):
        model = dashboard.catalogue.find(part.series)
        used[STANDARD if model is None else model.token_class] += part.charged
    runways = []
    for token_class, balance in balances.items():
        days = runway_days(balance.available, used=used[token_class], days=RUNWAY_DAYS)
        if days is not None:
            runways.append((dashboard.token_classes.title(token_class), days))
    return runways
