"""How `request_outcome` stores requests: in which rows a time is counted, and how a row stores its histogram.

A request counts in three rows: that of its quarter hour, of its six hours and of its UTC day. So any period is a sum
and a difference of few rows: a local day is a UTC day, plus and minus some rows of six hours and quarter hours.
"""

import itertools
from collections import defaultdict
from collections.abc import Sequence

from tok0n.domain.latency import COUNT_BITS

LENGTHS = (1, 24, 96)
"""The lengths of the rows, in quarter hours."""

_SIX_HOURS, _DAY = LENGTHS[1:]

Spans = dict[int, dict[tuple[int, int], list[tuple[int, int]]]]
"""Ranges of rows, by the length of the rows: the first quarter hour, and the one after the last.

Each value lists the intervals to whose sums the rows are added (1) or from which they are subtracted (-1), by the start
of the interval. For example, an interval from 06:00 of one day to 00:00 of the next day but one is two rows of days,
minus the row of the first six hours: `{96: {(0, 192): [(24, 1)]}, 24: {(0, 24): [(24, -1)]}}`.
"""


def spans(starts: Sequence[int], until_quarter: int) -> Spans:
    """Return the rows whose sum is that of each interval, which lasts until the start of the next one."""
    by_length: Spans = {length: defaultdict(list) for length in LENGTHS}
    for start, end in itertools.pairwise([*starts, until_quarter]):
        first_day, end_day = (round(edge / _DAY) * _DAY for edge in (start, end))
        if first_day >= end_day:
            by_length[1][start, end].append((start, 1))
            continue
        by_length[_DAY][first_day, end_day].append((start, 1))
        for day, edge, sign in ((first_day, start, -1), (end_day, end, 1)):
            middle = round(edge / _SIX_HOURS) * _SIX_HOURS
            for length, since, until in ((_SIX_HOURS, day, middle), (1, middle, edge)):
                if since < until:
                    by_length[length][since, until].append((start, sign))
                elif until < since:
                    by_length[length][until, since].append((start, -sign))
    return by_length


def encode(packed: int) -> bytes:
    """Return a packed histogram as bytes: the number of its first bucket, and the counts from there on."""
    if not packed:
        return b""
    bucket = ((packed & -packed).bit_length() - 1) // COUNT_BITS
    counts = packed >> (bucket * COUNT_BITS)
    return bucket.to_bytes(2, "little") + counts.to_bytes(-(-counts.bit_length() // 8), "little")


def decode(stored: bytes) -> int:
    """Return the packed histogram of `encode`."""
    return int.from_bytes(stored[2:], "little") << (int.from_bytes(stored[:2], "little") * COUNT_BITS)
