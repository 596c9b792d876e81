"""The bars of charts: which hours or days they stand for, and their values. A table below lists every value."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time, timedelta, tzinfo
from enum import StrEnum

import msgspec
from markupsafe import Markup

from tok0n.domain import latency
from tok0n.domain.history import BucketOfUse
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR, MICROSECONDS_PER_SECOND
from tok0n.domain.outcomes import Latencies, Percentiles, percentiles
from tok0n.web.rendering.chart_svg import Bar, draw_bars

HOURLY_MAX = 72
"""The most hours of an hourly chart. A chart of a longer period is daily."""

QUARTERS_PER_HOUR = 4
SERIES_MAX = 5
"""The most series with a color of their own. The others are added up as `OTHERS`."""

OTHERS = "Other"


class Metric(StrEnum):
    """What a chart shows."""

    TOKENS = "tokens"
    REQUESTS = "requests"
    ERRORS = "errors"
    LATENCY = "latency"

    @property
    def title(self) -> str:  # type: ignore[override]
        """The name on pages."""
        return self.value.capitalize()

    @property
    def billed(self) -> str:
        """The name of what is billed; the title of the others."""
        return f"{self.title} billed" if self in {Metric.TOKENS, Metric.REQUESTS} else self.title


class BarPeriod(msgspec.Struct, frozen=True, kw_only=True):
    """The period of a chart, from `since_quarter` (inclusive) to `until_quarter` (exclusive), in a time zone."""

    since_quarter: int
    until_quarter: int
    zone: tzinfo
    now_us: int

    @property
    def is_daily(self) -> bool:
        """Whether each bar is a local day, instead of a local hour."""
        return self.until_quarter - self.since_quarter > QUARTERS_PER_HOUR * HOURLY_MAX

    @property
    def unit(self) -> str:
        """What a bar stands for."""
        return "day" if self.is_daily else "hour"

    @property
    def starts(self) -> list[int]:
        """The quarter hour in which each bar starts."""
        find_starts = _days if self.is_daily else _hours
        return find_starts(self.since_quarter, self.until_quarter, zone=self.zone)

    def time(self, quarter: int) -> datetime:
        """Return the local time of a quarter hour."""
        return _time(quarter).astimezone(self.zone)


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """The values of each series in an hour or a day, from `since` (inclusive) to `until` (exclusive).

    `note` says which part of the hour or day it covers, if not all. `url` lists its requests.
    """

    since: datetime
    until: datetime
    values: list[int]
    unit: str
    note: str
    url: str

    @property
    def total(self) -> int:
        """The sum of all series."""
        return sum(self.values)

    @property
    def title(self) -> str:
        """The name on pages."""
        at = f"{self.since:%a %d %b %Y}" if self.unit == "day" else f"{self.since:%a %d %b %Y %H:%M}"
        return f"{at}, {self.note}" if self.note else at


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A drawing, the names of its series in the order of their colors, and its values."""

    drawing: Markup
    unit: str
    metric: Metric
    series: list[str]
    buckets: list[Bucket]

    @property
    def total(self) -> int:
        """The sum of all buckets."""
        return sum(bucket.total for bucket in self.buckets)

    @property
    def totals(self) -> list[int]:
        """The sum of each series."""
        return [sum(bucket.values[index] for bucket in self.buckets) for index in range(len(self.series))]

    @property
    def nonempty(self) -> list[Bucket]:
        """The buckets that are not empty, newest first."""
        return [bucket for bucket in reversed(self.buckets) if bucket.total]

    @property
    def has_partial(self) -> bool:
        """Whether a bar with a value covers only a part of its hour or day."""
        return any(bucket.note and bucket.total for bucket in self.buckets)


def _days(since_quarter: int, until_quarter: int, *, zone: tzinfo) -> list[int]:
    """Return the first quarter hour of each local day in a period, and that of the period."""
    starts = [since_quarter]
    day = _time(since_quarter).astimezone(zone).date()
    while True:
        day += timedelta(days=1)
        # If a time change skips midnight, this is the time of the change. It may skip a whole day.
        midnight = datetime.combine(day, time(), zone)
        quarter = math.ceil(midnight.timestamp() * MICROSECONDS_PER_SECOND / MICROSECONDS_PER_QUARTER_HOUR)
        if quarter >= until_quarter:
            return starts
        if quarter > starts[-1]:
            starts.append(quarter)


def _hours(since_quarter: int, until_quarter: int, *, zone: tzinfo) -> list[int]:
    """Return the first quarter hour of each local hour in a period. An hour that a time change repeats counts twice."""
    hours: dict[object, int] = {}
    for quarter in range(since_quarter, until_quarter):
        at = _time(quarter).astimezone(zone)
        hours.setdefault((at.date(), at.hour, at.utcoffset()), quarter)
    return list(hours.values())


class LatencyRow(msgspec.Struct, frozen=True, kw_only=True):
    """The percentiles of each series in a bucket, and those of all series together. None without requests."""

    bucket: Bucket
    values: list[Percentiles | None]
    total: Percentiles


class LatencyChart(msgspec.Struct, frozen=True, kw_only=True):
    """A drawing of the percentiles of each hour or day, the names of the series, and the values, newest first.

    `totals` are those of each series in the whole period.
    """

    drawing: Markup
    unit: str
    series: list[str]
    rows: list[LatencyRow]
    totals: list[Percentiles | None]
    total: Percentiles | None
    metric: Metric = Metric.LATENCY

    @property
    def has_partial(self) -> bool:
        """Whether a bar covers only a part of its hour or day."""
        return any(row.bucket.note for row in self.rows)


