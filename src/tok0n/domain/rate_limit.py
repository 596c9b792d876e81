"""Count the events of the last minute exactly. `now` is an argument, in monotonic seconds."""

from collections import deque

import msgspec

WINDOW_SECONDS = 60.0
"""The length of the rolling window. An event at t counts until t + 60, exclusive."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The three limits."""

    requests_per_minute_per_key: int
    concurrent_requests_per_account: int
    upstream_requests_per_minute: int


class SlidingWindow:
    """The times of the events of the last 60 seconds, oldest first.

    Add events in order of time. The caller limits their number: each takes one machine word and one float.
    """

    __slots__ = ("_events", "_first", "_removed")

    def __init__(self) -> None:
        self._events: deque[float | None] = deque()
        self._first = 0
        self._removed = 0

    def count(self, now: float) -> int:
        """Return how many events count at `now`."""
        events = self._events
        horizon = now - WINDOW_SECONDS
        while events:
            oldest = events[0]
            if oldest is None:
                self._removed -= 1
            elif oldest > horizon:
                break
            events.popleft()
            self._first += 1
        return len(events) - self._removed

    def add(self, now: float) -> int:
        """Count an event at `now`. Returns its number, for `take_back`."""
        self._events.append(now)
        return self._first + len(self._events) - 1

    def take_back(self, number: int) -> None:
        """Stop counting an event. Does nothing if it has expired or is already taken back."""
        index = number - self._first
        if index >= 0 and self._events[index] is not None:
            self._events[index] = None
            self._removed += 1

    def seconds_until_room(self, now: float) -> float:
        """Return the seconds until the oldest event stops counting. Call `count` first."""
        oldest = self._events[0] if self._events else None
        return 0.0 if oldest is None else max(0.0, oldest + WINDOW_SECONDS - now)

    def seconds_until_empty(self, now: float) -> float:
        """Return the seconds until no event counts. Call `count` first."""
        newest = next((event for event in reversed(self._events) if event is not None), None)
        return 0.0 if newest is None else max(0.0, newest + WINDOW_SECONDS - now)
