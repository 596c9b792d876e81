"""Render charts as SVG on the server. Every bar is a link, and a table below lists every value."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, tzinfo

import msgspec
from markupsafe import Markup, escape

from tok0n.domain.history import BucketOfUse
from tok0n.domain.ledger import US_A_QUARTER
from tok0n.web.rendering.filters import short

WIDTH, HEIGHT = 960, 240
LEFT, BOTTOM, TOP = 52, 26, 8
GRID_LINES = 4
LABELS_MAX = 9
HOURLY_MAX = 72
"""The most hours of an hourly chart. A chart of a longer period is daily."""

QUARTERS_AN_HOUR = 4
SHORTEST_DAY_HOURS = 20
"""No local day is shorter, whatever its time changes are."""

SERIES_MAX = 5
"""The most series with a color of their own. The others are added up as `OTHERS`."""

OTHERS = "Other"
US_A_SECOND = 1_000_000


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of each series in an hour or a day, from `since` (inclusive) to `until` (exclusive)."""

    since: datetime
    until: datetime
    values: list[int]

    @property
    def total(self) -> int:
        """The tokens of all series."""
        return sum(self.values)


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """An SVG, the names of its series in the order of their colors, and its values."""

    svg: Markup
    unit: str
    series: list[str]
    buckets: list[Bucket]

    @property
    def total(self) -> int:
        """The tokens of all buckets."""
        return sum(bucket.total for bucket in self.buckets)

    @property
    def totals(self) -> list[int]:
        """The tokens of each series."""
        return [sum(bucket.values[index] for bucket in self.buckets) for index in range(len(self.series))]

    @property
    def nonempty(self) -> list[Bucket]:
        """The buckets that are not empty, newest first."""
        return [bucket for bucket in reversed(self.buckets) if bucket.total]


def is_daily(since_quarter: int, until_quarter: int) -> bool:
    """Whether the chart of a period has a bar for each day. Otherwise it has one for each hour."""
    return until_quarter - since_quarter > QUARTERS_AN_HOUR * HOURLY_MAX


def starts(since_quarter: int, until_quarter: int, *, zone: tzinfo) -> list[int]:
    """Return the quarter hour in which each bar starts: the first one of each local day, or of each local hour."""
    daily = is_daily(since_quarter, until_quarter)
    shortest = SHORTEST_DAY_HOURS * QUARTERS_AN_HOUR if daily else 1
    found = [since_quarter]
    current = _bar_of(since_quarter, zone=zone, daily=daily)
    quarter = since_quarter + 1
    while quarter < until_quarter:
        following = _bar_of(quarter, zone=zone, daily=daily)
        if following != current:
            found.append(quarter)
            current = following
            quarter += shortest
        else:
            quarter += 1
    return found


def _bar_of(quarter: int, *, zone: tzinfo, daily: bool) -> object:
    """Identify the local day or hour of a quarter hour. An hour that a time change repeats counts twice."""
    at = _time(quarter).astimezone(zone)
    return at.date() if daily else (at.date(), at.hour, at.utcoffset())


def plot(
    use: Sequence[BucketOfUse],
    names: Mapping[str, str],
    *,
    since_quarter: int,
    until_quarter: int,
    zone: tzinfo,
    link: str,
) -> Chart:
    """Return a chart of the tokens charged from `since_quarter` (inclusive) to `until_quarter` (exclusive), by series.

    `use` has the buckets of `starts`. `names` maps series to their labels. `link` is the URL of a bar, to which more
    query parameters can be appended.
    """
    by_size = Counter[str]()
    for part in use:
        by_size[part.series] += part.charged
    largest = [series for series, _ in by_size.most_common(SERIES_MAX)]
    index_of = {series: index for index, series in enumerate(largest)}
    labels = [names.get(series, series) for series in largest] + ([OTHERS] if len(by_size) > SERIES_MAX else [])
    by_start = _buckets(
        [*starts(since_quarter, until_quarter, zone=zone), until_quarter], zone=zone, series=len(labels)
    )
    for part in use:
        by_start[part.quarter].values[index_of.get(part.series, SERIES_MAX)] += part.charged
    buckets = list(by_start.values())
    unit = "day" if is_daily(since_quarter, until_quarter) else "hour"
    return Chart(svg=_draw(buckets, labels, unit=unit, link=link), unit=unit, series=labels, buckets=buckets)


