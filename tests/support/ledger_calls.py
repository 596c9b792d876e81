"""What the state machine of the ledger asks for, and the hours of use that follow."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from hypothesis import strategies as st

from support.endpoint_cases import CASES
from tok0n.domain.budgets import KeyBudget, ResetPeriod
from tok0n.domain.ledger import STANDARD, US_AN_HOUR, RequestStatus
from tok0n.domain.ledger_rules import RequestRow

CLASSES = (STANDARD, "premium")
TOKENS = st.integers(min_value=1, max_value=400)
MILLISECONDS = st.none() | st.integers(0, 1_000)

_CALLS = [(case.name, is_stream) for case in CASES for is_stream in sorted({False, case.stream is not None})]


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A reservation to make. `call` is the endpoint, and whether the request asks for a stream.

    With `is_stale`, the key has changed since the caller was read.
    """

    which: int
    token_class: str
    is_stale: bool
    tokens: int
    lifetime_us: int
    call: tuple[str, bool]


ASKED = st.builds(
    Asked,
    which=st.integers(0, 1),
    token_class=st.sampled_from(CLASSES),
    is_stale=st.sampled_from((False, False, False, True)),
    tokens=TOKENS,
    lifetime_us=st.integers(1, 50),
    call=st.sampled_from(_CALLS),
)
BUDGETS = st.builds(
    KeyBudget,
    id=st.just(""),
    tokens=st.integers(1, 2_000),
    period=st.sampled_from(ResetPeriod),
    token_class=st.sampled_from((None, *CLASSES)),
    time_zone=st.sampled_from(("UTC", "Europe/Berlin", "Pacific/Auckland")),
)


class Hour(msgspec.Struct, frozen=True, kw_only=True):
    """The use of a key in an hour."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    charged: int = 0


Hours = dict[tuple[str, int, str, str], Hour]
"""By account, hour, key and model."""


def hours_read(rows: Iterable[Mapping[str, Any]]) -> Hours:
    """Return the rows of `usage_hour`."""
    return {
        (row["account_id"], row["hour"], row["api_key_id"], row["model"]): msgspec.convert(
            {name: row[name] for name in Hour.__struct_fields__}, Hour
        )
        for row in rows
    }


def hours_expected(requests: Mapping[str, RequestRow], facts: Mapping[str, Mapping[str, Any]]) -> Hours:
    """Return the use that the settled requests add up to."""
    hours: Hours = {}
    for id_, row in requests.items():
        if row.status is RequestStatus.SETTLED:
            fact = facts[id_]
            at = (row.account_id, fact["resolved_at_us"] // US_AN_HOUR, fact["api_key_id"], fact["model"])
            before = hours.get(at, Hour())
            hours[at] = Hour(
                requests=before.requests + 1,
                prompt_tokens=before.prompt_tokens + fact["prompt_tokens"],
                completion_tokens=before.completion_tokens + fact["completion_tokens"],
                charged=before.charged + row.charged,
            )
    return hours
