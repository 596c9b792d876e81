"""Latencies in logarithmic buckets: percentiles are never too low, and at most an eighth too high."""

import itertools

from hypothesis import assume, given
from hypothesis import strategies as st

from tok0n.domain.latency import COUNT_BITS, bucket_of, counts, highest_ms, merge, pack, percentile_ms, unpack
from tok0n.domain.outcomes import percentiles

LATENCY = st.integers(0, 10**8)


@given(LATENCY)
def test_a_bucket_has_the_latency_and_is_narrow(latency_ms: int) -> None:
    highest = highest_ms(bucket_of(latency_ms))
    assert latency_ms <= highest <= latency_ms * 9 / 8
    assert bucket_of(highest) == bucket_of(latency_ms) == bucket_of(highest + 1) - 1


@given(st.lists(LATENCY, min_size=1), st.integers(1, 100))
def test_a_percentile_of_added_histograms_is_close_to_the_exact_one(latencies: list[int], percent: int) -> None:
    packed = sum(pack({bucket_of(latency_ms): 1}) for latency_ms in latencies)
    exact = sorted(latencies)[-(-len(latencies) * percent // 100) - 1]
    found = percentile_ms(list(itertools.accumulate(counts(packed))), percent)
    assert exact <= found <= exact * 9 / 8


@given(st.lists(LATENCY, min_size=1))
def test_the_median_is_the_50th_percentile_and_at_most_the_95th(latencies: list[int]) -> None:
    found = percentiles(sum(pack({bucket_of(latency_ms): 1}) for latency_ms in latencies))
    assert found is not None
    assert found.requests == len(latencies)
    assert found.p50_ms == highest_ms(bucket_of(sorted(latencies)[(len(latencies) - 1) // 2]))
    assert found.p50_ms <= found.p95_ms


def test_no_requests_have_no_percentiles() -> None:
    assert percentiles(pack({})) is None


@given(histograms=st.lists(st.dictionaries(st.integers(0, 300), st.integers(1, 2**31)), max_size=3))
def test_packed_histograms_add_up_as_histograms_do(histograms: list[dict[int, int]]) -> None:
    assume(max(merge(histograms).values(), default=0) < 2**COUNT_BITS)
    packed = sum(map(pack, histograms))
    assert unpack(packed) == merge(histograms)
    assert unpack(packed - sum(map(pack, histograms[1:]))) == merge(histograms[:1])
