"""Latencies as histograms with fixed logarithmic buckets, which can be added up. Integers only.

A bucket ends at most 1/8 above its start, so a percentile is at most 12.5 % above the exact one, and never below it.
"""

import struct
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

FINE_MS = 8
"""Up to here, a bucket is one millisecond."""

COUNT_BITS = 32
"""The bits that a packed histogram has for the count of a bucket. No count needs more."""

_STEPS = 8
"""The buckets of each power of two above `FINE_MS`."""


def bucket_of(latency_ms: int) -> int:
    """Return the bucket of a latency. Larger latencies have larger buckets."""
    if latency_ms < FINE_MS:
        return max(0, latency_ms)
    power = latency_ms.bit_length() - 1
    return FINE_MS + (power - 3) * _STEPS + ((latency_ms - (1 << power)) >> (power - 3))


def highest_ms(bucket: int) -> int:
    """Return the highest latency of a bucket in milliseconds."""
    if bucket < FINE_MS:
        return bucket
    power, step = divmod(bucket - FINE_MS, _STEPS)
    return ((FINE_MS + step + 1) << power) - 1


def merge(histograms: Iterable[Mapping[int, int]]) -> Counter[int]:
    """Add up histograms, which map buckets to counts."""
    merged: Counter[int] = Counter()
    for histogram in histograms:
        merged.update(histogram)
    return merged


def pack(histogram: Mapping[int, int]) -> int:
    """Return a histogram as one integer, with 32 bits for each bucket. Sums of packed histograms add up the counts."""
    return sum(count << (bucket * COUNT_BITS) for bucket, count in histogram.items())


def counts(packed: int) -> tuple[int, ...]:
    """Return the count of each bucket of a packed histogram, from bucket 0 to the last one that isn't empty."""
    buckets = -(-packed.bit_length() // COUNT_BITS)
    return struct.unpack(f"<{buckets}I", packed.to_bytes(buckets * COUNT_BITS // 8, "little"))


def unpack(packed: int) -> dict[int, int]:
    """Return the histogram of `pack`, without empty buckets."""
    return {bucket: count for bucket, count in enumerate(counts(packed)) if count}


def percentile_ms(cumulative: Sequence[int], percent: int) -> int:
    """Return a latency that at least `percent` percent of the requests didn't exceed.

    `cumulative` has the number of requests up to each bucket. There must be requests.
    """
    rank = -(-cumulative[-1] * percent // 100)
    return highest_ms(bisect_left(cumulative, rank))
