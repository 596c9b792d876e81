"""The usage page: use, errors or latency by model or key, as a chart and as a table, and its CSV export."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.history import UseBy, UseFilter, UseRow, UseTotals
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR
from tok0n.domain.periods import bound_period
from tok0n.domain.trends import percent_change
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.dashboard_context import DashboardContext, key_names
from tok0n.web.dashboard.outcomes import EXPORTED, Figure, OutcomeQuery, error_view, exported_rows, latency_view
from tok0n.web.dashboard.periods import LAST_PERIODS, PeriodFilter, bar_period, read_period
from tok0n.web.dashboard.submissions import form_error_of
from tok0n.web.rendering import csv
from tok0n.web.rendering.charts import BarPeriod, Metric, plot, use_values
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest
from tok0n.web.rendering.page_routes import page_route

DEFAULT_LAST = "7d"
_COLUMNS = (
    "from",
    "model",
    "api_key_id",
    "key_name",
    "requests",
    "prompt_tokens",
    "completion_tokens",
    "tokens_billed",
)


class _Query(NamedTuple):
    """What the page shows. `form_error` says why it isn't what the query asks for."""

    period: PeriodFilter
    bars: BarPeriod
    use: UseFilter
    by: UseBy
    metric: Metric
    form_error: FormError | None


class _Cost(NamedTuple):
    """What the requests of the period and of the period before cost, in micro-dollars, and the change in percent."""

    usd_micros: int
    usd_micros_per_million: int | None
    before: int
    change: int | None


def usage_routes(context: PageContext, dashboard: DashboardContext) -> list[Route]:
    """Return the routes of the usage page and of its export."""

    async def usage(page: PageRequest) -> Response:
        query = _read(page, dashboard)
        filters = {name: page.query(name) for name in ("model", "key") if page.query(name)}
        keys = await dashboard.keys(page)
        outcomes = _outcomes(page, query, filters)
        match query.metric:
            case Metric.ERRORS:
                view = await error_view(dashboard, outcomes, key_names(keys))
            case Metric.LATENCY:
                view = await latency_view(dashboard, outcomes, key_names(keys))
            case _:
                view = await _use_view(page, dashboard, query, outcomes, key_names(keys))
        cost = None if filters or query.metric in EXPORTED else await _cost(page, dashboard, query)
        defaults = {"by": (query.by, UseBy.MODEL), "show": (query.metric, Metric.TOKENS)}
        view_query = {name: str(value) for name, (value, default) in defaults.items() if value != default}
        return page.render(
            "usage.html",
            by=query.by,
            metric=query.metric,
            metrics=list(Metric),
            is_outcome=query.metric in EXPORTED,
            cost=cost,
            query=filters | query.period.query | view_query,
            period=query.period,
            last_periods=LAST_PERIODS,
            keys=keys,
            models=await dashboard.models(page),
            form_error=query.form_error,
            **view,
        )

    async def export(page: PageRequest) -> Response:
        query = _read(page, dashboard)
        if query.form_error is not None:
            return page.error(422, query.form_error.message)
        names = {key.id: key.name for key in await dashboard.keys(page)}
        if query.metric in EXPORTED:
            return await _export_outcomes(page, dashboard, query, names)
        times = {start: query.bars.time(start).isoformat() for start in query.bars.starts}
        rows = await dashboard.history.use_rows(page.account_id, query.use, starts=[*times])
        values = (_values(row, times[row.quarter], names.get(row.api_key_id, "")) for row in rows)
        return csv.file("usage", _COLUMNS, values)

    return [page_route(context, "/dashboard/usage", usage), page_route(context, "/dashboard/usage.csv", export)]


