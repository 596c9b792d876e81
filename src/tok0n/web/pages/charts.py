"""Charts as SVG, drawn by the server: no script. Every bar is a link, and every value stands in a table beneath."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import msgspec
from markupsafe import Markup

from tok0n.domain.history import HourOfUse
from tok0n.domain.ledger import US_AN_HOUR
from tok0n.web.pages.filters import short

WIDTH, HEIGHT = 960, 240
LEFT, BOTTOM, TOP = 52, 26, 8
GRID_LINES = 4
LABELS_MAX = 9
HOURS_APART_MAX = 72
"""Up to so many hours are plotted each for itself; more are plotted by the day."""

SERIES_MAX = 5
"""How many series have a colour of their own; the rest is one more."""

OTHERS = "Other"
US_A_SECOND = 1_000_000


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """An hour or a day: from `since` on and before `until`, and the tokens of each series."""

    since: datetime
    until: datetime
    values: list[int]

    @property
    def total(self) -> int:
        """All series together."""
        return sum(self.values)


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A drawing, the names of its series in the order of their colours, and the figures it was drawn from."""

    svg: Markup
    unit: str
    series: list[str]
    buckets: list[Bucket]

    @property
    def total(self) -> int:
        """All that is drawn, in tokens."""
        return sum(bucket.total for bucket in self.buckets)

    @property
    def totals(self) -> list[int]:
        """The tokens of each series."""
        return [sum(bucket.values[place] for bucket in self.buckets) for place in range(len(self.series))]

    @property
    def used(self) -> list[Bucket]:
        """The buckets that are not empty, newest first."""
        return [bucket for bucket in reversed(self.buckets) if bucket.total]


def plot(
    hours: Sequence[HourOfUse], names: Mapping[str, str], *, since_hour: int, until_hour: int, zone: tzinfo, link: str
) -> Chart:
    """The tokens charged from `since_hour` on and before `until_hour`, stacked by series.

    `names` says what a series is called. `link` is the address, with its query begun, that a bar leads to.
    """
    by_size = Counter[str]()
    for hour in hours:
        by_size[hour.series] += hour.charged
    shown = [series for series, _ in by_size.most_common(SERIES_MAX)]
    places = {series: place for place, series in enumerate(shown)}
    called = [names.get(series, series) for series in shown] + ([OTHERS] if len(by_size) > SERIES_MAX else [])
    daily = until_hour - since_hour > HOURS_APART_MAX
    buckets = _buckets(since_hour, until_hour, zone=zone, daily=daily, series=len(called))
    for hour in hours:
        start = _start_of(hour.hour, zone, daily=daily)
        buckets[start].values[places.get(hour.series, SERIES_MAX)] += hour.charged
    chosen = list(buckets.values())
    unit = "day" if daily else "hour"
    return Chart(svg=_draw(chosen, called, unit=unit, link=link), unit=unit, series=called, buckets=chosen)


def grid_step(highest: int) -> int:
    """The distance of the grid lines: 1, 2 or 5 times a power of ten, so that they reach `highest`."""
    rough = max(1, math.ceil(highest / GRID_LINES))
    power = int(10 ** (len(str(rough)) - 1))
    return next(unit * power for unit in (1, 2, 5, 10) if unit * power >= rough)


def _buckets(since_hour: int, until_hour: int, *, zone: tzinfo, daily: bool, series: int) -> dict[datetime, Bucket]:
    """Every hour or day, also those without use, by its beginning in UTC."""
    buckets: dict[datetime, Bucket] = {}
    end = _time(until_hour)
    for hour in range(since_hour, until_hour):
        start = _start_of(hour, zone, daily=daily)
        if start not in buckets:
            local = start.astimezone(zone)
            following = local + timedelta(days=1) if daily else (start + timedelta(hours=1)).astimezone(zone)
            until = min(following.astimezone(UTC), end).astimezone(zone) if daily else following
            since = max(start, _time(since_hour)).astimezone(zone)
            buckets[start] = Bucket(since=since, until=until, values=[0] * series)
    return buckets


def _start_of(hour: int, zone: tzinfo, *, daily: bool) -> datetime:
    start = _time(hour)
    if not daily:
        return start
    return start.astimezone(zone).replace(hour=0, minute=0, second=0).astimezone(UTC)


def _time(hour: int) -> datetime:
    return datetime.fromtimestamp(hour * US_AN_HOUR / US_A_SECOND, UTC)


def _draw(buckets: list[Bucket], series: list[str], *, unit: str, link: str) -> Markup:
    step = grid_step(max((bucket.total for bucket in buckets), default=0))
    scale = (HEIGHT - BOTTOM - TOP) / (step * GRID_LINES)
    slot = (WIDTH - LEFT) / len(buckets)
    parts = [
        Markup('<svg viewBox="0 0 {} {}" role="group" aria-label="Tokens billed per {}">').format(WIDTH, HEIGHT, unit)
    ]
    for line in range(GRID_LINES + 1):
        y = HEIGHT - BOTTOM - line * step * scale
        axis = Markup('<path class="axis" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" text-anchor="end">{}</text>')
        parts.append(axis.format(LEFT, y, WIDTH, LEFT - 8, y + 4, short(line * step)))
    every = math.ceil(len(buckets) / LABELS_MAX)
    for place in range(0, len(buckets), every):
        text = Markup('<text x="{:.1f}" y="{}">{}</text>')
        parts.append(text.format(LEFT + place * slot, HEIGHT - 8, _label(buckets[place], unit)))
    parts += [
        _bar(bucket, series, unit=unit, link=link, x=LEFT + place * slot, slot=slot, scale=scale)
        for place, bucket in enumerate(buckets)
        if bucket.total
    ]
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _bar(bucket: Bucket, series: list[str], *, unit: str, link: str, x: float, slot: float, scale: float) -> Markup:
    named = [f"{name} {value:,}" for name, value in zip(series, bucket.values, strict=True) if value]
    told = f"{title(bucket, unit)}: {bucket.total:,} tokens ({', '.join(named)})"
    address = f"{link}since={field(bucket.since)}&until={field(bucket.until)}"
    parts = [Markup('<a href="{}" aria-label="{}"><title>{}</title>').format(address, told, told)]
    y = float(HEIGHT - BOTTOM)
    for place, value in enumerate(bucket.values):
        height = value * scale
        y -= height
        rectangle = Markup('<rect class="series-{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>')
        parts.append(rectangle.format(place, x + slot * 0.1, y, slot * 0.8, height))
    parts.append(Markup("</a>"))
    return Markup("").join(parts)


def title(bucket: Bucket, unit: str) -> str:
    """What a bucket is called where there is room."""
    return f"{bucket.since:%a %d %b %Y}" if unit == "day" else f"{bucket.since:%a %d %b %Y %H:%M}"


def field(moment: datetime) -> str:
    """A time as a form's field has it."""
    return f"{moment:%Y-%m-%dT%H:%M}"


def _label(bucket: Bucket, unit: str) -> str:
    return f"{bucket.since:%d %b}" if unit == "day" else f"{bucket.since:%a %H:%M}"
