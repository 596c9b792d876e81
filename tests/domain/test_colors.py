"""An accent color of the operator is readable in both themes."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.colors import CONTRAST_MIN, DARK_PAGES, LIGHT_PAGES, accents_of, contrast, is_color

CSS = Path(__file__).parents[2] / "src" / "tok0n" / "web" / "assets" / "tok0n.css"

colors = st.integers(0, 0xFFFFFF).map(lambda number: f"#{number:06x}")


@given(colors)
def test_text_in_any_accent_and_on_it_has_enough_contrast(color: str) -> None:
    for accent, backgrounds in zip(accents_of(color), (LIGHT_PAGES, DARK_PAGES), strict=True):
        assert contrast(accent.color, accent.text) >= CONTRAST_MIN
        for background in (*backgrounds, accent.soft):
            assert contrast(accent.color, background) >= CONTRAST_MIN


@given(colors, colors)
def test_contrast_is_symmetric_and_from_1_to_21(first: str, second: str) -> None:
    assert contrast(first, second) == contrast(second, first)
    assert 1 <= contrast(first, second) <= 21.01


@pytest.mark.parametrize(("first", "second", "expected"), [("#000000", "#ffffff", 21.0), ("#777777", "#ffffff", 4.48)])
def test_contrast_is_that_of_wcag(first: str, second: str, expected: float) -> None:
    assert round(contrast(first, second), 2) == expected


def test_a_readable_accent_is_used_as_it_is() -> None:
    light, _ = accents_of("#0b6b53")
    assert light.color == "#0b6b53"


def test_the_backgrounds_are_those_of_the_style_sheet() -> None:
    css = CSS.read_text("utf-8")
    found = [re.search(rf"--{name}: light-dark\((#\w+), (#\w+)\)", css) for name in ("page", "card", "sunken")]
    assert [match and match.groups() for match in found] == list(zip(LIGHT_PAGES, DARK_PAGES, strict=True))


@pytest.mark.parametrize("text", ["", "red", "#fff", "#12345g", "#1234567", "#123456\n"])
def test_only_six_hex_digits_are_a_color(text: str) -> None:
    assert not is_color(text)
