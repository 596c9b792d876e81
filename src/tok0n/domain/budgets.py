"""The budgets of an API key: how many tokens it can spend in a period, of one token class or of all.

Periods begin at midnight, on Monday and on the 1st, in a time zone that is fixed when the budget is created. Times are
microseconds since the Unix epoch.
"""

import functools
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

BUDGETS_MAX = 8
"""The most budgets of a key."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ResetPeriod(StrEnum):
    """How often a budget resets. A `total` budget never does."""

    TOTAL = "total"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


class BudgetPeriod(msgspec.Struct, frozen=True, gc=False):
    """One period of a budget, from `starts_at_us`, inclusive, to `ends_at_us`, exclusive. A total has no end."""

    budget_id: str
    starts_at_us: int
    ends_at_us: int | None


class KeyBudget(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A budget of `tokens` in each period. Without a `token_class`, tokens of every class count."""

    id: str
    tokens: int
    period: ResetPeriod = ResetPeriod.TOTAL
    token_class: str | None = None
    time_zone: str = "UTC"

    def counts(self, token_class: str) -> bool:
        """Whether tokens of a class count."""
        return self.token_class is None or self.token_class == token_class

    def period_at(self, now_us: int) -> BudgetPeriod:
        """Return the period that contains a time."""
        starts_at_us, ends_at_us = _bounds(self.period, self.time_zone, now_us)
        return BudgetPeriod(self.id, starts_at_us, ends_at_us)


def periods_at(budgets: tuple[KeyBudget, ...], token_class: str, now_us: int) -> tuple[BudgetPeriod, ...]:
    """Return the periods in which a request that starts now counts, sorted by the id of their budget."""
    if not budgets:
        return ()
    return tuple(
        sorted(
            (budget.period_at(now_us) for budget in budgets if budget.counts(token_class)),
            key=lambda period: period.budget_id,
        )
    )


def _bounds(period: ResetPeriod, time_zone: str, now_us: int) -> tuple[int, int | None]:
    if period is ResetPeriod.TOTAL:
        return 0, None
    zone = _zone(time_zone)
    today = (_EPOCH + timedelta(microseconds=now_us)).astimezone(zone).date()
    match period:
        case ResetPeriod.DAY:
            first, following = today, today + timedelta(days=1)
        case ResetPeriod.WEEK:
            first = today - timedelta(days=today.weekday())
            following = first + timedelta(days=7)
        case ResetPeriod.MONTH:
            first = today.replace(day=1)
            following = (first + timedelta(days=31)).replace(day=1)
    return _midnight_us(first, time_zone), _midnight_us(following, time_zone)


@functools.lru_cache(maxsize=1024)
def _zone(time_zone: str) -> tzinfo:
    try:
        return ZoneInfo(time_zone)
    except ZoneInfoNotFoundError:  # The time zone database of this machine is older than the one that had it.
        return UTC


@functools.lru_cache(maxsize=4096)
def _midnight_us(day: date, time_zone: str) -> int:
    """Return when a local day begins: at the first of two midnights, or at the change that skips its midnight."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=_zone(time_zone))
    return (midnight.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)
