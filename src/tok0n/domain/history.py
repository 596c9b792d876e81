"""An account's history: requests, use and ledger entries. None of it contains prompts or responses."""

from enum import StrEnum

import msgspec

from tok0n.domain.budgets import KeyBudget
from tok0n.domain.ledger import EntryKind, RequestStatus

NOT_BILLED = frozenset({RequestStatus.RELEASED, RequestStatus.EXPIRED})
"""The statuses of requests that ended without a charge."""


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A request and its receipt. Amounts are tokens, and times are microseconds since the Unix epoch.

    `code` is the error code of a request that was not billed, or None. Only streams have `first_event_ms`, the
    milliseconds from sending the request to the upstream's first event with content.
    """

    id: str
    api_key_id: str
    key_name: str
    model: str
    status: RequestStatus
    reserved: int
    charged: int
    shortfall: int
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    details: dict[str, int]
    code: str | None
    upstream_ms: int | None
    created_at_us: int
    resolved_at_us: int | None
    endpoint: str
    token_class: str
    is_stream: bool
    first_event_ms: int | None
    client_left: bool

    @property
    def stream_end(self) -> str | None:
        """How a stream ended: `completed`, `client_left`, or the error code. None for others, and while it runs."""
        if not self.is_stream or self.status == RequestStatus.PENDING:
            return None
        if self.is_billed:
            return "client_left" if self.client_left else "completed"
        return self.code or "expired"

    @property
    def is_billed(self) -> bool:
        """Whether the request was charged."""
        return self.status == RequestStatus.SETTLED

    @property
    def released(self) -> int:
        """The tokens of the reservation that were released."""
        return 0 if self.status == RequestStatus.PENDING else max(0, self.reserved - self.charged)


class RequestFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects requests from `since_us` (inclusive) to `until_us` (exclusive). None doesn't restrict the selection.

    Times are truncated to milliseconds, the precision of request ids. `is_rejected` selects only rejected requests, or
    none of them. `code` is an error code, so it selects only requests that were not billed. The tokens are those that
    were billed, so they select only billed requests. The latency is the time at the upstream, which rejected requests
    and those in progress don't have. Both ends of tokens and latency are inclusive.
    """

    since_us: int | None = None
    until_us: int | None = None
    model: str | None = None
    api_key_id: str | None = None
    status: RequestStatus | None = None
    is_rejected: bool | None = None
    code: str | None = None
    tokens_min: int | None = None
    tokens_max: int | None = None
    latency_ms_min: int | None = None
    latency_ms_max: int | None = None

    @property
    def is_measured(self) -> bool:
        """Whether it selects by tokens or latency, which no index has."""
        return self._has_tokens or self._has_latency

    @property
    def has_rejected(self) -> bool:
        """Whether rejected requests can match."""
        return self.is_rejected is not False and self.status is None and not self.is_measured

    @property
    def statuses(self) -> frozenset[RequestStatus]:
        """The statuses that can match. Rejected requests have none of them."""
        statuses = frozenset() if self.is_rejected else frozenset(RequestStatus)
        if self.status is not None:
            statuses &= {self.status}
        if self.code is not None:
            statuses &= NOT_BILLED
        if self._has_tokens:
            statuses &= {RequestStatus.SETTLED}
        return statuses - {RequestStatus.PENDING} if self._has_latency else statuses

    @property
    def has_billed(self) -> bool:
        """Whether billed requests can match."""
        return RequestStatus.SETTLED in self.statuses

    @property
    def _has_tokens(self) -> bool:
        return self.tokens_min is not None or self.tokens_max is not None

    @property
    def _has_latency(self) -> bool:
        return self.latency_ms_min is not None or self.latency_ms_max is not None


class UseFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects use from `since_quarter` (inclusive) to `until_quarter` (exclusive). None doesn't restrict the selection.

    Quarter hours count from the Unix epoch, in UTC.
    """

    since_quarter: int | None = None
    until_quarter: int | None = None
    model: str | None = None
    api_key_id: str | None = None


class UseTotals(msgspec.Struct, frozen=True, kw_only=True):
    """The number of charged requests and their tokens."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    charged: int


class RequestSearch(msgspec.Struct, frozen=True, kw_only=True):
    """The matching requests among the newest ones that were searched, newest first.

    `totals` are those of all billed requests that match among them, including those not in `rows`. They are None
    if the filter selects none. Nothing below the id `searched_to` was searched. It is None if nothing is left.
    """

    rows: list[RequestRecord]
    totals: UseTotals | None
    searched_to: str | None


class BucketOfUse(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens and requests charged from `quarter` to the next bucket for a model or key, whose id is `series`."""

    quarter: int
    series: str
    charged: int
    requests: int


class UseRow(msgspec.Struct, frozen=True, kw_only=True):
    """The use of one model with one key, from `quarter` to the next bucket."""

    quarter: int
    model: str
    api_key_id: str
    totals: UseTotals


class DayOfUse(msgspec.Struct, frozen=True, kw_only=True):
    """The charged requests of one UTC day, of all or of one model or key (`series`). `day` counts from the epoch."""

    day: int
    series: str | None
    totals: UseTotals


class UseBy(StrEnum):
    """The dimension by which use is grouped."""

    MODEL = "model"
    KEY = "key"


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable change of a wallet's posted tokens. `posted_after` is the balance after it.

    `number` counts the entries of the wallet from 1. `reason` and `author` say why the operator made a correction, and
    who made it. `reverses_request_id` is the request whose charge the entry gives back.
    """

    token_class: str
    number: int
    kind: EntryKind
    amount: int
    posted_after: int
    request_id: str | None
    reason: str | None
    author: str | None
    reverses_request_id: str | None
    created_at_us: int

    @property
    def id(self) -> str:
        """Identifies the entry in its account. Unlike the row's id, it doesn't count the entries of all accounts."""
        return f"{self.created_at_us}-{self.number}-{self.token_class}"


class BudgetUse(msgspec.Struct, frozen=True, kw_only=True):
    """What a key has spent and reserved in a period of a budget, in tokens. A `total` budget never resets."""

    budget: KeyBudget
    spent: int
    pending: int
    resets_at_us: int | None
