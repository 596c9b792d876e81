"""Read the query parameters of GET /v1/requests and /v1/usage. Each error names the parameter."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

import msgspec

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.history import RequestFilter, UseBy
from tok0n.domain.ids import request_time_us
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_SECOND
from tok0n.domain.rejections import REQUEST_STATUSES, status_filter

LIMIT_DEFAULT = 20
LIMIT_MAX = 100
DAYS_DEFAULT = 30
DAYS_MAX = 366

_SECONDS_MAX = 253_402_300_799  # the end of the year 9999
_REQUEST_PARAMETERS = ("status", "model", "since", "until", "limit", "after")
_USAGE_PARAMETERS = ("bucket", "group_by", "since", "until")

Query = Mapping[str, str]


class RequestQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests to list: at most `limit`, older than the one with the id `after`."""

    filters: RequestFilter
    limit: int
    after: str | None


class UsageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which UTC days to add up, counted from the Unix epoch: from `first_day`, inclusive, to `until_day`, exclusive."""

    by: UseBy | None
    first_day: int
    until_day: int


def read_request_query(query: Query) -> RequestQuery:
    """Read the parameters of GET /v1/requests. Raises `InvalidRequest`."""
    _check_names(query, _REQUEST_PARAMETERS)
    status = query.get("status")
    if status is not None and status not in REQUEST_STATUSES:
        raise InvalidRequest(f"status must be one of {', '.join(REQUEST_STATUSES)}.", param="status")
    since_us, until_us = _time_us(query, "since"), _time_us(query, "until")
    _check_order(since_us, until_us)
    after = query.get("after")
    if after is not None and (not after.startswith("req_") or request_time_us(after) is None):
        raise InvalidRequest("after must be the last_id of the page before.", param="after")
    request_status, is_rejected = status_filter(status or "")
    filters = RequestFilter(
        since_us=since_us,
        until_us=until_us,
        model=query.get("model") or None,
        status=request_status,
        is_rejected=is_rejected,
    )
    return RequestQuery(filters=filters, limit=_limit(query), after=after)


def read_usage_query(query: Query, *, now_us: int) -> UsageQuery:
    """Read the parameters of GET /v1/usage. Both ends include the day that they are in. Raises `InvalidRequest`."""
    _check_names(query, _USAGE_PARAMETERS)
    if query.get("bucket", "day") != "day":
        raise InvalidRequest("bucket must be day.", param="bucket")
    group_by = query.get("group_by")
    if group_by is not None and group_by not in tuple(UseBy):
        raise InvalidRequest(f"group_by must be {' or '.join(UseBy)}.", param="group_by")
    since_us, until_us = _time_us(query, "since"), _time_us(query, "until")
    _check_order(since_us, until_us)
    until_day = -(-(now_us if until_us is None else until_us) // MICROSECONDS_PER_DAY)
    first_day = until_day - DAYS_DEFAULT if since_us is None else since_us // MICROSECONDS_PER_DAY
    if until_day - first_day > DAYS_MAX:
        raise InvalidRequest(f"The period may have at most {DAYS_MAX} days.", param="since")
    return UsageQuery(by=None if group_by is None else UseBy(group_by), first_day=first_day, until_day=until_day)


def day_of(day: int) -> str:
    """Format a day since the Unix epoch, for example 2026-11-29."""
    return datetime.fromtimestamp(day * MICROSECONDS_PER_DAY // MICROSECONDS_PER_SECOND, UTC).date().isoformat()


def _check_names(query: Query, allowed: Collection[str]) -> None:
    for name in query:
        if name not in allowed:
            raise InvalidRequest(f"Unknown query parameter. This path takes {', '.join(allowed)}.", param=name[:80])


def _limit(query: Query) -> int:
    text = query.get("limit", str(LIMIT_DEFAULT))
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(LIMIT_MAX)) and 1 <= int(text) <= LIMIT_MAX):
        raise InvalidRequest(f"limit must be an integer from 1 to {LIMIT_MAX}.", param="limit")
    return int(text)


def _time_us(query: Query, name: str) -> int | None:
    """Return a time in microseconds: ISO 8601, in UTC unless it has an offset, or seconds since the Unix epoch."""
    text = query.get(name)
    if text is None:
        return None
    try:
        if text.isascii() and text.isdecimal() and int(text) <= _SECONDS_MAX:
            return int(text) * MICROSECONDS_PER_SECOND
        at = datetime.fromisoformat(text)
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        seconds = -1.0
    if seconds < 0:
        raise InvalidRequest(
            f"{name} must be a time such as 2026-11-29T14:00:00Z, or seconds since the Unix epoch.", param=name
        )
    return round(seconds * MICROSECONDS_PER_SECOND)


def _check_order(since_us: int | None, until_us: int | None) -> None:
    if since_us is not None and until_us is not None and since_us >= until_us:
        raise InvalidRequest("until must be after since.", param="until")