def use_values(use: Iterable[BucketOfUse], metric: Metric = Metric.TOKENS) -> Iterator[tuple[int, str, int]]:
    """Yield the start, the series, and the tokens or requests of each bucket."""
    for part in use:
        yield part.quarter, part.series, part.requests if metric is Metric.REQUESTS else part.charged


def plot(
    values: Iterable[tuple[int, str, int]],
    names: Mapping[str, str],
    *,
    period: BarPeriod,
    link: str,
    metric: Metric = Metric.TOKENS,
) -> Chart:
    """Return a chart of values in a period, by series.

    `values` are the start of a bucket, which is one of `period.starts`, a series and its value. `names` maps series to
    their labels. `link` is the URL of a bar, to which more query parameters can be appended.
    """
    values = list(values)
    by_size = Counter[str]()
    for _, series, value in values:
        by_size[series] += value
    index_of, labels = _labels(by_size, names)
    by_start = _buckets(period, series=len(labels), link=link)
    for start, series, value in values:
        by_start[start].values[index_of.get(series, SERIES_MAX)] += value
    buckets = list(by_start.values())
    total = sum(bucket.total for bucket in buckets)
    label = f"{metric.billed} per {period.unit}, {total:,} in total. Use the arrow keys to read each bar."
    bars = [_bar(bucket, bucket.values, period) for bucket in buckets]
    drawing = draw_bars(bars, labels, unit=metric, label=label)
    return Chart(drawing=drawing, unit=period.unit, metric=metric, series=labels, buckets=buckets)


def plot_latencies(
    latencies: Sequence[Latencies], names: Mapping[str, str], *, period: BarPeriod, link: str
) -> LatencyChart:
    """Return a chart of the median and the 95th percentile of each hour or day of a period. See `plot`."""
    by_size = Counter[str]()
    for part in latencies:
        by_size[part.series] += sum(latency.counts(part.packed))
    index_of, labels = _labels(by_size, names)
    packed: defaultdict[int, list[int]] = defaultdict(lambda: [0] * len(labels))
    for part in latencies:
        packed[part.quarter][index_of.get(part.series, SERIES_MAX)] += part.packed
    rows = []
    bars = []
    for start, bucket in _buckets(period, series=0, link=link).items():
        of_series = packed.get(start, [])
        total = percentiles(sum(of_series))
        bars.append(_bar(bucket, [] if total is None else [total.p50_ms, total.p95_ms], period))
        if total is not None:
            rows.append(LatencyRow(bucket=bucket, values=[percentiles(part) for part in of_series], total=total))
    by_series = [sum(of_start[index] for of_start in packed.values()) for index in range(len(labels))]
    label = f"Latency per {period.unit}: the median and the 95th percentile. Use the arrow keys to read each bar."
    return LatencyChart(
        drawing=draw_bars(bars, ["p50", "p95"], unit="ms", label=label, is_stacked=False),
        unit=period.unit,
        series=labels,
        rows=rows[::-1],
        totals=[percentiles(part) for part in by_series],
        total=percentiles(sum(by_series)),
    )


def _labels(by_size: Counter[str], names: Mapping[str, str]) -> tuple[dict[str, int], list[str]]:
    """Return the index of each of the largest series, and the label of each index, with one for all others."""
    largest = [series for series, _ in by_size.most_common(SERIES_MAX)]
    labels = [names.get(series, series) for series in largest] + ([OTHERS] if len(by_size) > SERIES_MAX else [])
    return {series: index for index, series in enumerate(largest)}, labels


def _bar(bucket: Bucket, values: list[int], period: BarPeriod) -> Bar:
    return Bar(
        title=bucket.title,
        label=f"{bucket.since:%d %b}" if period.is_daily else f"{bucket.since:%a %H:%M}",
        url=bucket.url,
        values=values,
        is_partial=bool(bucket.note),
    )


def datetime_field(moment: datetime) -> str:
    """Format a time as the value of a `datetime-local` input."""
    return f"{moment:%Y-%m-%dT%H:%M}"


def _buckets(period: BarPeriod, *, series: int, link: str) -> dict[int, Bucket]:
    """Return a bucket between each two edges, by its first quarter hour."""
    edges = [*period.starts, period.until_quarter]
    moments = [period.time(quarter) for quarter in edges]
    buckets: dict[int, Bucket] = {}
    for quarter, since, until in zip(edges, moments, moments[1:], strict=False):
        whole_start = since.minute == 0 and (since.hour == 0 or not period.is_daily)
        note = "" if whole_start or len(edges) == 2 else f"from {since:%H:%M}"
        if until is moments[-1] and until.timestamp() * MICROSECONDS_PER_SECOND > period.now_us:
            note = "so far"
        url = f"{link}since={datetime_field(since)}&until={datetime_field(until)}"
        buckets[quarter] = Bucket(since=since, until=until, values=[0] * series, unit=period.unit, note=note, url=url)
    return buckets


def _time(quarter: int) -> datetime:
    return datetime.fromtimestamp(quarter * MICROSECONDS_PER_QUARTER_HOUR / MICROSECONDS_PER_SECOND, UTC)
