"""Make an accent color readable on the pages' backgrounds (WCAG 2.2, success criterion 1.4.3)."""

import re
from typing import NamedTuple

CONTRAST_MIN = 4.5
"""The least contrast between text and its background."""

LIGHT_PAGES = ("#fbfbfa", "#ffffff", "#f3f3f1")
DARK_PAGES = ("#111315", "#191c1f", "#14171a")
"""The backgrounds of pages, cards and code in each theme, as tok0n.css has them."""

_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_STEPS = 200
_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SOFT = 0.12


class Accent(NamedTuple):
    """The accent of one theme: the color, the text on it, and a background that is tinted with it."""

    color: str
    text: str
    soft: str


def is_color(text: str) -> bool:
    """Whether a text is a color in the form #rrggbb."""
    return _HEX.fullmatch(text) is not None


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colors, from 1 to 21 (WCAG 2.2, "contrast ratio")."""
    darker, lighter = sorted((_luminance(_parse(first)), _luminance(_parse(second))))
    return (lighter + 0.05) / (darker + 0.05)


def accents_of(color: str) -> tuple[Accent, Accent]:
    """Return the accents of the light and the dark theme: the color, darkened or lightened until it is readable.

    Every text in the accent, and every text on it, then has at least `CONTRAST_MIN`.
    """
    return _accent(color, LIGHT_PAGES, towards=_BLACK), _accent(color, DARK_PAGES, towards=_WHITE)


def _accent(color: str, backgrounds: tuple[str, ...], *, towards: tuple[int, int, int]) -> Accent:
    base = _parse(color)
    for step in range(_STEPS + 1):
        candidate = _render(_mix(base, towards, step / _STEPS))
        soft = _render(_mix(_parse(backgrounds[1]), _parse(candidate), _SOFT))
        text = max(("#ffffff", "#111315"), key=lambda ink: contrast(candidate, ink))
        on_pages = min(contrast(candidate, background) for background in (*backgrounds, soft))
        if min(on_pages, contrast(candidate, text)) >= CONTRAST_MIN:
            return Accent(candidate, text, soft)
    raise AssertionError("black and white are readable on every page")


def _parse(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _render(color: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)


def _mix(color: tuple[int, int, int], other: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(color, other, strict=True))
    return red, green, blue


def _luminance(color: tuple[int, int, int]) -> float:
    """Return the relative luminance, from 0 to 1 (WCAG 2.2)."""
    red, green, blue = (
        part / 255 / 12.92 if part / 255 <= 0.04045 else ((part / 255 + 0.055) / 1.055) ** 2.4 for part in color
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
