"""A stored histogram is read as it was, whatever the latencies are."""

from hypothesis import given
from hypothesis import strategies as st

from tok0n.adapters.sql.repositories.outcome_rows import decode, encode
from tok0n.domain.latency import bucket_of, pack

HALF_A_YEAR_MS = 180 * 86_400_000


@given(st.dictionaries(st.integers(0, HALF_A_YEAR_MS).map(bucket_of), st.integers(1, 2**32 - 1)))
def test_every_histogram_is_read_as_it_was_stored(histogram: dict[int, int]) -> None:
    packed = pack(histogram)
    assert decode(encode(packed)) == packed
