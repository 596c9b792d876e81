"""Count what happened in the last minute, exactly. Knows no clock: `now` comes in, in seconds that never go back."""

from collections import deque

import msgspec

WINDOW_SECONDS = 60.0
"""Every rate is per rolling minute: an event at t counts up to, and not at, t + 60."""


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The three limits."""

    requests_per_minute_per_key: int
    concurrent_requests_per_account: int
    upstream_requests_per_minute: int


class SlidingWindow:
    """The times of the events of the last 60 seconds, oldest first.

    Holds at most `limit` live events, one machine word and one float each; events are added in order of time.
    """

    __slots__ = ("_events", "_first", "_taken_back")

    def __init__(self) -> None:
        self._events: deque[float | None] = deque()
        self._first = 0
        self._taken_back = 0

    def count(self, now: float) -> int:
        """The events that count at `now`."""
        events = self._events
        horizon = now - WINDOW_SECONDS
        while events:
            oldest = events[0]
            if oldest is None:
                self._taken_back -= 1
            elif oldest > horizon:
                break
            events.popleft()
            self._first += 1
        return len(events) - self._taken_back

    def add(self, now: float) -> int:
        """Count an event at `now`; gives the number by which it can be taken back."""
        self._events.append(now)
        return self._first + len(self._events) - 1

    def take_back(self, number: int) -> None:
        """Uncount an event, if it still counts."""
        index = number - self._first
        if index >= 0 and self._events[index] is not None:
            self._events[index] = None
            self._taken_back += 1

    def seconds_until_room(self, now: float) -> float:
        """How long until the oldest event stops counting. Call after `count`."""
        oldest = self._events[0] if self._events else None
        return 0.0 if oldest is None else max(0.0, oldest + WINDOW_SECONDS - now)

    def seconds_until_empty(self, now: float) -> float:
        """How long until no event counts. Call after `count`."""
        newest = next((event for event in reversed(self._events) if event is not None), None)
        return 0.0 if newest is None else max(0.0, newest + WINDOW_SECONDS - now)
