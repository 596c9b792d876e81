"""The pages of an account's requests: the list, its CSV export, and the receipt of each request."""

import asyncio
from collections.abc import AsyncIterator

from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from tok0n.domain.errors import NotFound
from tok0n.domain.history import RequestFilter, RequestRecord, UseFilter
from tok0n.domain.ledger import RequestStatus
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.dashboard_context import LASTS, ROWS_A_PAGE, DashboardContext, PeriodFilter, read_period
from tok0n.web.rendering import csv
from tok0n.web.rendering.endpoints import page_endpoint
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
)


def request_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes of the list of requests, its CSV and a receipt."""
    pages = _RequestPages(dashboard)
    return [
        Route("/dashboard/requests", page_endpoint(context, pages.requests, private=True)),
        Route("/dashboard/requests.csv", page_endpoint(context, pages.export, private=True)),
        Route("/dashboard/requests/{request}", page_endpoint(context, pages.request, private=True)),
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
        rows = await self._dashboard.history.requests(
            page.account_id, filter_by, before=page.query("before") or None, rows_max=ROWS_A_PAGE + 1
        )
        query = {name: page.query(name) for name in _FILTERS if page.query(name)} | period.query
        return page.render(
            "requests.html",
            status=200 if form_error is None else 422,
            requests=rows[:ROWS_A_PAGE],
            older=rows[ROWS_A_PAGE - 1].id if len(rows) > ROWS_A_PAGE else None,
            is_first=not page.query("before"),
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
        rows = self._lines(page.account_id, _filter(page, period))
        headers = {"content-disposition": 'attachment; filename="tok0n-requests.csv"'}
        return StreamingResponse(rows, media_type="text/csv", headers=headers)

    async def _receipt(self, page: PageRequest, request_id: str) -> Response:
        try:
            record = await self._dashboard.history.request(page.account_id, request_id)
        except NotFound:
            text = "Check the ID. It's in the x-request-id header of each response."
            return page.message("Request not found", text, status=404)
        return page.render("request.html", record=record, why=_WHY_NOT_BILLED.get(record.code or "", ""))

    async def _lines(self, account_id: str, filter_by: RequestFilter) -> AsyncIterator[str]:
        yield csv.lines([_COLUMNS])
        before = None
        while rows := await self._dashboard.history.requests(
            account_id, filter_by, before=before, rows_max=csv.ROWS_AT_ONCE
        ):
            yield await asyncio.to_thread(csv.lines, map(_values, rows))
            before = rows[-1].id


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
        since_hour=period.since_hour,
        until_hour=period.until_hour,
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
    )
