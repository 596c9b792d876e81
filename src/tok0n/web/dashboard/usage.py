"""The usage page: usage by model or key, as a chart and as a table, and its CSV export. Reads only roll-ups."""

import asyncio
from collections.abc import Iterable
from typing import NamedTuple

from starlette.responses import Response
from starlette.routing import Route

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.history import UseBy, UseFilter, UseRow, UseTotals
from tok0n.domain.ledger import US_A_QUARTER
from tok0n.domain.periods import bounded
from tok0n.domain.trends import percent_change
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.dashboard_context import DashboardContext, key_names
from tok0n.web.dashboard.periods import LASTS, PeriodFilter, bars_of, read_period
from tok0n.web.dashboard.submissions import form_error_of
from tok0n.web.rendering import csv
from tok0n.web.rendering.charts import BarPeriod, Metric, plot
from tok0n.web.rendering.endpoints import page_route
from tok0n.web.rendering.page_context import PageContext
from tok0n.web.rendering.page_request import PageRequest

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
        by = UseBy.KEY if page.query("by") == UseBy.KEY else UseBy.MODEL
        metric = Metric.REQUESTS if page.query("show") == Metric.REQUESTS else Metric.TOKENS
        keys = await dashboard.keys(page)
        filters = {name: page.query(name) for name in ("model", "key") if page.query(name)}
        totals = await dashboard.history.totals(page.account_id, query.use)
        before = await dashboard.history.totals(page.account_id, _before(query))
        view = ({"by": by} if by is UseBy.KEY else {}) | ({"show": metric} if metric is Metric.REQUESTS else {})
        return page.render(
            "usage.html",
            by=by,
            metric=metric,
            chart=await asyncio.to_thread(
                plot,
                await dashboard.history.buckets(page.account_id, query.use, by=by, starts=query.bars.starts),
                key_names(keys),
                period=query.bars,
                metric=metric,
                link=page.context.link("/dashboard/requests", filters),
            ),
            stats=_stats(totals, before),
            cost=None if filters else await _cost(page, dashboard, query),
            query=filters | query.period.query | view,
            period=query.period,
            lasts=LASTS,
            keys=keys,
            models=await dashboard.models(page),
            form_error=query.form_error,
        )

    async def export(page: PageRequest) -> Response:
        query = _read(page, dashboard)
        if query.form_error is not None:
            return page.error(422, query.form_error.message)
        rows = await dashboard.history.use_rows(page.account_id, query.use, starts=query.bars.starts)
        names = {key.id: key.name for key in await dashboard.keys(page)}
        return csv.file("usage", _COLUMNS, (_values(row, query.bars, names.get(row.api_key_id, "")) for row in rows))

    return [page_route(context, "/dashboard/usage", usage), page_route(context, "/dashboard/usage.csv", export)]


def _read(page: PageRequest, dashboard: DashboardContext) -> _Query:
    now_us = dashboard.clock.now_us()
    form_error: FormError | None = None
    period = bounded(PeriodFilter(), now_us=now_us)
    try:
        period = bounded(read_period(page, now_us=now_us, default=DEFAULT_LAST), now_us=now_us)
    except InvalidRequest as error:
        form_error = form_error_of(error)
    bars = bars_of(page, period, now_us=now_us)
    use = UseFilter(
        since_quarter=bars.since_quarter,
        until_quarter=bars.until_quarter,
        model=page.query("model") or None,
        api_key_id=page.query("key") or None,
    )
    return _Query(period, bars, use, form_error)


def _before(query: _Query) -> UseFilter:
    """Return the filter of the period of the same length before."""
    length = query.bars.until_quarter - query.bars.since_quarter
    return UseFilter(
        since_quarter=query.bars.since_quarter - length,
        until_quarter=query.bars.since_quarter,
        model=query.use.model,
        api_key_id=query.use.api_key_id,
    )


async def _cost(page: PageRequest, dashboard: DashboardContext, query: _Query) -> _Cost | None:
    """Return the cost of the period. None without a price, without a cost, or if it can't be found quickly."""
    since, until = query.bars.since_quarter, query.bars.until_quarter
    start_us, since_us, until_us = (quarter * US_A_QUARTER for quarter in (2 * since - until, since, until))
    spent = await dashboard.costs.of_period(page.account_id, since_us=since_us, until_us=until_us)
    earlier = await dashboard.costs.of_period(page.account_id, since_us=start_us, until_us=since_us)
    before = 0 if earlier is None else earlier.usd_micros
    if spent is None or not (spent.usd_micros or before):
        return None
    return _Cost(
        usd_micros=spent.usd_micros,
        usd_micros_per_million=spent.usd_micros_per_million,
        before=before,
        change=percent_change(spent.usd_micros, before),
    )


def _stats(totals: UseTotals, before: UseTotals) -> list[tuple[str, int, str, int, int | None]]:
    """Return label, value, unit, the value of the period before, and the change in percent."""
    rows = (
        ("Billed", "tokens", totals.charged, before.charged),
        ("Prompt", "tokens", totals.prompt_tokens, before.prompt_tokens),
        ("Completion", "tokens", totals.completion_tokens, before.completion_tokens),
        ("Requests", "billed", totals.requests, before.requests),
    )
    return [(label, value, unit, earlier, percent_change(value, earlier)) for label, unit, value, earlier in rows]


def _values(row: UseRow, bars: BarPeriod, key_name: str) -> Iterable[object]:
    totals = row.totals
    return (
        bars.time(row.quarter).isoformat(),
        row.model,
        row.api_key_id,
        key_name,
        totals.requests,
        totals.prompt_tokens,
        totals.completion_tokens,
        totals.charged,
    )
