"""How use changes, and how long tokens last."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.trends import DAYS_MAX, percent_change, runway_days

COUNT = st.integers(0, 10**15)


@pytest.mark.parametrize(
    ("now", "before", "change"), [(112, 100, 12), (0, 7, -100), (5, 5, 0), (5, 0, None), (2, 3, -33), (1, 200, -99)]
)
def test_a_change_is_rounded_to_whole_percents(now: int, before: int, change: int | None) -> None:
    assert percent_change(now, before) == change


def test_nothing_used_says_nothing_about_how_long_tokens_last() -> None:
    assert runway_days(10**9, used=0, days=7) is None
    assert runway_days(10**9, used=1, days=7) is None
    assert runway_days(0, used=5, days=7) == 0
    assert runway_days(1_200, used=700, days=7) == 12


@given(COUNT, st.integers(1, 10**15), st.integers(1, 30))
def test_the_tokens_last_at_least_the_whole_days_at_this_rate(available: int, used: int, days: int) -> None:
    lasts = runway_days(available, used=used, days=days)
    if lasts is None:
        assert available * days > DAYS_MAX * used
    else:
        assert lasts * used <= available * days < (lasts + 1) * used
