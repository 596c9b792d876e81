"""The deadline of a connection, and the minimum rate of a request body."""

import asyncio
from collections.abc import Callable

from tok0n.http.limits import HttpLimits


class Watchdog:
    """Calls `on_expiry` when the deadline has passed. Moving the deadline further away doesn't touch the timer."""

    __slots__ = ("_deadline", "_loop", "_on_expiry", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, on_expiry: Callable[[], None]) -> None:
        self._loop = loop
        self._on_expiry = on_expiry
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def arm(self, seconds: float) -> None:
        """Set the deadline to `seconds` from now."""
        deadline = self._deadline = self._loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= deadline:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(deadline, self._on_timer)

    def disarm(self) -> None:
        """Remove the deadline."""
        self._deadline = None

    def cancel(self) -> None:
        """Remove the deadline and its timer: the connection is closed."""
        self._deadline = None
        if self._timer is not None:
            self._timer.cancel()

    def _on_timer(self) -> None:
        self._timer = None
        if self._deadline is None:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._on_timer)
        else:
            self._on_expiry()


class BodyRate:
    """Checks the rate and the total time of one request body. Times are those of the event loop."""

    __slots__ = ("_deadline", "_limits", "_window_bytes")

    def __init__(self, limits: HttpLimits, *, now: float, received_bytes: int) -> None:
        self._limits = limits
        self._deadline = now + limits.body_seconds
        self._window_bytes = received_bytes

    def count(self, size: int) -> None:
        """Count bytes that arrived."""
        self._window_bytes += size

    def violation(self, now: float, *, is_awaited: bool) -> str | None:
        """Return what to tell the client if its body is too slow, otherwise start the next window.

        The rate counts only while the server reads the body and the client may send it (`is_awaited`).
        """
        if now >= self._deadline:
            return f"The body must arrive within {self._limits.body_seconds:g} seconds."
        if is_awaited and self._window_bytes < self._limits.body_window_bytes_min:
            rate = self._limits.body_window_bytes_min // self._limits.body_window_seconds
            return f"The body must arrive with at least {rate:g} bytes a second."
        self._window_bytes = 0
        return None

    def window_seconds(self, now: float) -> float:
        """Return the length of the window that starts now."""
        return min(self._limits.body_window_seconds, self._deadline - now)
