"""The budgets of an API key: how many tokens it can spend in a period, of one token class or of all.

Periods begin at midnight, on Monday and on the 1st, in a time zone that is fixed when the budget is created. Times are
microseconds since the Unix epoch.
"""

import functools
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.usage import TOKENS_MAX

BUDGETS_MAX = 8
"""The most budgets of a key."""

NOTICE_PERCENTS = (80, 100)
"""At these shares of a budget, the owner gets an email, once in each period."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ResetPeriod(StrEnum):
    """How often a budget resets. A `total` budget never does."""

    TOTAL = "total"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


PERIOD_WORDS = {
    ResetPeriod.TOTAL: "in total",
    ResetPeriod.DAY: "per day",
    ResetPeriod.WEEK: "per week",
    ResetPeriod.MONTH: "per month",
}


class BudgetDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A budget to create or to change. A key has at most one budget for each pair of period and class."""

    tokens: int
    period: ResetPeriod = ResetPeriod.TOTAL
    token_class: str | None = None


class SpentBudget(msgspec.Struct, frozen=True, kw_only=True):
    """A budget of which a key has spent `percent` or more in the current period. `email` is that of the owner."""

    account_id: str
    email: str
    api_key_id: str
    key_name: str
    budget: "KeyBudget"
    spent: int
    percent: int


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

    @property
    def description(self) -> str:
        """The budget in words, such as "budget of 10000 premium tokens per day"."""
        tokens = "tokens" if self.token_class is None else f"{self.token_class} tokens"
        return f"budget of {self.tokens} {tokens} {PERIOD_WORDS[self.period]}"

    def resets(self, now_us: int) -> str:
        """Return the sentence that says when the budget resets."""
        ends_at_us = self.period_at(now_us).ends_at_us
        if ends_at_us is None:
            return "It never resets."
        local = (_EPOCH + timedelta(microseconds=ends_at_us)).astimezone(_zone(self.time_zone))
        return f"It resets at {local:%Y-%m-%d %H:%M} ({self.time_zone})."

    def notice_percent(self, spent: int) -> int:
        """Return the highest of `NOTICE_PERCENTS` that `spent` tokens have reached, or 0."""
        return max((percent for percent in NOTICE_PERCENTS if spent * 100 >= self.tokens * percent), default=0)

    def counts(self, token_class: str) -> bool:
        """Whether tokens of a class count."""
        return self.token_class is None or self.token_class == token_class

    def period_at(self, now_us: int) -> BudgetPeriod:
        """Return the period that contains a time."""
        starts_at_us, ends_at_us = _bounds(self.period, self.time_zone, now_us)
        return BudgetPeriod(self.id, starts_at_us, ends_at_us)


def parse_budget(text: str) -> BudgetDraft:
    """Parse a budget such as `10000`, `10000/day` or `10000/day:premium`. Raises `InvalidRequest`."""
    rest, colon, token_class = text.partition(":")
    tokens, slash, period = rest.partition("/")
    digits = tokens.replace("_", "").replace(",", "")
    periods = [str(period) for period in ResetPeriod]
    is_number = digits.isascii() and digits.isdecimal() and len(digits) <= len(str(TOKENS_MAX))
    if not is_number or (slash and period not in periods) or (colon and not token_class):
        message = f"{text} is not a budget. Write TOKENS, TOKENS/PERIOD or TOKENS/PERIOD:CLASS, such as"
        raise InvalidRequest(f"{message} 10000/day. PERIOD is one of {', '.join(periods)}.", param="budget")
    return BudgetDraft(
        tokens=int(digits), period=ResetPeriod(period) if slash else ResetPeriod.TOTAL, token_class=token_class or None
    )


def periods_at(budgets: tuple[KeyBudget, ...], token_class: str, now_us: int) -> tuple[BudgetPeriod, ...]:
    """Return the periods in which a request that starts now counts, sorted by the id of their budget."""
    return tuple(
        sorted(
            (budget.period_at(now_us) for budget in budgets if budget.counts(token_class)),
            key=lambda period: period.budget_id,
        )
    )


def period_start_us(period: ResetPeriod, time_zone: str, now_us: int) -> int:
    """Return when the current period began in a time zone."""
    return _bounds(period, time_zone, now_us)[0]


def _bounds(period: ResetPeriod, time_zone: str, now_us: int) -> tuple[int, int | None]:
    if period is ResetPeriod.TOTAL:
        return 0, None
    today = _day_of(time_zone, now_us)
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


def _day_of(time_zone: str, now_us: int) -> date:
    """Return the local day of a time. Days begin at `_midnight_us`, which makes them contiguous.

    A clock that goes back over midnight repeats minutes of the previous day, which count in the day that has begun.
    """
    today = (_EPOCH + timedelta(microseconds=now_us)).astimezone(_zone(time_zone)).date()
    while now_us < _midnight_us(today, time_zone):
        today -= timedelta(days=1)
    while now_us >= _midnight_us(today + timedelta(days=1), time_zone):
        today += timedelta(days=1)
    return today


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
