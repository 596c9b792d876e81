"""Charts as SVG, drawn by the server: no script, and every value can be reached by keyboard and read beneath."""

import math
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import msgspec
from markupsafe import Markup

from tok0n.domain.history import HourOfUse
from tok0n.web.dashboard.filters import short

WIDTH, HEIGHT = 960, 240
LEFT, BOTTOM, TOP = 52, 24, 8
SERIES_MAX = 5
"""How many models have a colour of their own; the rest is one more series."""

OTHERS = "others"


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """A drawing, the names of its series in the order of their colours, and the figures it was drawn from.

    `rows` are (hour since the epoch, tokens of each series); hours without use are not in it.
    """

    svg: Markup
    series: list[str]
    rows: list[tuple[int, list[int]]]

    @property
    def total(self) -> int:
        """All that is drawn, in tokens."""
        return sum(sum(values) for _, values in self.rows)


def stacked_hours(hours: Sequence[HourOfUse], *, since_hour: int, until_hour: int) -> Chart:
    """The tokens charged in each hour from `since_hour` on and before `until_hour`, stacked by model."""
    by_model: Counter[str] = Counter()
    for hour in hours:
        by_model[hour.model] += hour.charged
    series = [model for model, _ in by_model.most_common(SERIES_MAX)]
    if len(by_model) > SERIES_MAX:
        series.append(OTHERS)
    places = {model: place for place, model in enumerate(series)}
    stacks: dict[int, list[int]] = {}
    for hour in hours:
        stack = stacks.setdefault(hour.hour, [0] * len(series))
        stack[places.get(hour.model, len(series) - 1)] += hour.charged
    rows = sorted(stacks.items())
    return Chart(svg=_draw(rows, series, since_hour, until_hour), series=series, rows=rows)


def nice_step(highest: int, *, steps: int = 4) -> int:
    """The distance of round grid lines: 1, 2 or 5 times a power of ten, so that `steps` of them reach `highest`."""
    rough = max(1, math.ceil(highest / steps))
    power = 10 ** (len(str(rough)) - 1)
    return next(unit * power for unit in (1, 2, 5, 10) if unit * power >= rough)


def _draw(rows: list[tuple[int, list[int]]], series: list[str], since_hour: int, until_hour: int) -> Markup:
    step = nice_step(max((sum(values) for _, values in rows), default=0))
    top_value = step * 4
    slot = (WIDTH - LEFT) / (until_hour - since_hour)
    scale = (HEIGHT - BOTTOM - TOP) / top_value
    parts = [
        Markup('<svg viewBox="0 0 {} {}" role="group" aria-label="Tokens charged in each hour, UTC">').format(
            WIDTH, HEIGHT
        )
    ]
    for line in range(5):
        y = HEIGHT - BOTTOM - line * step * scale
        parts.append(
            Markup('<path class="axis" d="M{} {:.1f}H{}"/><text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                LEFT, y, WIDTH, LEFT - 8, y + 4, short(line * step)
            )
        )
    for hour in range(since_hour, until_hour, 6):
        parts.append(
            Markup('<text x="{:.1f}" y="{}">{}</text>').format(
                LEFT + (hour - since_hour) * slot, HEIGHT - 6, _hour(hour)
            )
        )
    for hour, values in rows:
        parts.append(_bar(hour, values, series, x=LEFT + (hour - since_hour) * slot, slot=slot, scale=scale))
    parts.append(Markup("</svg>"))
    return Markup("").join(parts)


def _bar(hour: int, values: list[int], series: list[str], *, x: float, slot: float, scale: float) -> Markup:
    told = ", ".join(f"{name} {value:,}" for name, value in zip(series, values, strict=True) if value)
    parts = [
        Markup('<g tabindex="0" role="img" aria-label="{}: {}"><title>{}: {}</title>').format(
            _hour(hour), told, _hour(hour), told
        )
    ]
    y = float(HEIGHT - BOTTOM)
    for place, value in enumerate(values):
        height = value * scale
        y -= height
        parts.append(
            Markup('<rect class="series-{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                place, x + slot * 0.1, y, slot * 0.8, height
            )
        )
    parts.append(Markup("</g>"))
    return Markup("").join(parts)


def _hour(hour: int) -> str:
    return f"{datetime.fromtimestamp(hour * 3600, UTC):%d %b %H:%M}"
