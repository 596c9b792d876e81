"""Calendar months in a time zone. Times are microseconds since the Unix epoch."""

import re
from datetime import UTC, datetime, tzinfo

import msgspec

from tok0n.domain.ledger import MICROSECONDS_PER_SECOND

_MONTH = re.compile(r"([0-9]{4})-(0[1-9]|1[0-2])")
_YEARS = range(1971, 9000)
"""Years whose months can be computed in any time zone."""


class Month(msgspec.Struct, frozen=True, order=True):
    """A month of the Gregorian calendar."""

    year: int
    month: int

    def __str__(self) -> str:
        return f"{self.year:04}-{self.month:02}"

    @property
    def title(self) -> str:
        """The month in words, such as "November 2026"."""
        return f"{datetime(self.year, self.month, 1, tzinfo=UTC):%B %Y}"

    @property
    def following(self) -> "Month":
        """The month after this one."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def preceding(self) -> "Month":
        """The month before this one."""
        return Month(self.year - (self.month == 1), (self.month - 2) % 12 + 1)

    def starts_at_us(self, zone: tzinfo) -> int:
        """Return when the month starts in a time zone.

        If the clocks skip or repeat its first midnight, it starts with the skipped or with the earlier one.
        """
        return round(datetime(self.year, self.month, 1, tzinfo=zone).timestamp()) * MICROSECONDS_PER_SECOND

    def ends_at_us(self, zone: tzinfo) -> int:
        """Return when the next month starts in a time zone."""
        return self.following.starts_at_us(zone)


def month_at(at_us: int, zone: tzinfo) -> Month:
    """Return the month that contains a time."""
    local = datetime.fromtimestamp(at_us // MICROSECONDS_PER_SECOND, zone)
    return Month(local.year, local.month)


def parse_month(text: str) -> Month | None:
    """Return a month that is written as 2026-11. None for anything else."""
    match = _MONTH.fullmatch(text)
    if match is None or int(match[1]) not in _YEARS:
        return None
    return Month(int(match[1]), int(match[2]))
