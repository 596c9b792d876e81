"""The rules of periods: both ends in order, whole quarter hours, and not longer than can be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.ledger import MICROSECONDS_PER_HOUR, MICROSECONDS_PER_QUARTER_HOUR
from tok0n.domain.periods import HOURS_DEFAULT, HOURS_MAX, UNTIL_US_MAX, Period, bound_period, last_hours

NOW_US = 500_000 * MICROSECONDS_PER_HOUR + 1


def test_an_open_period_is_the_last_seven_days_with_the_current_hour() -> None:
    assert bound_period(Period(), now_us=NOW_US) == last_hours(HOURS_DEFAULT, now_us=NOW_US)
    assert last_hours(2, now_us=NOW_US) == Period(
        since_us=499_999 * MICROSECONDS_PER_HOUR, until_us=500_001 * MICROSECONDS_PER_HOUR
    )


@pytest.mark.parametrize(
    ("period", "param"),
    [
        (Period(since_us=NOW_US + MICROSECONDS_PER_HOUR), "since"),
        (Period(until_us=UNTIL_US_MAX + 1), "until"),
        (Period(since_us=0, until_us=HOURS_MAX * MICROSECONDS_PER_HOUR + 1), "since"),
    ],
)
def test_a_period_that_cannot_be_read_names_its_parameter(period: Period, param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        bound_period(period, now_us=NOW_US)
    assert error.value.param == param


def test_the_longest_period_can_be_read() -> None:
    longest = Period(since_us=0, until_us=HOURS_MAX * MICROSECONDS_PER_HOUR)
    assert bound_period(longest, now_us=NOW_US) == longest


def test_a_period_ends_after_its_start() -> None:
    Period(since_us=1).require_order()
    Period(since_us=1, until_us=2).require_order()
    with pytest.raises(InvalidRequest, match="after the start"):
        Period(since_us=2, until_us=2).require_order()


@given(st.integers(0, UNTIL_US_MAX), st.integers(1, HOURS_MAX * MICROSECONDS_PER_HOUR))
def test_its_quarter_hours_cover_the_period(since_us: int, length_us: int) -> None:
    period = Period(since_us=since_us, until_us=since_us + length_us)
    assert period.since_quarter is not None
    assert period.until_quarter is not None
    assert (
        period.since_quarter * MICROSECONDS_PER_QUARTER_HOUR
        <= since_us
        < since_us + length_us
        <= period.until_quarter * MICROSECONDS_PER_QUARTER_HOUR
    )
