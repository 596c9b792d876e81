"""The period of a query for usage or requests. Times are microseconds since the Unix epoch."""

from datetime import UTC, datetime
from typing import TypeVar

import msgspec

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.ledger import MICROSECONDS_PER_HOUR, MICROSECONDS_PER_QUARTER_HOUR

HOURS_DEFAULT = 7 * 24
HOURS_MAX = 92 * 24
"""The longest period of a query for usage."""

UNTIL_US_MAX = int(datetime(9000, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
"""The latest end. Python can represent the days after it, in any time zone."""


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """From `since_us`, inclusive, to `until_us`, exclusive. None means no limit."""

    since_us: int | None = None
    until_us: int | None = None

    @property
    def since_quarter(self) -> int | None:
        """The quarter hour, counted from the Unix epoch, in which the period begins."""
        return None if self.since_us is None else self.since_us // MICROSECONDS_PER_QUARTER_HOUR

    @property
    def until_quarter(self) -> int | None:
        """The first quarter hour after the period."""
        return None if self.until_us is None else -(-self.until_us // MICROSECONDS_PER_QUARTER_HOUR)

    def require_order(self) -> None:
        """Raise `InvalidRequest` if the period ends before it starts."""
        if self.since_us is not None and self.until_us is not None and self.since_us >= self.until_us:
            raise InvalidRequest("Choose an end after the start.", param="until")


P = TypeVar("P", bound=Period)


def last_hours(hours: int, *, now_us: int, offset_us: int = 0) -> Period:
    """Return the period of the last `hours` hours, including the current one.

    `offset_us` is the offset of the time zone whose hours count. Some aren't a multiple of an hour.
    """
    until_us = ((now_us + offset_us) // MICROSECONDS_PER_HOUR + 1) * MICROSECONDS_PER_HOUR - offset_us
    return Period(since_us=until_us - hours * MICROSECONDS_PER_HOUR, until_us=until_us)


def bound_period(period: P, *, now_us: int) -> P:
    """Fill in what a period leaves open: the end of the current hour, and a start `HOURS_DEFAULT` before its end.

    Raises `InvalidRequest` if the period ends too late, ends before it starts, or is longer than `HOURS_MAX`.
    """
    until_us = last_hours(0, now_us=now_us).until_us if period.until_us is None else period.until_us
    assert until_us is not None
    since_us = until_us - HOURS_DEFAULT * MICROSECONDS_PER_HOUR if period.since_us is None else period.since_us
    if until_us > UNTIL_US_MAX:
        raise InvalidRequest("Choose an end before the year 9000.", param="until")
    if since_us >= until_us:
        raise InvalidRequest("Choose a start in the past.", param="since")
    if until_us - since_us > HOURS_MAX * MICROSECONDS_PER_HOUR:
        raise InvalidRequest(f"Choose a period of at most {HOURS_MAX // 24} days.", param="since")
    return msgspec.structs.replace(period, since_us=since_us, until_us=until_us)
