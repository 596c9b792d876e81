"""The wall clock and the monotonic clock."""

from typing import Protocol


class Clock(Protocol):
    """The wall clock for times that are stored, and the monotonic clock for durations."""

    def now_us(self) -> int:
        """Return the microseconds since the Unix epoch."""

    def monotonic(self) -> float:
        """Return monotonic seconds."""
