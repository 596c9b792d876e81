"""Share the event loop among clients, so that one client's many requests do not make the others wait for all of them.

One iteration of the event loop handles everything that has arrived, in that order. Here only so much is done in each
iteration, and what is left is done in later ones: one piece of each client's in turn. A piece is the start of a
request, or one read of a long one.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from time import monotonic

SECONDS_PER_ITERATION = 0.002
"""How much may be done in one iteration. A piece that has begun is finished."""

PIECE_SECONDS_MIN = 0.0005
"""What a piece counts at least: the event loop has copied what it read, and the application goes on where it starts."""

PAUSE_SECONDS = 0.001
"""The event loop has nothing to do for so long, at least, before it does what had to wait.

Only then do the threads of the database get on: they need Python's global lock many times for one transaction, and wait
half a millisecond each time while the event loop is busy.
"""


class FairTurns:
    """Decides what is done in this iteration of the event loop, and what waits. Only for the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._seconds_left = SECONDS_PER_ITERATION
        self._is_scheduled = False
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}

    def __len__(self) -> int:
        """How many pieces wait."""
        return sum(map(len, self._waiting.values()))

    def has_time(self) -> bool:
        """Whether a piece can be done in this iteration: if so, call `do`, else `wait`."""
        return not self._waiting and self._seconds_left > 0

    def do(self, act: Callable[[], None]) -> None:
        """Call `act`, and count the time that it takes."""
        if not self._is_scheduled:
            self._schedule()
        began = monotonic()
        act()
        self._seconds_left -= max(PIECE_SECONDS_MIN, monotonic() - began)

    def wait(self, client: Hashable, act: Callable[[], None]) -> None:
        """Call `act`, which must not raise, in a later iteration, when it is this client's turn."""
        self._waiting.setdefault(client, deque()).append(act)
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        if self._waiting:
            self._loop.call_later(PAUSE_SECONDS, self._next_iteration)
        else:
            self._loop.call_soon(self._next_iteration)

    def _next_iteration(self) -> None:
        self._is_scheduled = False
        self._seconds_left = SECONDS_PER_ITERATION
        while self._waiting and self._seconds_left > 0:
            client = next(iter(self._waiting))
            pieces = self._waiting.pop(client)
            act = pieces.popleft()
            if pieces:
                self._waiting[client] = pieces  # behind all others
            self.do(act)
