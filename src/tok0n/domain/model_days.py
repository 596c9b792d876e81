"""How a model did on each day: the verifications, and the requests of all accounts."""

import msgspec

DAYS_KEPT = 90
LATENCY_DAYS = 7
REQUESTS_MIN = 20
"""Fewer requests say too little about a model, and too much about the accounts that sent them."""


class ModelDay(msgspec.Struct, frozen=True, kw_only=True):
    """A UTC day, counted from the Unix epoch.

    `failed` are the requests that the upstream failed. Requests that an account got wrong count as neither.
    `latencies` maps the buckets of `domain.latency` to counts of the settled requests.
    """

    model: str
    day: int
    settled: int = 0
    failed: int = 0
    latencies: dict[int, int] = {}
    passed: int = 0
    not_passed: int = 0

    @property
    def availability_permille(self) -> int | None:
        """The share of verifications, and of requests if they are enough, that succeeded, rounded down."""
        enough = self.settled + self.failed >= REQUESTS_MIN
        good = self.passed + (self.settled if enough else 0)
        bad = self.not_passed + (self.failed if enough else 0)
        return 1_000 * good // (good + bad) if good + bad else None


class VerificationResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one verification of a model on an endpoint. `code` is the error code of a failure.

    `latency_ms` is the time to the end of the response. Only streams have `first_event_ms`, the time to the first event
    with content.
    """

    model: str
    endpoint: str
    is_stream: bool
    at_us: int
    code: str | None
    latency_ms: int | None
    first_event_ms: int | None
