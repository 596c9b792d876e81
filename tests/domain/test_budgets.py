"""The periods of budgets follow each other without a gap in every time zone, and contain the time that they are of."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tok0n.domain.budgets import BudgetDraft, KeyBudget, ResetPeriod, parse_budget, periods_at
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.usage import TOKENS_MAX

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",  # skipped midnights until 2018
    "America/Havana",  # has two midnights
    "America/St_Johns",  # went back from 00:01 to 23:01 until 2011
    "Asia/Kolkata",
    "Asia/Beirut",
    "Pacific/Apia",  # skipped 2011-12-30
    "Pacific/Kwajalein",  # skipped 1993-08-21
    "Pacific/Chatham",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Asuncion",
]
RESETTING = [ResetPeriod.DAY, ResetPeriod.WEEK, ResetPeriod.MONTH]
MAX_HOURS = {ResetPeriod.DAY: 49, ResetPeriod.WEEK: 8 * 24, ResetPeriod.MONTH: 32 * 24}

moments = st.datetimes(datetime(1971, 1, 1), datetime(2060, 1, 1)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


def us(at: datetime) -> int:
    return (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def local(at_us: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).astimezone(ZoneInfo(zone))


def budget(period: ResetPeriod, zone: str = "UTC") -> KeyBudget:
    return KeyBudget(id="bud_1", tokens=10, period=period, time_zone=zone)


@given(at=moments, zone=st.sampled_from(ZONES), period=st.sampled_from(RESETTING))
@example(at=datetime(2011, 12, 30, 9, 59, tzinfo=UTC), zone="Pacific/Apia", period=ResetPeriod.DAY)
@example(at=datetime(2011, 12, 30, 10, 0, tzinfo=UTC), zone="Pacific/Apia", period=ResetPeriod.DAY)
@example(at=datetime(2018, 11, 4, 3, 0, tzinfo=UTC), zone="America/Sao_Paulo", period=ResetPeriod.DAY)
@example(at=datetime(2006, 10, 29, 2, 45, tzinfo=UTC), zone="America/St_Johns", period=ResetPeriod.DAY)
@example(at=datetime(2026, 11, 1, 4, 30, tzinfo=UTC), zone="America/Havana", period=ResetPeriod.DAY)
@example(at=datetime(2026, 3, 29, 1, 30, tzinfo=UTC), zone="Europe/Berlin", period=ResetPeriod.DAY)
@example(at=datetime(1993, 8, 21, 12, 0, tzinfo=UTC), zone="Pacific/Kwajalein", period=ResetPeriod.WEEK)
def test_periods_contain_their_time_and_are_contiguous(at: datetime, zone: str, period: ResetPeriod) -> None:
    now_us = us(at)
    now = budget(period, zone).period_at(now_us)
    assert now.ends_at_us is not None
    assert now.starts_at_us <= now_us < now.ends_at_us
    assert now.ends_at_us - now.starts_at_us <= MAX_HOURS[period] * 3_600_000_000
    following = budget(period, zone).period_at(now.ends_at_us)
    previous = budget(period, zone).period_at(now.starts_at_us - 1)
    assert (following.starts_at_us, previous.ends_at_us) == (now.ends_at_us, now.starts_at_us)
    for inside in (now.starts_at_us, now.ends_at_us - 1, (now.starts_at_us + now.ends_at_us) // 2):
        assert budget(period, zone).period_at(inside) == now


@given(at=moments, zone=st.sampled_from(ZONES))
def test_a_period_begins_with_the_first_moment_of_its_day_its_monday_or_its_1st(at: datetime, zone: str) -> None:
    for period, is_first in (
        (ResetPeriod.DAY, lambda _: True),
        (ResetPeriod.WEEK, lambda day: day.weekday() == 0),
        (ResetPeriod.MONTH, lambda day: day.day == 1),
    ):
        starts_at_us = budget(period, zone).period_at(us(at)).starts_at_us
        start, before = local(starts_at_us, zone), local(starts_at_us - 1, zone)
        assert before.date() <= start.date()
        assert is_first(start) or before.date() < start.date() - timedelta(days=1), "unless that day was skipped"
        assert start.replace(tzinfo=None) - before.replace(tzinfo=None) <= timedelta(days=1, hours=1, seconds=1)


@pytest.mark.parametrize(
    ("zone", "at", "hours"),
    [
        ("Europe/Berlin", datetime(2026, 3, 29, 12, tzinfo=UTC), 23),
        ("Europe/Berlin", datetime(2026, 10, 25, 12, tzinfo=UTC), 25),
        ("Europe/Berlin", datetime(2026, 7, 1, 12, tzinfo=UTC), 24),
        ("Australia/Lord_Howe", datetime(2026, 10, 3, 20, tzinfo=UTC), 23.5),
        ("America/Sao_Paulo", datetime(2018, 11, 4, 12, tzinfo=UTC), 23),
        ("Pacific/Apia", datetime(2011, 12, 29, 12, tzinfo=UTC), 24),
    ],
)
def test_a_day_has_the_hours_of_its_time_zone(zone: str, at: datetime, hours: float) -> None:
    day = budget(ResetPeriod.DAY, zone).period_at(us(at))
    assert day.ends_at_us is not None
    assert day.ends_at_us - day.starts_at_us == hours * 3_600_000_000


def test_a_total_never_resets() -> None:
    total = budget(ResetPeriod.TOTAL)
    assert total.period_at(0) == total.period_at(10**18)
    assert total.period_at(0).ends_at_us is None
    assert total.resets(0) == "It never resets."


def test_a_budget_says_when_it_resets_in_its_time_zone() -> None:
    now_us = us(datetime(2026, 11, 29, 12, tzinfo=UTC))
    day = KeyBudget(id="b", tokens=10_000, period=ResetPeriod.DAY, token_class="premium", time_zone="Asia/Kolkata")
    assert day.description == "budget of 10000 premium tokens per day"
    assert day.resets(now_us) == "It resets at 2026-11-30 00:00 (Asia/Kolkata)."


def test_a_time_zone_that_this_machine_does_not_know_is_utc() -> None:
    assert budget(ResetPeriod.DAY, "Mars/Olympus").period_at(5).starts_at_us == 0


def test_a_request_counts_in_the_budgets_of_its_class_sorted_by_id() -> None:
    budgets = tuple(
        KeyBudget(id=id_, tokens=1, token_class=token_class)
        for id_, token_class in (("c", None), ("a", "premium"), ("b", "standard"))
    )
    assert [period.budget_id for period in periods_at(budgets, "standard", 0)] == ["b", "c"]
    assert periods_at((), "standard", 0) == ()


@pytest.mark.parametrize(("spent", "percent"), [(0, 0), (79, 0), (80, 80), (99, 80), (100, 100), (250, 100)])
def test_the_owner_hears_of_80_and_of_100_percent(spent: int, percent: int) -> None:
    assert KeyBudget(id="b", tokens=100).notice_percent(spent) == percent


@pytest.mark.parametrize(
    ("text", "draft"),
    [
        ("10000", BudgetDraft(tokens=10_000)),
        ("10_000/day", BudgetDraft(tokens=10_000, period=ResetPeriod.DAY)),
        ("10,000/month:premium", BudgetDraft(tokens=10_000, period=ResetPeriod.MONTH, token_class="premium")),
        ("5:standard", BudgetDraft(tokens=5, token_class="standard")),
        ("5/total", BudgetDraft(tokens=5)),
    ],
)
def test_a_budget_can_be_written_in_one_word(text: str, draft: BudgetDraft) -> None:
    assert parse_budget(text) == draft


@pytest.mark.parametrize(
    "text", ["", "x", "-5", "5/", "5/year", "5/Day", "5:", "/day", "5/day:", "٣", "1.5", str(TOKENS_MAX) + "00"]
)
def test_what_is_no_budget_is_an_error_that_shows_the_format(text: str) -> None:
    with pytest.raises(InvalidRequest, match="TOKENS/PERIOD:CLASS") as error:
        parse_budget(text)
    assert error.value.param == "budget"
