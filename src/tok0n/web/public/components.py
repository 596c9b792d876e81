"""The demo's page /dev/components, which shows every component of `components.html` in every state."""

from datetime import UTC

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain import latency
from tok0n.domain.history import BucketOfUse
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR
from tok0n.domain.outcomes import Latencies
from tok0n.web.rendering.charts import BarPeriod, Chart, LatencyChart, plot, plot_latencies, use_values
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import page_route

PATH = "/dev/components"

_LONG_NAME = "Production key of the Rindfleischetikettierungsüberwachungsaufgabenübertragungs-Team, London office"
_LONG_MODEL = "organization/llama-4-maverick-17b-128e-instruct-fp8-2026-11-29"
_LARGEST = 999_999_999_999_999
_FIRST_QUARTER = 2_000_000
_NOW_US = (_FIRST_QUARTER + 94) * MICROSECONDS_PER_QUARTER_HOUR
_REQUEST_ID = "req_01a2b3c4d5e6f7a8b9c0d1e2f3a4e9c5"


def components_routes(context: PageContext) -> list[Route]:
    """Return the route of the page. Only the demo has it."""

    async def components(page_request: PageRequest) -> Response:
        return page_request.render(
            "dev_components.html",
            long_name=_LONG_NAME,
            long_model=_LONG_MODEL,
            largest=_LARGEST,
            request_id=_REQUEST_ID,
            chart=_sample_chart(),
            latency_chart=_sample_latency_chart(),
            failed={"field": "failed", "message": "Enter a whole number of tokens, such as 10000."},
        )

    return [page_route(context, PATH, components)]


def _sample_chart() -> Chart:
    """Return a chart whose last bar is a part of an hour."""
    period = BarPeriod(since_quarter=_FIRST_QUARTER, until_quarter=_FIRST_QUARTER + 96, zone=UTC, now_us=_NOW_US)
    use = [
        BucketOfUse(quarter=quarter, series=series, charged=(hour * 7_919 + size) % 900_000, requests=hour + 1)
        for hour, quarter in enumerate(period.starts)
        for size, series in enumerate((_LONG_MODEL, "demo", "quick"))
        if (hour + size) % 5
    ]
    return plot(use_values(use), {}, period=period, link="?")


def _sample_latency_chart() -> LatencyChart:
    """Return a chart of latencies, with hours that have none."""
    period = BarPeriod(since_quarter=_FIRST_QUARTER, until_quarter=_FIRST_QUARTER + 96, zone=UTC, now_us=_NOW_US)
    latencies = [
        Latencies(quarter=quarter, series=series, packed=latency.pack({40 + (hour * 7 + size) % 30: 5, 75 + size: 1}))
        for hour, quarter in enumerate(period.starts)
        for size, series in enumerate((_LONG_MODEL, "demo"))
        if hour % 6
    ]
    return plot_latencies(latencies, {}, period=period, link="?")
