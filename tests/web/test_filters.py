"""How pages write amounts: exactly where a user pays, and short where space is scarce."""

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.web.rendering.filters import UNITS, dollars, micro_dollars, short, token_count

counts = st.integers(0, 10**18)


def number_of(text: str) -> Decimal:
    """Read a number as a user does."""
    return Decimal(text.replace(",", "").replace("$", "").replace("\N{MINUS SIGN}", "-"))


@pytest.mark.parametrize(
    ("micro_usd", "text"),
    [
        (0, "$0.00"),
        (1, "<$0.0001"),
        (99, "<$0.0001"),
        (100, "$0.0001"),
        (1_200, "$0.0012"),
        (250_000, "$0.25"),
        (999_949, "$0.9999"),
        (999_950, "$1.00"),
        (1_004_999, "$1.00"),
        (1_005_000, "$1.01"),
        (12_000_000, "$12.00"),
        (1_234_567_890_000, "$1,234,567.89"),
        (-1_200, "\N{MINUS SIGN}$0.0012"),
    ],
)
def test_dollars_are_written_with_the_decimals_that_matter(micro_usd: int, text: str) -> None:
    assert micro_dollars(micro_usd) == text


@given(st.integers(100, 10**18))
def test_dollars_differ_from_the_amount_by_at_most_half_of_the_last_decimal(micro_usd: int) -> None:
    text = micro_dollars(micro_usd)
    assert re.fullmatch(r"\$(?:0|[1-9]\d{0,2}(?:,\d{3})*)\.\d{2,4}", text)
    half = 50 if micro_usd < 1_000_000 else 5_000
    assert abs(number_of(text) * 1_000_000 - micro_usd) <= half


@given(st.integers(1, 10**18))
def test_an_amount_that_is_not_zero_never_looks_free(micro_usd: int) -> None:
    assert re.search("[1-9]", micro_dollars(micro_usd))
    assert micro_dollars(-micro_usd) == f"\N{MINUS SIGN}{micro_dollars(micro_usd)}"


@given(st.integers(0, 10**12), st.integers(0, 10**12))
def test_a_larger_amount_never_looks_smaller(one: int, other: int) -> None:
    low, high = sorted((one, other))
    if low >= 100:
        assert number_of(micro_dollars(low)) <= number_of(micro_dollars(high))


@given(st.integers(0, 10**12))
def test_cents_are_exact(cents: int) -> None:
    assert number_of(dollars(cents)) * 100 == cents
    assert re.fullmatch(r"\$[\d,]+\.\d{2}", dollars(cents))


@given(counts)
def test_a_count_of_tokens_is_exact_and_has_one_unit(value: int) -> None:
    number, unit = token_count(value).split("\N{NO-BREAK SPACE}")
    assert number_of(number) == value
    assert unit == ("token" if value == 1 else "tokens")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (1_000, "1k"),
        (12_350, "12.4k"),
        (999_499, "999k"),
        (999_500, "1M"),
        (1_200_000, "1.2M"),
        (999_999_999_999_999, "1P"),
        (-1_234, "\N{MINUS SIGN}1.23k"),
    ],
)
def test_a_short_count_has_three_digits_and_a_unit(value: int, text: str) -> None:
    assert short(value) == text


@given(counts)
def test_a_short_count_is_short_and_within_half_a_percent(value: int) -> None:
    text = short(value)
    assert re.fullmatch(rf"\d{{1,3}}(?:\.\d{{1,2}})?[{UNITS}]?", text)
    unit = 1000 ** (UNITS.find(text[-1]) + 1) if text[-1] in UNITS else 1
    assert abs(number_of(text.rstrip(UNITS)) * unit - value) * 200 <= value
