"""The rows that are read for a period add up to it, and they are few in every time zone."""

import zoneinfo
from collections import Counter, defaultdict
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from tok0n.adapters.sql.repositories.span_rows import LENGTHS, QUARTERS_PER_DAY, targets_by_length
from tok0n.web.rendering.charts import BarPeriod

DAYS = 90
SINCE = 1_986_913


@given(edges=st.sets(st.integers(0, 600), min_size=2), complete_days=st.integers(0, 7))
def test_the_spans_of_intervals_add_up_to_them(edges: set[int], complete_days: int) -> None:
    *starts, end = sorted(edges)
    long_until = complete_days * QUARTERS_PER_DAY
    counts: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for length, targets in targets_by_length(starts, end, long_until=long_until).items():
        for (first, until), intervals in targets.items():
            assert first < until
            assert first % length == until % length == 0
            assert length == 1 or until <= long_until
            for start, sign in intervals:
                for quarter in range(first, until):
                    counts[start][quarter] += sign
    for start, until in zip(starts, [*starts[1:], end], strict=True):
        assert {quarter: count for quarter, count in counts[start].items() if count} == dict.fromkeys(
            range(start, until), 1
        )


def test_the_days_of_every_time_zone_need_few_rows() -> None:
    for name in zoneinfo.available_timezones():
        bars = BarPeriod(since_quarter=SINCE, until_quarter=SINCE + DAYS * 96, zone=ZoneInfo(name), now_us=0)
        assert len(bars.starts) in {DAYS, DAYS + 1}
        spans = targets_by_length(bars.starts, bars.until_quarter)
        rows = sum((until - first) // length for length in LENGTHS for first, until in spans[length])
        assert rows <= 8 * DAYS, name