def _read(page: PageRequest, dashboard: DashboardContext) -> _Query:
    now_us = dashboard.clock.now_us()
    form_error: FormError | None = None
    period = bound_period(PeriodFilter(), now_us=now_us)
    try:
        period = bound_period(read_period(page, now_us=now_us, default=DEFAULT_LAST), now_us=now_us)
    except InvalidRequest as error:
        form_error = form_error_of(error)
    bars = bar_period(page, period, now_us=now_us)
    use = UseFilter(
        since_quarter=bars.since_quarter,
        until_quarter=bars.until_quarter,
        model=page.query("model") or None,
        api_key_id=page.query("key") or None,
    )
    by = UseBy.KEY if page.query("by") == UseBy.KEY else UseBy.MODEL
    metric = Metric(page.query("show")) if page.query("show") in set(Metric) else Metric.TOKENS
    return _Query(period, bars, use, by, metric, form_error)


def _outcomes(page: PageRequest, query: _Query, filters: dict[str, str]) -> OutcomeQuery:
    return OutcomeQuery(
        account_id=page.account_id,
        use=query.use,
        before_quarter=2 * query.bars.since_quarter - query.bars.until_quarter,
        by=query.by,
        bars=query.bars,
        link=page.context.link("/dashboard/requests", filters),
    )


async def _export_outcomes(
    page: PageRequest, dashboard: DashboardContext, query: _Query, names: Mapping[str, str]
) -> Response:
    rows = await exported_rows(dashboard, _outcomes(page, query, {}), metric=query.metric)
    is_by_key = query.by is UseBy.KEY
    columns = ("from", *(("api_key_id", "key_name") if is_by_key else ("model",)), *EXPORTED[query.metric])
    return csv.file(
        f"usage-{query.metric}",
        columns,
        (
            (query.bars.time(start).isoformat(), series, *((names.get(series, ""),) if is_by_key else ()), *values)
            for start, series, values in rows
        ),
    )


async def _use_view(
    page: PageRequest, dashboard: DashboardContext, query: _Query, outcomes: OutcomeQuery, names: Mapping[str, str]
) -> dict[str, Any]:
    """Return the template variables of what was billed."""
    use = await dashboard.history.buckets(page.account_id, query.use, by=query.by, starts=query.bars.starts)
    before, totals = await dashboard.history.bucket_totals(page.account_id, query.use, starts=outcomes.period_starts)
    values = use_values(use, query.metric)
    chart = await asyncio.to_thread(plot, values, names, period=query.bars, metric=query.metric, link=outcomes.link)
    return {"chart": chart, "figures": _figures(totals, before)}


async def _cost(page: PageRequest, dashboard: DashboardContext, query: _Query) -> _Cost | None:
    """Return the cost of the period. None without a price, without a cost, or if it can't be found quickly."""
    since, until = query.bars.since_quarter, query.bars.until_quarter
    start_us, since_us, until_us = (
        quarter * MICROSECONDS_PER_QUARTER_HOUR for quarter in (2 * since - until, since, until)
    )
    periods = await dashboard.costs.spent_in_periods(page.account_id, edges_us=[start_us, since_us, until_us])
    if periods is None:
        return None
    earlier, spent = periods
    before = earlier.usd_micros
    if not (spent.usd_micros or before):
        return None
    return _Cost(
        usd_micros=spent.usd_micros,
        usd_micros_per_million=spent.usd_micros_per_million,
        before=before,
        change=percent_change(spent.usd_micros, before),
    )


def _figures(totals: UseTotals, before: UseTotals) -> list[Figure]:
    return [
        Figure(label="Billed", value=totals.charged, caption="tokens", before=before.charged),
        Figure(label="Prompt", value=totals.prompt_tokens, caption="tokens", before=before.prompt_tokens),
        Figure(label="Completion", value=totals.completion_tokens, caption="tokens", before=before.completion_tokens),
        Figure(label="Requests", value=totals.requests, caption="billed", before=before.requests),
    ]


def _values(row: UseRow, time: str, key_name: str) -> Iterable[object]:
    totals = row.totals
    return (
        time,
        row.model,
        row.api_key_id,
        key_name,
        totals.requests,
        totals.prompt_tokens,
        totals.completion_tokens,
        totals.charged,
    )
