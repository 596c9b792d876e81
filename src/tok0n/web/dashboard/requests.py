"""The pages of an account's requests: the list, its CSV export, and the receipt of each request."""

import functools

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.errors import NotFound
from tok0n.domain.history import RequestFilter, RequestRecord, UseFilter
from tok0n.domain.ledger import RequestStatus
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.dashboard_context import DashboardContext, page_of
from tok0n.web.dashboard.periods import LASTS, PeriodFilter, read_period
from tok0n.web.rendering import csv
from tok0n.web.rendering.endpoints import page_route
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

_WHY_NOT_BILLED = {
    "upstream_error": "the provider failed, timed out, or returned an unusable response",
    "invalid_request": "the provider rejected the request",
    "api_error": "we couldn't complete the billing",
    "rate_limit_unavailable": "the rate limiter became unavailable",
    "cancelled": "the gateway shut down before the response arrived",
    "expired": "the gateway stopped before the response arrived",
}
"""The explanation for customers, by the error code of the request."""

_FILTERS = ("model", "key", "status")
_COLUMNS = (
    "id",
    "created_at",
    "resolved_at",
    "api_key_id",
    "api_key_name",
    "model",
    "status",
    "billed",
    "code",
    "reserved",
    "charged",
    "released",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "upstream_ms",
    "endpoint",
    "stream",
    "first_event_ms",
    "ended",
)


def request_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes of the list of requests, its CSV and a receipt."""
    pages = _RequestPages(dashboard)
    return [
        page_route(context, "/dashboard/requests", pages.requests),
        page_route(context, "/dashboard/requests.csv", pages.export),
        page_route(context, "/dashboard/requests/{request}", pages.request),
    ]


class _RequestPages:
    def __init__(self, dashboard: DashboardContext) -> None:
        self._dashboard = dashboard

    async def requests(self, page: PageRequest) -> Response:
        if request_id := page.query("id"):
            return await self._receipt(page, request_id)
        form_error = None
        try:
            period = read_period(page, now_us=self._dashboard.clock.now_us())
        except FormError as error:
            form_error, period = error, PeriodFilter()
        filter_by = _filter(page, period)
        fetch = functools.partial(self._dashboard.history.requests, page.account_id, filter_by)
        query = {name: page.query(name) for name in _FILTERS if page.query(name)} | period.query
        return page.render(
            "requests.html",
            **await page_of(fetch, before=page.query("before") or None),
            totals=await self._dashboard.history.totals(page.account_id, _use(filter_by, period)),
            has_totals=filter_by.status in {None, RequestStatus.SETTLED},
            query=query,
            period=period,
            lasts=LASTS,
            keys=await self._dashboard.keys(page),
            models=await self._dashboard.models(page),
            statuses=[status.lower() for status in RequestStatus],
            form_error=form_error,
        )

    async def request(self, page: PageRequest) -> Response:
        return await self._receipt(page, page.request.path_params["request"])

    async def export(self, page: PageRequest) -> Response:
        try:
            period = read_period(page, now_us=self._dashboard.clock.now_us())
        except FormError as form_error:
            return page.error(422, form_error.message)
        fetch = functools.partial(self._dashboard.history.requests, page.account_id, _filter(page, period))
        if await self._dashboard.classes(page):
            return csv.export("requests", (*_COLUMNS, "token_class"), fetch, _values_with_class)
        return csv.export("requests", _COLUMNS, fetch, _values)

    async def _receipt(self, page: PageRequest, request_id: str) -> Response:
        try:
            record = await self._dashboard.history.request(page.account_id, request_id)
        except NotFound:
            text = "Check the ID. It's in the x-request-id header of each response."
            return page.message("Request not found", text, status=404)
        classes = await self._dashboard.classes(page)
        why = _WHY_NOT_BILLED.get(record.code or "", "")
        return page.render("request.html", record=record, classes=classes, why=why)


def _filter(page: PageRequest, period: PeriodFilter) -> RequestFilter:
    return RequestFilter(
        since_us=period.since_us,
        until_us=period.until_us,
        model=page.query("model") or None,
        api_key_id=page.query("key") or None,
        status=_status(page.query("status")),
    )


def _use(filter_by: RequestFilter, period: PeriodFilter) -> UseFilter:
    return UseFilter(
        since_quarter=period.since_quarter,
        until_quarter=period.until_quarter,
        model=filter_by.model,
        api_key_id=filter_by.api_key_id,
    )


def _status(word: str) -> RequestStatus | None:
    try:
        return RequestStatus(word.upper())
    except ValueError:
        return None


def _values(row: RequestRecord) -> tuple[object, ...]:
    return (
        row.id,
        csv.moment(row.created_at_us),
        csv.moment(row.resolved_at_us),
        row.api_key_id,
        row.key_name,
        row.model,
        row.status.lower(),
        "yes" if row.is_billed else "no",
        row.code,
        row.reserved,
        row.charged,
        row.released,
        row.prompt_tokens,
        row.completion_tokens,
        row.total_tokens,
        row.upstream_ms,
        row.endpoint,
        "yes" if row.is_stream else "no",
        row.first_event_ms,
        row.ended,
    )


def _values_with_class(row: RequestRecord) -> tuple[object, ...]:
    return (*_values(row), row.token_class)
