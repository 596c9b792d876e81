"""The usage page: usage by model or key, as an hourly or daily chart and as a table. Reads only roll-ups."""

import asyncio

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.history import UseBy, UseFilter
from tok0n.domain.periods import bounded
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.dashboard_context import DashboardContext, key_names
from tok0n.web.dashboard.periods import LASTS, PeriodFilter, read_period
from tok0n.web.dashboard.submissions import form_error_of
from tok0n.web.rendering.charts import plot, starts
from tok0n.web.rendering.endpoints import page_route
from tok0n.web.rendering.filters import zone_of
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

DEFAULT_LAST = "7d"


def usage_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the route of the usage page."""

    async def usage(page: PageRequest) -> Response:
        now_us = dashboard.clock.now_us()
        form_error: FormError | None = None
        period = bounded(PeriodFilter(), now_us=now_us)
        try:
            period = bounded(read_period(page, now_us=now_us, default=DEFAULT_LAST), now_us=now_us)
        except InvalidRequest as error:
            form_error = form_error_of(error)
        assert period.since_quarter is not None
        assert period.until_quarter is not None
        by = UseBy.KEY if page.query("by") == UseBy.KEY else UseBy.MODEL
        filter_by = UseFilter(
            since_quarter=period.since_quarter,
            until_quarter=period.until_quarter,
            model=page.query("model") or None,
            api_key_id=page.query("key") or None,
        )
        zone = zone_of(page.user.time_zone)
        bar_starts = starts(period.since_quarter, period.until_quarter, zone=zone)
        keys = await dashboard.keys(page)
        filters = {name: page.query(name) for name in ("model", "key") if page.query(name)}
        return page.render(
            "usage.html",
            by=by,
            chart=await asyncio.to_thread(
                plot,
                await dashboard.history.buckets(page.account_id, filter_by, by=by, starts=bar_starts),
                key_names(keys),
                since_quarter=period.since_quarter,
                until_quarter=period.until_quarter,
                zone=zone,
                link=page.context.link("/dashboard/requests", filters),
            ),
            totals=await dashboard.history.totals(page.account_id, filter_by),
            query=filters | period.query | ({"by": by} if by is UseBy.KEY else {}),
            period=period,
            lasts=LASTS,
            keys=keys,
            models=await dashboard.models(page),
            form_error=form_error,
        )

    return [page_route(context, "/dashboard/usage", usage)]
