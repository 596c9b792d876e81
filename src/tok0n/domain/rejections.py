"""Rejected requests: those that ended with an error before they reserved tokens. They have no row in the ledger.

Nothing here holds a text of the client: see `rejection_messages`.
"""

import msgspec

from tok0n.domain.ledger import RequestStatus
from tok0n.domain.rejection_messages import Arguments, CompactMessage, expand

REJECTED = "rejected"
"""The status of a rejected request in the API and on pages."""


REQUEST_STATUSES = (*(status.lower() for status in RequestStatus), REJECTED)
"""The statuses of requests that the API and pages know."""


def status_filter(status: str) -> tuple[RequestStatus | None, bool | None]:
    """Return `status` and `is_rejected` of the `RequestFilter` for one of `REQUEST_STATUSES`; None for other texts."""
    if status == REJECTED:
        return None, True
    return (RequestStatus(status.upper()), False) if status in REQUEST_STATUSES else (None, None)


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """A rejected request to store. `model` is the id of a declared model, or None.

    `key` is the account and the API key, as ids, or the digest of a secret that may be that of an inactive key.
    """

    id: str
    key: tuple[str, str] | bytes
    endpoint: str
    model: str | None
    http_status: int
    code: str
    message: CompactMessage
    created_at_us: int


class RejectionCount(msgspec.Struct, frozen=True, kw_only=True):
    """What rejected requests are counted by. `quarter` counts quarter hours from the Unix epoch."""

    key: tuple[str, str] | bytes
    quarter: int
    model: str | None
    code: str


class RejectionTotal(msgspec.Struct, kw_only=True):
    """How many requests were rejected, and how many of them were stored."""

    requests: int = 0
    stored: int = 0


class RejectedRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A stored rejected request. The time is in microseconds since the Unix epoch."""

    id: str
    api_key_id: str
    key_name: str
    endpoint: str
    model: str | None
    http_status: int
    code: str
    param: str | None
    template: str
    arguments: Arguments
    created_at_us: int

    @property
    def message(self) -> str:
        """The message of the error, without names and values that the client chose."""
        return expand(self.template, self.arguments, code=self.code, param=self.param, model=self.model)
