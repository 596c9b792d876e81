"""Count the events of the last minute exactly. `now` is an argument, in monotonic seconds."""

import math
from array import array

import msgspec

WINDOW_SECONDS = 60.0
"""The length of the rolling window. An event at t counts until t + 60, exclusive."""


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The three limits."""

    requests_per_minute_per_key: int
    concurrent_requests_per_account: int
    upstream_requests_per_minute: int

    def key_limit(self, requests_per_minute: int | None) -> int:
        """Return the limit of a key that may have its own, which is never above that of the installation."""
        limit = self.requests_per_minute_per_key
        return limit if requests_per_minute is None else min(limit, requests_per_minute)


class SlidingWindow:
    """The times of the events of the last 60 seconds, oldest first.

    Add events in order of time. The caller limits their number: each takes eight bytes.
    """

    __slots__ = ("_first", "_removed", "_start", "_times")

    def __init__(self) -> None:
        self._times = array("d")
        """Events that expired may still stand before `_start`. Those taken back are NaN."""
        self._start = 0
        self._first = 0
        """The number of the event at index 0."""
        self._removed = 0

    def count(self, now: float) -> int:
        """Return how many events count at `now`."""
        times, start = self._times, self._start
        end = len(times)
        horizon = now - WINDOW_SECONDS
        if start < end and times[start] > horizon:
            return end - start - self._removed
        while start < end:
            time = times[start]
            if time > horizon:
                break
            if math.isnan(time):
                self._removed -= 1
            start += 1
        if start * 2 > end:
            del times[:start]
            self._first += start
            start = 0
        self._start = start
        return len(times) - start - self._removed

    def add(self, now: float) -> int:
        """Count an event at `now`. Returns its number, for `take_back`."""
        self._times.append(now)
        return self._first + len(self._times) - 1

    def add_below(self, limit: int, now: float) -> int:
        """Count an event at `now` unless `limit` events count already. Returns its number, or -1."""
        times, start = self._times, self._start
        # As `count`, in place for speed.
        if start < len(times) and times[start] > now - WINDOW_SECONDS:
            counted = len(times) - start - self._removed
        else:
            counted = self.count(now)
        if counted >= limit:
            return -1
        times.append(now)
        return self._first + len(times) - 1

    def take_back(self, number: int) -> None:
        """Stop counting an event. Does nothing if it has expired or is already taken back."""
        index = number - self._first
        if index >= self._start and not math.isnan(self._times[index]):
            self._times[index] = math.nan
            self._removed += 1

    def seconds_until_room(self, now: float) -> float:
        """Return the seconds until the oldest event stops counting. Call `count` first."""
        if self._start == len(self._times):
            return 0.0
        return max(0.0, self._times[self._start] + WINDOW_SECONDS - now)

    def seconds_until_empty(self, now: float) -> float:
        """Return the seconds until no event counts. Call `count` first."""
        newest = next((time for time in reversed(self._times) if not math.isnan(time)), None)
        return 0.0 if newest is None else max(0.0, newest + WINDOW_SECONDS - now)
