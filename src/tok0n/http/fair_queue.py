"""Share the event loop fairly between a client with hundreds of connections and a client with one.

The event loop handles every ready socket in one iteration. This queue gives each iteration a time budget. Callbacks
beyond the budget wait for a later iteration, and the queue picks them round-robin by client (fair queuing). A callback
starts one request, or processes one socket read of a long request.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from time import monotonic

BUDGET_SECONDS = 0.002
"""How long callbacks may run in one iteration. A callback that has started always finishes."""

CALLBACK_SECONDS_MIN = 0.0005
"""The least that a callback counts. It also causes work outside: a socket read before it, or a task after it."""

YIELD_SECONDS = 0.001
"""How long the queue leaves the event loop alone between two runs while callbacks wait.

Database threads need this. They acquire Python's global lock about a hundred times per transaction, and while the event
loop is busy they get it only every half millisecond.
"""


class FairQueue:
    """Runs callbacks within the budget of each iteration. Call it only from the event loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._seconds_left = BUDGET_SECONDS
        self._is_scheduled = False
        self._waiting: dict[Hashable, deque[Callable[[], None]]] = {}

    def __len__(self) -> int:
        """The number of callbacks that wait."""
        return sum(map(len, self._waiting.values()))

    def has_budget(self) -> bool:
        """Whether this iteration can run another callback. If it can, call `run`; otherwise call `enqueue`."""
        return not self._waiting and self._seconds_left > 0

    def run(self, callback: Callable[[], None]) -> None:
        """Run a callback now and subtract its time from the budget."""
        if not self._is_scheduled:
            self._schedule()
        started = monotonic()
        callback()
        self._seconds_left -= max(CALLBACK_SECONDS_MIN, monotonic() - started)

    def enqueue(self, client: Hashable, callback: Callable[[], None]) -> None:
        """Run a callback in a later run of the queue. It must not raise. Callbacks of one client run in order."""
        self._waiting.setdefault(client, deque()).append(callback)
        if not self._is_scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._is_scheduled = True
        if self._waiting:
            self._loop.call_later(YIELD_SECONDS, self._run_waiting)
        else:  # The next iteration of the event loop only gets a new budget.
            self._loop.call_soon(self._run_waiting)

    def _run_waiting(self) -> None:
        self._is_scheduled = False
        self._seconds_left = BUDGET_SECONDS
        while self._waiting and self._seconds_left > 0:
            client = next(iter(self._waiting))
            callbacks = self._waiting.pop(client)
            callback = callbacks.popleft()
            if callbacks:
                self._waiting[client] = callbacks  # a dict keeps insertion order: this client is last now
            self.run(callback)
