"""What an account can look back on: its requests, its use by the hour, its ledger entries. Nothing here has content."""

from enum import StrEnum

import msgspec

from tok0n.domain.ledger import EntryKind, RequestStatus


class RequestRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One request and its receipt. Amounts are tokens, times microseconds since the Unix epoch.

    `code` is why it was not billed, in the words of the error table; None for one that was, or is in flight.
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

    @property
    def is_billed(self) -> bool:
        """Whether it cost anything."""
        return self.status == RequestStatus.SETTLED

    @property
    def released(self) -> int:
        """What of the reservation was given back."""
        return 0 if self.status == RequestStatus.PENDING else max(0, self.reserved - self.charged)


class RequestFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which requests: made from `since_us` on, before `until_us`, of one model, key or status. None is no limit.

    Times count in whole milliseconds, as ids do.
    """

    since_us: int | None = None
    until_us: int | None = None
    model: str | None = None
    api_key_id: str | None = None
    status: RequestStatus | None = None


class UseFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which use: charged from `since_hour` on and before `until_hour`, of one model or key. None is no limit.

    Hours count from the Unix epoch, in UTC.
    """

    since_hour: int | None = None
    until_hour: int | None = None
    model: str | None = None
    api_key_id: str | None = None


class UseTotals(msgspec.Struct, frozen=True, kw_only=True):
    """What was charged: so many requests, and their tokens."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    charged: int


class HourOfUse(msgspec.Struct, frozen=True, kw_only=True):
    """What was charged in one hour on one model, or with one key: `series` is the id of it."""

    hour: int
    series: str
    charged: int


class UseBy(StrEnum):
    """What use is told apart by."""

    MODEL = "model"
    KEY = "key"


class LedgerEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One immutable change of what an account owns, and what it owned after it."""

    id: int
    kind: EntryKind
    amount: int
    posted_after: int
    request_id: str | None
    reason: str | None
    created_at_us: int
