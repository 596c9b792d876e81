"""The wall clock and the monotonic clock."""

from typing import Protocol


class Clock(Protocol):
    """The two times there are."""

    def now_us(self) -> int:
        """Microseconds since the Unix epoch, for what is stored."""

    def monotonic(self) -> float:
        """Seconds that never go back, for what is measured."""