def grid_step(highest: int) -> int:
    """Return the distance of the grid lines: 1, 2 or 5 times a power of ten. The top line is at or above `highest`."""
    rough = max(1, math.ceil(highest / GRID_LINES))
    power = int(10 ** (len(str(rough)) - 1))
    return next(unit * power for unit in (1, 2, 5, 10) if unit * power >= rough)


def _buckets(edges: list[int], *, zone: tzinfo, series: int) -> dict[int, Bucket]:
    """Return a bucket between each two edges, by its first quarter hour."""
    moments = [_time(quarter).astimezone(zone) for quarter in edges]
    return {
        quarter: Bucket(since=since, until=until, values=[0] * series)
        for quarter, since, until in zip(edges, moments, moments[1:], strict=False)
    }


def _time(quarter: int) -> datetime:
    return datetime.fromtimestamp(quarter * US_A_QUARTER / US_A_SECOND, UTC)


def _draw(buckets: list[Bucket], series: list[str], *, unit: str, link: str) -> Markup:
    step = grid_step(max((bucket.total for bucket in buckets), default=0))
    scale = (HEIGHT - BOTTOM - TOP) / (step * GRID_LINES)
    slot = (WIDTH - LEFT) / len(buckets)
    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="group" aria-label="Tokens billed per {unit}">']
    for line in range(GRID_LINES + 1):
        y = HEIGHT - BOTTOM - line * step * scale
        parts.append(f'<path class="axis" d="M{LEFT} {y:.1f}H{WIDTH}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(short(line * step))}</text>')
    every = math.ceil(len(buckets) / LABELS_MAX)
    for index in range(0, len(buckets), every):
        label = escape(_label(buckets[index], unit))
        parts.append(f'<text x="{LEFT + index * slot:.1f}" y="{HEIGHT - 8}">{label}</text>')
    for index, bucket in enumerate(buckets):
        if bucket.total:
            parts += _bar(bucket, series, unit=unit, link=link, x=LEFT + index * slot, slot=slot, scale=scale)
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704  the parts are escaped: Markup.format takes 10 times as long


def _bar(
    bucket: Bucket, series: list[str], *, unit: str, link: str, x: float, slot: float, scale: float
) -> Iterator[str]:
    values = [f"{name} {value:,}" for name, value in zip(series, bucket.values, strict=True) if value]
    label = escape(f"{title(bucket, unit)}: {bucket.total:,} tokens ({', '.join(values)})")
    url = escape(f"{link}since={field(bucket.since)}&until={field(bucket.until)}")
    yield f'<a href="{url}" aria-label="{label}"><title>{label}</title>'
    place = f'x="{x + slot * 0.1:.1f}" width="{slot * 0.8:.1f}"'
    y = float(HEIGHT - BOTTOM)
    for index, value in enumerate(bucket.values):
        height = value * scale
        y -= height
        if value:
            yield f'<rect class="series-{index}" {place} y="{y:.1f}" height="{height:.1f}"/>'
    yield "</a>"


def title(bucket: Bucket, unit: str) -> str:
    """Return the full name of a bucket."""
    return f"{bucket.since:%a %d %b %Y}" if unit == "day" else f"{bucket.since:%a %d %b %Y %H:%M}"


def field(moment: datetime) -> str:
    """Format a time as the value of a `datetime-local` input."""
    return f"{moment:%Y-%m-%dT%H:%M}"


def _label(bucket: Bucket, unit: str) -> str:
    return f"{bucket.since:%d %b}" if unit == "day" else f"{bucket.since:%a %H:%M}"
