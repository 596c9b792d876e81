"""Read the filter in the query of the list of requests, and describe it as chips."""

from collections.abc import Mapping

from tok0n.domain.history import RequestFilter
from tok0n.domain.rejections import REJECTED, status_filter
from tok0n.services.passwords import FormError
from tok0n.web.dashboard.periods import LAST_PERIODS, PeriodFilter, read_period
from tok0n.web.dashboard.submissions import parse_whole_number
from tok0n.web.rendering.page_context import with_query
from tok0n.web.rendering.page_request import PageRequest

STATUSES = {
    "settled": "Billed",
    "released": "Not billed",
    "expired": "Expired, not billed",
    "pending": "In progress",
    REJECTED: "Rejected",
}
CODES = (
    *("invalid_request", "invalid_api_key", "account_suspended", "insufficient_tokens", "key_not_allowed"),
    *("rate_limit_error", "request_too_large", "upstream_error", "api_error", "overloaded", "cancelled", "expired"),
)

_TEXTS = ("model", "key", "status", "code")
_NUMBERS = {
    "tokens_min": ("tokens_min", 2**63 - 1),
    "tokens_max": ("tokens_max", 2**63 - 1),
    "latency_min": ("latency_ms_min", 2**31 - 1),
    "latency_max": ("latency_ms_max", 2**31 - 1),
}
"""The field of the filter and the largest value of the column, by the query parameter."""


def read_filter(page: PageRequest, *, now_us: int) -> tuple[RequestFilter, PeriodFilter]:
    """Return the filter in the query, and its period. Raises `FormError`.

    A number above the largest value of its column counts as that value.
    """
    period = read_period(page, now_us=now_us)
    numbers: dict[str, int] = {}
    for name, (field, largest) in _NUMBERS.items():
        value = parse_whole_number(page.query(name), field=name)
        if value is not None:
            numbers[field] = min(value, largest)
    for name in ("tokens", "latency"):
        low, high = (numbers.get(_NUMBERS[f"{name}_{end}"][0]) for end in ("min", "max"))
        if low is not None and high is not None and low > high:
            raise FormError(f"Enter {low:,} or more.", field=f"{name}_max")
    status, is_rejected = status_filter(page.query("status"))
    filters = RequestFilter(
        since_us=period.since_us,
        until_us=period.until_us,
        model=page.query("model") or None,
        api_key_id=page.query("key") or None,
        status=status,
        is_rejected=is_rejected,
        code=page.query("code") or None,
        **numbers,
    )
    return filters, period


def query_of(page: PageRequest) -> dict[str, str]:
    """Return the query parameters of the filter, without those of the period."""
    return {name: page.query(name) for name in (*_TEXTS, *_NUMBERS) if page.query(name)}


def active_filters(
    query: Mapping[str, str], filters: RequestFilter, period: PeriodFilter, key_names: Mapping[str, str]
) -> list[tuple[str, str, str]]:
    """Return the label and value of each filter in the query, and the query without it."""
    texts = {
        "last": ("Time", LAST_PERIODS[query["last"]][0] if query.get("last") in LAST_PERIODS else ""),
        "since": ("From", period.since_field.replace("T", " ")),
        "until": ("To", period.until_field.replace("T", " ")),
        "model": ("Model", query.get("model", "")),
        "key": ("Key", key_names.get(query.get("key", ""), query.get("key", ""))),
        "status": ("Status", STATUSES.get(query.get("status", ""), "")),
        "code": ("Error", query.get("code", "")),
        "tokens_min": ("Tokens", _number("at least", filters.tokens_min)),
        "tokens_max": ("Tokens", _number("at most", filters.tokens_max)),
        "latency_min": ("Latency", _number("at least", filters.latency_ms_min, unit=" ms")),
        "latency_max": ("Latency", _number("at most", filters.latency_ms_max, unit=" ms")),
    }
    active = [(name, label, value) for name, (label, value) in texts.items() if name in query and value]
    return [(label, value, with_query(query, **{name: None})) for name, label, value in active]


def _number(bound: str, value: int | None, *, unit: str = "") -> str:
    return "" if value is None else f"{bound} {value:,}{unit}"
