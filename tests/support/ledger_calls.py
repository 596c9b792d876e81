"""What the state machine of the ledger asks for, and the use that follow."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from hypothesis import strategies as st

from support.endpoint_cases import CASES
from tok0n.domain.budgets import KeyBudget, ResetPeriod
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR, STANDARD, RequestStatus
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


class Quarter(msgspec.Struct, frozen=True, kw_only=True):
    """The use of a key in a quarter hour."""

    requests: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    charged: int = 0


Quarters = dict[tuple[str, int, str, str], Quarter]
"""By account, quarter hour, key and model."""


def use_read(rows: Iterable[Mapping[str, Any]]) -> Quarters:
    """Return the rows of `usage_quarter`."""
    return {
        (row["account_id"], row["quarter"], row["api_key_id"], row["model"]): msgspec.convert(
            {name: row[name] for name in Quarter.__struct_fields__}, Quarter
        )
        for row in rows
    }


def use_expected(requests: Mapping[str, RequestRow], facts: Mapping[str, Mapping[str, Any]]) -> Quarters:
    """Return the use that the settled requests add up to."""
    quarters: Quarters = {}
    for id_, row in requests.items():
        if row.status is RequestStatus.SETTLED:
            fact = facts[id_]
            at = (
                row.account_id,
                fact["resolved_at_us"] // MICROSECONDS_PER_QUARTER_HOUR,
                fact["api_key_id"],
                fact["model"],
            )
            before = quarters.get(at, Quarter())
            quarters[at] = Quarter(
                requests=before.requests + 1,
                prompt_tokens=before.prompt_tokens + fact["prompt_tokens"],
                completion_tokens=before.completion_tokens + fact["completion_tokens"],
                charged=before.charged + row.charged,
            )
    return quarters
