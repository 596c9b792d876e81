"""The pages of an account's requests: the list, its CSV export, and the receipt of each request."""

import functools
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.errors import NotFound
from tok0n.domain.history import RequestFilter
from tok0n.domain.ids import request_time_us
from tok0n.domain.rejections import REJECTED, RejectedRequest
from tok0n.domain.table_text import utc_time
from tok0n.services.passwords import FormError
from tok0n.services.request_history import HistoryEntry, RequestHistory
from tok0n.web.dashboard.dashboard_context import ROWS_PER_PAGE, DashboardContext, fetch_rows, rows_variables
from tok0n.web.dashboard.periods import LAST_PERIODS, PeriodFilter
from tok0n.web.dashboard.request_filters import CODES, STATUSES, active_filters, query_of, read_filter
from tok0n.web.rendering import csv
from tok0n.web.rendering.page_context import PageContext, with_query
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import page_route

_WHY_NOT_BILLED = {
    "upstream_error": "the provider failed, timed out, or returned an unusable response",
    "invalid_request": "the provider rejected the request",
    "api_error": "we couldn't complete the billing",
    "rate_limit_unavailable": "the rate limiter became unavailable",
    "cancelled": "the gateway shut down before the response arrived",
    "expired": "the gateway stopped before the response arrived",
}
"""The explanation for customers, by the error code of the request."""

_ADVICE = {
    "invalid_request": "Correct the request and send it again. Retrying it unchanged gives the same error.",
    "invalid_api_key": "Send the request with an active API key.",
    "account_suspended": "Contact support. Retrying gives the same error.",
    "insufficient_tokens": "Get more tokens, lower the output limit, or raise the key's budget.",
    "key_not_allowed": "Change what this API key may do, or use another key.",
    "rate_limit_error": "Wait for the seconds in the retry-after header, then retry. SDKs do this by default.",
    "request_too_large": "Send a smaller request.",
    "api_error": "Retry in a few seconds. SDKs do this by default.",
}
"""What to do about a rejected request, by its error code."""

_PATHS = {endpoint.name: endpoint.path for endpoint in ENDPOINTS}

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
    "http_status",
    "param",
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

        self._requests = RequestHistory(dashboard.history)

    async def requests(self, page: PageRequest) -> Response:
        if request_id := page.query("id"):
            return await self._receipt(page, request_id)
        form_error = None
        try:
            filter_by, period = read_filter(page, now_us=self._dashboard.clock.now_us())
        except FormError as error:
            form_error, filter_by, period = error, RequestFilter(), PeriodFilter()
        query = query_of(page) | period.query
        history = self._dashboard.history
        if filter_by.is_measured:
            results = await self._search(page, filter_by, query)
        else:
            results = await fetch_rows(
                functools.partial(self._requests.newest, page.account_id, filter_by),
                before=page.query("before") or None,
            )
            results["totals"] = (
                await history.request_totals(page.account_id, filter_by) if filter_by.has_billed else None
            )
        keys = await self._dashboard.keys(page)
        return page.render(
            "requests.html",
            **{"page_query": query, "search": None} | results,
            costs=await self._dashboard.costs.request_costs(page.account_id, [row.id for row in results["rows"]]),
            not_stored=await history.count_not_stored(page.account_id, filter_by) if filter_by.has_rejected else 0,
            query=query,
            active=active_filters(query, filter_by, period, {key.id: key.name for key in keys}),
            period=period,
            last_periods=LAST_PERIODS,
            keys=keys,
            models=await self._dashboard.models(page),
            statuses=STATUSES,
            codes=CODES,
            form_error=form_error,
        )

    async def _search(self, page: PageRequest, filter_by: RequestFilter, query: dict[str, str]) -> dict[str, Any]:
        """Return the template variables of a step of a search, which has pages of its own."""
        search_before, before = page.query("search_before"), page.query("before")
        step = await self._dashboard.history.search_requests(
            page.account_id,
            filter_by,
            search_before=search_before or None,
            before=before or None,
            rows_max=ROWS_PER_PAGE + 1,
        )
        results = rows_variables(step.rows, is_first=not before and not search_before)
        search = {"since_us": request_time_us(step.searched_to or ""), "until_us": request_time_us(search_before)}
        return results | {
            "totals": step.totals,
            "page_query": query | ({"search_before": search_before} if search_before else {}),
            "search": search | {"older": with_query(query, search_before=step.searched_to)}
            if any(search.values())
            else None,
        }

    async def request(self, page: PageRequest) -> Response:
        return await self._receipt(page, page.request.path_params["request"])

    async def export(self, page: PageRequest) -> Response:
        try:
            filter_by, _ = read_filter(page, now_us=self._dashboard.clock.now_us())
        except FormError as form_error:
            return page.error(422, form_error.message)
        fetch = functools.partial(self._requests.newest, page.account_id, filter_by)
        if await self._dashboard.class_titles(page):
            return csv.export("requests", (*_COLUMNS, "token_class"), fetch, _values_with_class)
        return csv.export("requests", _COLUMNS, fetch, _values)

    async def _receipt(self, page: PageRequest, request_id: str) -> Response:
        try:
            record = await self._requests.find(page.account_id, request_id)
        except NotFound:
            text = "Check the ID. It's in the x-request-id header of each response."
            return page.message("Request not found", text, status=404)
        endpoint_path = _PATHS.get(record.endpoint, record.endpoint)
        if isinstance(record, RejectedRequest):
            advice = _ADVICE.get(record.code, _ADVICE["api_error"])
            return page.render("rejected_request.html", record=record, advice=advice, endpoint_path=endpoint_path)
        reversal = await self._dashboard.history.reversal(page.account_id, record.id) if record.is_billed else None
        return page.render(
            "request.html",
            record=record,
            endpoint_path=endpoint_path,
            reversal=reversal,
            classes=await self._dashboard.class_titles(page),
            cost=(await self._dashboard.costs.request_costs(page.account_id, [record.id])).get(record.id),
            why=_WHY_NOT_BILLED.get(record.code or "", ""),
        )


def _values(row: HistoryEntry) -> tuple[object, ...]:
    if isinstance(row, RejectedRequest):
        return _rejected_values(row)
    return (
        row.id,
        utc_time(row.created_at_us),
        utc_time(row.resolved_at_us),
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
        row.stream_end,
        "",
        "",
    )


def _rejected_values(row: RejectedRequest) -> tuple[object, ...]:
    values: dict[str, object] = {
        "id": row.id,
        "created_at": utc_time(row.created_at_us),
        "api_key_id": row.api_key_id,
        "api_key_name": row.key_name,
        "model": row.model,
        "status": REJECTED,
        "billed": "no",
        "code": row.code,
        "reserved": 0,
        "charged": 0,
        "released": 0,
        "endpoint": row.endpoint,
        "http_status": row.http_status,
        "param": row.param,
    }
    return tuple(values.get(column, "") for column in _COLUMNS)


def _values_with_class(row: HistoryEntry) -> tuple[object, ...]:
    return (*_values(row), "" if isinstance(row, RejectedRequest) else row.token_class)
