"""What was used: plotted by the hour or the day, told apart by model or key, and as a table. Reads roll-ups only."""

import asyncio
from datetime import UTC, datetime

import msgspec
from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.history import UseBy, UseFilter
from tok0n.domain.ledger import US_AN_HOUR
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.dashboard_ports import LASTS, DashboardPorts, Period, read_period
from tok0n.web.pages.charts import plot
from tok0n.web.pages.endpoints import page_endpoint
from tok0n.web.pages.filters import zone_of
from tok0n.web.pages.page_context import PageContext
from tok0n.web.pages.page_request import PageRequest

DEFAULT_LAST = "7d"
HOURS_MAX = 92 * 24


def usage_routes(context: PageContext, ports: DashboardPorts) -> list[Route]:
    """The route."""

    async def usage(page: PageRequest) -> Response:
        now_us = ports.clock.now_us()
        form_error = None
        try:
            period = _bounded(read_period(page, now_us=now_us, default=DEFAULT_LAST), now_us=now_us)
        except FormError as wrong:
            form_error, period = wrong, _last(now_us)
        assert period.since_hour is not None
        assert period.until_hour is not None
        by = UseBy.KEY if page.query("by") == UseBy.KEY else UseBy.MODEL
        chosen = UseFilter(
            since_hour=period.since_hour,
            until_hour=period.until_hour,
            model=page.query("model") or None,
            api_key_id=page.query("key") or None,
        )
        keys = await ports.keys(page)
        filters = {name: page.query(name) for name in ("model", "key") if page.query(name)}
        return page.render(
            "usage.html",
            status=200 if form_error is None else 422,
            by=by,
            chart=await asyncio.to_thread(
                plot,
                await ports.history.hours(page.account_id, chosen, by=by),
                await ports.key_names(page),
                since_hour=period.since_hour,
                until_hour=period.until_hour,
                zone=zone_of(page.user.time_zone),
                link=page.context.link("/dashboard/requests", filters),
            ),
            totals=await ports.history.totals(page.account_id, chosen),
            query=filters | period.query | ({"by": by} if by is UseBy.KEY else {}),
            period=period,
            lasts=LASTS,
            keys=keys,
            models=await ports.models(page),
            form_error=form_error,
        )

    return [Route("/dashboard/usage", page_endpoint(context, usage, private=True))]


UNTIL_US_MAX = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""A day or an hour after it is still a date that Python has."""


def _bounded(period: Period, *, now_us: int) -> Period:
    """A period with both ends, not too long to be drawn. Raises `FormError`."""
    until_us = (now_us // US_AN_HOUR + 1) * US_AN_HOUR if period.until_us is None else period.until_us
    since_us = until_us - LASTS[DEFAULT_LAST][1] * 24 * US_AN_HOUR if period.since_us is None else period.since_us
    if until_us > UNTIL_US_MAX:
        raise FormError("Choose an end before the year 9000.", field="until")
    if since_us >= until_us:
        raise FormError("Choose a start in the past.", field="since")
    bounded = msgspec.structs.replace(period, since_us=since_us, until_us=until_us)
    if until_us - since_us > HOURS_MAX * US_AN_HOUR:
        raise FormError(f"Choose a period of at most {HOURS_MAX // 24} days.", field="since")
    return bounded


def _last(now_us: int) -> Period:
    period = Period(since_us=None, until_us=None, since_field="", until_field="", query={})
    return _bounded(period, now_us=now_us)
