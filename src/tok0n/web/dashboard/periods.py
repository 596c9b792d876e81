"""The period in a page's query."""

from datetime import datetime, timedelta, tzinfo

import msgspec

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.ledger import MICROSECONDS_PER_SECOND
from tok0n.domain.periods import Period, last_hours
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.submissions import form_error_of
from tok0n.web.rendering.charts import BarPeriod, datetime_field
from tok0n.web.rendering.filters import zone_of
from tok0n.web.rendering.page_request import PageRequest

LAST_PERIODS = {"24h": ("24 hours", 1), "7d": ("7 days", 7), "30d": ("30 days", 30), "90d": ("90 days", 90)}
"""Periods that end now, by their value in the URL: label and number of days."""


class PeriodFilter(Period, frozen=True, kw_only=True):
    """A period, with the values of its two inputs and its query parameters."""

    since_field: str = ""
    until_field: str = ""
    query: dict[str, str] = msgspec.field(default_factory=dict)


def read_period(page: PageRequest, *, now_us: int, default: str = "") -> PeriodFilter:
    """Return the period in the query, in the user's time zone. Raises `FormError`."""
    zone = zone_of(page.session.time_zone)
    since, until, last = page.query("since"), page.query("until"), page.query("last")
    if not since and not until and (last or default) in LAST_PERIODS:
        last = last if last in LAST_PERIODS else default
        hours = local_hours(LAST_PERIODS[last][1] * 24, now_us=now_us, zone=zone)
        fields = [
            datetime_field(datetime.fromtimestamp((at_us or 0) / MICROSECONDS_PER_SECOND, zone))
            for at_us in (hours.since_us, hours.until_us)
        ]
        return PeriodFilter(
            since_us=hours.since_us,
            until_us=hours.until_us,
            since_field=fields[0],
            until_field=fields[1],
            query={"last": last},
        )
    period = PeriodFilter(
        since_us=read_time(since, name="since", zone=zone),
        until_us=read_time(until, name="until", zone=zone),
        since_field=since,
        until_field=until,
        query={name: text for name, text in (("since", since), ("until", until)) if text},
    )
    try:
        period.require_order()
    except InvalidRequest as error:
        raise form_error_of(error) from None
    return period


def local_hours(hours: int, *, now_us: int, zone: tzinfo) -> Period:
    """Return the period of the last `hours` hours of a time zone, including the current one."""
    offset = datetime.fromtimestamp(now_us / MICROSECONDS_PER_SECOND, zone).utcoffset() or timedelta()
    return last_hours(hours, now_us=now_us, offset_us=round(offset.total_seconds()) * MICROSECONDS_PER_SECOND)


def bar_period(page: PageRequest, period: Period, *, now_us: int) -> BarPeriod:
    """Return a period, which must have both ends, as bars of a chart in the user's time zone."""
    since_quarter, until_quarter = period.since_quarter, period.until_quarter
    assert since_quarter is not None
    assert until_quarter is not None
    zone = zone_of(page.session.time_zone)
    return BarPeriod(since_quarter=since_quarter, until_quarter=until_quarter, zone=zone, now_us=now_us)


def read_time(text: str, *, name: str, zone: tzinfo) -> int | None:
    """Return the time in an input. A date alone as the end includes that day. Raises `FormError`."""
    try:
        at = datetime.fromisoformat(text).replace(tzinfo=zone) if text else None
        if at is not None and name == "until" and len(text) == len("2026-11-23"):
            at += timedelta(days=1)
        return None if at is None else round(at.timestamp() * MICROSECONDS_PER_SECOND)
    except (ValueError, OverflowError):
        raise FormError("Enter a time such as 2026-11-23T14:00 or a date such as 2026-11-23.", field=name) from None
