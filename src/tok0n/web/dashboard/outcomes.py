"""The errors and the latency on the usage page, as a chart, as figures and as a CSV export."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from tok0n.domain.history import UseBy, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR
from tok0n.domain.outcomes import ErrorCount, Percentiles, percentiles
from tok0n.domain.trends import percent_change
from tok0n.web.dashboard.dashboard_context import DashboardContext
from tok0n.web.rendering.charts import BarPeriod, Metric, plot, plot_latencies

UNKNOWN_MODEL = "No known model"
EXPORTED = {Metric.ERRORS: ("errors", "failed", "rejected"), Metric.LATENCY: ("requests", "p50_ms", "p95_ms")}
"""The columns of values in the CSV export of each metric."""


class OutcomeQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows of the requests of an account.

    From `before_quarter` to its start is the period before, which has the same length.
    """

    account_id: str
    use: UseFilter
    before_quarter: int
    by: UseBy
    bars: BarPeriod
    link: str

    @property
    def period_starts(self) -> list[int]:
        """The starts of the period before and of the period."""
        return [self.before_quarter, self.bars.since_quarter]

    @property
    def starts(self) -> list[int]:
        """The starts of the period before and of each bar."""
        return [self.before_quarter, *self.bars.starts]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A figure of a period, the figure of the period before, and the change in percent.

    A latency is in milliseconds.
    """

    label: str
    value: int | None
    before: int | None
    caption: str = ""
    is_latency: bool = False

    @property
    def change(self) -> int | None:
        """The change in percent. None if the earlier figure is 0 or None."""
        return percent_change(self.value or 0, self.before or 0)


async def error_view(dashboard: DashboardContext, query: OutcomeQuery, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the template variables of the errors of a period."""
    both = await dashboard.outcomes.errors(query.account_id, query.use, by=query.by, starts=query.starts)
    earlier = [part for part in both if part.quarter == query.before_quarter]
    counts = both[len(earlier) :]
    chart = await asyncio.to_thread(
        plot,
        ((part.quarter, part.series, part.errors) for part in counts),
        {"": UNKNOWN_MODEL} | dict(names),
        period=query.bars,
        metric=Metric.ERRORS,
        link=query.link,
    )
    before, billed = await dashboard.history.bucket_totals(query.account_id, query.use, starts=query.period_starts)
    figures = [
        Figure(label="Errors", value=_errors(counts), caption="requests", before=_errors(earlier)),
        Figure(
            label="Failed",
            value=sum(part.failed for part in counts),
            caption="not billed",
            before=sum(part.failed for part in earlier),
        ),
        Figure(
            label="Rejected",
            value=sum(part.rejected for part in counts),
            caption="never sent",
            before=sum(part.rejected for part in earlier),
        ),
        Figure(label="Billed", value=billed.requests, caption="requests", before=before.requests),
    ]
    return {"chart": chart, "figures": figures, "counted_until_us": await _counted_until_us(dashboard, query)}


async def latency_view(dashboard: DashboardContext, query: OutcomeQuery, names: Mapping[str, str]) -> dict[str, Any]:
    """Return the template variables of the latency of a period."""
    both = await dashboard.outcomes.latencies(query.account_id, query.use, by=query.by, starts=query.starts)
    earlier = [part for part in both if part.quarter == query.before_quarter]
    parts = both[len(earlier) :]
    chart = await asyncio.to_thread(plot_latencies, parts, names, period=query.bars, link=query.link)
    total, before = chart.total, percentiles(sum(part.packed for part in earlier))
    figures = [
        Figure(label="Median (p50)", value=_p50(total), before=_p50(before), is_latency=True),
        Figure(label="95th percentile (p95)", value=_p95(total), before=_p95(before), is_latency=True),
        Figure(label="Requests", value=_requests(total), caption="measured", before=_requests(before)),
    ]
    return {"chart": chart, "figures": figures, "counted_until_us": await _counted_until_us(dashboard, query)}


async def exported_rows(
    dashboard: DashboardContext, query: OutcomeQuery, *, metric: Metric
) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """Return the start, the series and the values of each row of the CSV export, oldest first."""
    if metric is Metric.ERRORS:
        counts = await dashboard.outcomes.errors(query.account_id, query.use, by=query.by, starts=query.bars.starts)
        return ((part.quarter, part.series, (part.errors, part.failed, part.rejected)) for part in counts)
    parts = await dashboard.outcomes.latencies(query.account_id, query.use, by=query.by, starts=query.bars.starts)
    measured = ((part, percentiles(part.packed)) for part in parts)
    return (
        (part.quarter, part.series, (latency.requests, latency.p50_ms, latency.p95_ms))
        for part, latency in measured
        if latency is not None
    )


async def _counted_until_us(dashboard: DashboardContext, query: OutcomeQuery) -> int | None:
    """Return the time before which all requests count, if it is in the period."""
    until_us = await dashboard.outcomes.counted_until_us(query.account_id)
    return (
        until_us
        if until_us is not None and until_us < query.bars.until_quarter * MICROSECONDS_PER_QUARTER_HOUR
        else None
    )


def _p50(latency: Percentiles | None) -> int | None:
    return None if latency is None else latency.p50_ms


def _p95(latency: Percentiles | None) -> int | None:
    return None if latency is None else latency.p95_ms


def _requests(latency: Percentiles | None) -> int:
    return 0 if latency is None else latency.requests


def _errors(counts: Iterable[ErrorCount]) -> int:
    return sum(part.errors for part in counts)
