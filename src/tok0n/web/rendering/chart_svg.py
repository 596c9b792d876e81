"""Draw the bars of a chart as SVG whose positions are percentages, so text and lines keep their size at every width.

The drawing is hidden from screen readers. `assets/charts.js` reads the values of a bar aloud, and a table has all.
"""

import json
import math
from collections.abc import Iterator, Sequence

import msgspec
from markupsafe import Markup, escape

from tok0n.web.rendering.filters import milliseconds, short

GRID_LINES_MAX = 4
"""The most grid lines above zero."""

LABELS_MAX = 8
HATCH = (
    '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
    '<path class="hatch" d="M0 3H6"/></pattern></defs>'
)


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """One bar: its values by series, what screen readers and the tooltip call it, and the page that it links to.

    A partial bar covers only a part of its hour or day.
    """

    title: str
    label: str
    url: str
    values: list[int]
    is_partial: bool


def grid_step(highest: int) -> int:
    """Return the distance of the grid lines: 1, 2 or 5 times a power of ten."""
    rough = max(1, math.ceil(highest / GRID_LINES_MAX))
    power = int(10 ** (len(str(rough)) - 1))
    return next(unit * power for unit in (1, 2, 5, 10) if unit * power >= rough)


def draw_bars(bars: Sequence[Bar], series: Sequence[str], *, unit: str, label: str, is_stacked: bool = True) -> Markup:
    """Return the plot of bars. `unit` is that of the values, and `label` describes the chart.

    The values of a bar that isn't stacked are milliseconds in ascending order, and all start at the bottom.
    """
    highest = max((sum(bar.values) if is_stacked else max(bar.values, default=0) for bar in bars), default=0)
    step = grid_step(highest)
    lines = max(1, math.ceil(highest / step))
    top = step * lines
    name_of = short if is_stacked else milliseconds
    names = escape(json.dumps(list(series)))
    total = " data-total" if is_stacked else ""
    start = (
        f'<div class="plot" tabindex="0" role="group" aria-roledescription="chart" aria-label="{escape(label)}"'
        f' data-series="{names}" data-unit="{escape(unit)}"{total}>'
    )
    parts = [
        start,
        '<svg class="y-axis" aria-hidden="true">',
        *(_text(name_of(line * step), "100%", f"{100 - 100 * line / lines:g}%") for line in range(lines + 1)),
        f'</svg><svg class="bars" aria-hidden="true">{HATCH}',
        *(
            f'<line class="axis" x1="0" x2="100%" y1="{line * 100 / lines:g}%" y2="{line * 100 / lines:g}%"/>'
            for line in range(lines + 1)
        ),
    ]
    slot = 100 / max(1, len(bars))
    for index, bar in enumerate(bars):
        parts += _bar(bar, x=index * slot, slot=slot, top=top, is_stacked=is_stacked)
    parts.append('</svg><svg class="x-axis" aria-hidden="true">')
    every = max(1, math.ceil(len(bars) / LABELS_MAX))
    for number, index in enumerate(range(0, len(bars), every)):
        css = ("", "minor", "half", "minor")[number % 4]  # which labels a narrow window leaves out
        parts.append(f'<text x="{index * slot:.3f}%" y="1em" class="{css}">{escape(bars[index].label)}</text>')
    parts.append('</svg><div class="tip" role="status" hidden></div></div>')
    return Markup("".join(parts))  # noqa: S704  the parts are escaped: Markup.format takes 10 times as long


def _bar(bar: Bar, *, x: float, slot: float, top: int, is_stacked: bool) -> Iterator[str]:
    values = " ".join(map(str, bar.values))
    yield (
        f'<g class="bar" data-title="{escape(bar.title)}" data-values="{values}" data-href="{escape(bar.url)}">'
        f'<rect class="hit" x="{x:.3f}%" y="0" width="{slot:.3f}%" height="100%"/>'
    )
    horizontal = f'x="{x + slot * 0.1:.3f}%" width="{slot * 0.8:.3f}%"'
    y = 100.0
    starts = [0] * len(bar.values) if is_stacked else [0, *bar.values]
    for index, value in enumerate(bar.values):
        height = 100 * (value - starts[index]) / top
        y -= height
        if value:
            yield f'<rect class="series-{index}" {horizontal} y="{y:.3f}%" height="{height:.3f}%"/>'
    if bar.is_partial and y < 100:
        yield f'<rect class="partial" {horizontal} y="{y:.3f}%" height="{100 - y:.3f}%" fill="url(#hatch)"/>'
    yield "</g>"


def _text(text: str, x: str, y: str) -> str:
    return f'<text x="{x}" y="{y}" dy="0.32em" text-anchor="end">{escape(text)}</text>'
