"""How requests ended over time: how long they took, how many failed, and how many were rejected."""

import itertools

import msgspec

from tok0n.domain import latency


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """The latencies of billed requests at the upstream, from `quarter` to the next interval, for a model or key.

    `series` is its id. `packed` is their histogram, as `latency.pack` returns it.
    """

    quarter: int
    series: str
    packed: int


class ErrorCount(msgspec.Struct, frozen=True, kw_only=True):
    """The requests that were not billed, in the interval from `quarter`, for a model or key with the id `series`.

    `failed` ones had reserved tokens, `rejected` ones had not. Rejected requests without a known model have the model
    ''.
    """

    quarter: int
    series: str
    failed: int
    rejected: int

    @property
    def errors(self) -> int:
        """The number of all of them."""
        return self.failed + self.rejected


class Percentiles(msgspec.Struct, frozen=True, kw_only=True):
    """The median and the 95th percentile of latencies in milliseconds, and the number of requests."""

    requests: int
    p50_ms: int
    p95_ms: int


def percentiles(packed: int) -> Percentiles | None:
    """Return the percentiles of a packed histogram. None without requests."""
    cumulative = list(itertools.accumulate(latency.counts(packed)))
    if not cumulative:
        return None
    p50_ms, p95_ms = (latency.percentile_ms(cumulative, percent) for percent in (50, 95))
    return Percentiles(requests=cumulative[-1], p50_ms=p50_ms, p95_ms=p95_ms)
