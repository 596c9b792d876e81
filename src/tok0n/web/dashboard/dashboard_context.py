"""The ports and services of the dashboard's pages, and the period in a query."""

from datetime import UTC, datetime, timedelta, tzinfo

import msgspec

from tok0n.domain.accounts import ApiKey
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.periods import Period, last_hours
from tok0n.ports.accounts import History
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Forms
from tok0n.ports.users import Sessions, Users
from tok0n.services.api_keys import ApiKeys
from tok0n.services.catalogue import Catalogue
from tok0n.services.forms import SubmitOnce
from tok0n.services.notices import LowBalances
from tok0n.services.passwords import FormError
from tok0n.services.profile import Profile
from tok0n.web.dashboard.submissions import form_error_of
from tok0n.web.rendering.charts import US_A_SECOND, field
from tok0n.web.rendering.filters import zone_of
from tok0n.web.rendering.page_request import PageRequest

ROWS_A_PAGE = 50
LASTS = {"24h": ("24 hours", 1), "7d": ("7 days", 7), "30d": ("30 days", 30), "90d": ("90 days", 90)}
"""Periods that end now, by their value in the URL: label and number of days."""


class DashboardContext(msgspec.Struct, frozen=True, kw_only=True):
    """The ports and services behind the pages of an account. Every query is restricted to the user's own account."""

    api_keys: ApiKeys
    history: History
    low_balances: LowBalances
    users: Users
    sessions: Sessions
    profile: Profile
    catalogue: Catalogue
    clock: Clock
    forms: Forms

    @property
    def submit_once(self) -> SubmitOnce:
        """Runs the action of a form once, even if the form is submitted repeatedly."""
        return SubmitOnce(self.forms, self.clock)

    async def keys(self, page: PageRequest) -> list[ApiKey]:
        """Return the keys of the user's account, oldest first."""
        return await self.api_keys.of(page.account_id)

    async def key_names(self, page: PageRequest) -> dict[str, str]:
        """Return the chart label of each key, by key id. Names may repeat, so a label has the last four characters."""
        return {key.id: f"{key.name} (\N{HORIZONTAL ELLIPSIS}{key.last_four})" for key in await self.keys(page)}

    async def models(self, page: PageRequest) -> list[str]:
        """Return the ids of the listed models, then those of other models that the account has used."""
        listed = [model.id for model in self.catalogue.listed()]
        used = await self.history.models_used(page.account_id)
        return listed + [model for model in used if model not in listed]


class PeriodFilter(Period, frozen=True, kw_only=True):
    """A period, with the values of its two inputs and its query parameters."""

    since_field: str = ""
    until_field: str = ""
    query: dict[str, str] = msgspec.field(default_factory=dict)


def read_period(page: PageRequest, *, now_us: int, default: str = "") -> PeriodFilter:
    """Return the period in the query, in the user's time zone. Raises `FormError`."""
    zone = zone_of(page.user.time_zone)
    since, until, last = page.query("since"), page.query("until"), page.query("last")
    if not since and not until and (last or default) in LASTS:
        last = last if last in LASTS else default
        hours = last_hours(LASTS[last][1] * 24, now_us=now_us)
        fields = [
            field(datetime.fromtimestamp((at_us or 0) / US_A_SECOND, UTC).astimezone(zone))
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
        since_us=_time(since, name="since", zone=zone),
        until_us=_time(until, name="until", zone=zone),
        since_field=since,
        until_field=until,
        query={name: text for name, text in (("since", since), ("until", until)) if text},
    )
    try:
        period.require_order()
    except InvalidRequest as error:
        raise form_error_of(error) from None
    return period


def _time(text: str, *, name: str, zone: tzinfo) -> int | None:
    """Return the time in an input. A date alone as the end includes that day. Raises `FormError`."""
    try:
        at = datetime.fromisoformat(text).replace(tzinfo=zone) if text else None
        if at is not None and name == "until" and len(text) == len("2026-11-23"):
            at += timedelta(days=1)
        return None if at is None else round(at.timestamp() * US_A_SECOND)
    except (ValueError, OverflowError):
        raise FormError("Enter a time such as 2026-11-23T14:00 or a date such as 2026-11-23.", field=name) from None
