"""The first page of an account: what is available, what was used lately, and the last requests."""

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.history import RequestFilter, UseBy, UseFilter
from tok0n.domain.ledger import US_AN_HOUR
from tok0n.web.dashboard.dashboard_ports import DashboardPorts
from tok0n.web.pages.charts import plot
from tok0n.web.pages.filters import zone_of
from tok0n.web.pages.visit import Site, Visit

ROWS = 8
HOURS_PLOTTED = 48


def overview_routes(site: Site, ports: DashboardPorts) -> list[Route]:
    """The route."""

    async def overview(visit: Visit) -> Response:
        account_id = visit.account_id
        until_hour = ports.clock.now_us() // US_AN_HOUR + 1
        since_hour = until_hour - HOURS_PLOTTED
        by = UseBy.KEY if visit.query("by") == UseBy.KEY else UseBy.MODEL
        keys = await ports.keys(visit)
        balance = await ports.history.balance(account_id)
        threshold_tokens = await ports.notices.threshold_tokens(account_id)
        hours = await ports.history.hours(account_id, UseFilter(since_hour=since_hour, until_hour=until_hour), by=by)
        return visit.page(
            "overview.html",
            balance=balance,
            is_low=threshold_tokens is not None and balance.posted < threshold_tokens,
            threshold_tokens=threshold_tokens,
            spent=(await ports.history.totals(account_id, UseFilter())).charged,
            by=by,
            chart=plot(
                hours,
                await ports.key_names(visit),
                since_hour=since_hour,
                until_hour=until_hour,
                zone=zone_of(visit.user.time_zone),
                link=visit.site.link("/dashboard/requests", {}),
            ),
            hours_plotted=HOURS_PLOTTED,
            requests=await ports.history.requests(account_id, RequestFilter(), before=None, rows_max=ROWS),
            has_key=any(key.works(ports.clock.now_us()) for key in keys),
            models=ports.catalogue.listed(),
        )

    return [Route("/dashboard", site.page(overview, private=True))]
