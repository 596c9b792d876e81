"""Start a bounded number of requests per event-loop iteration, and shed load when the queue falls behind.

The event loop handles every ready socket in one iteration, so a burst of requests would move through each step as a
burst: read together, committed together, sent together. `PacedQueue` spreads a burst over several iterations, and work
in progress runs between them.

Load shedding is like CoDel (controlled delay): what counts is how long items wait, not how many there are. A burst of
any size is accepted. When the oldest item has waited for too long, the queue accepts only a few more until it has
recovered.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

ITEMS_PER_TICK = 24
"""One or two milliseconds of work. Fewer items make smaller group commits, which cost more CPU per request."""

QUEUE_DELAY_SECONDS_MAX = 0.2
"""When the oldest item has waited for longer than this, the queue sheds load."""

QUEUE_LENGTH_WHILE_SHEDDING_MAX = 64
"""While the queue sheds load it accepts items up to this length, so accepted items wait for tens of milliseconds."""

SHED_SECONDS = 1.0
"""How long the queue sheds load after the last sign of overload. Rejected clients retry after about as long."""

Item = TypeVar("Item")


class PacedQueue(Generic[Item]):
    """Calls `handle` with each item in order of arrival: at once, or in one of the next event-loop iterations."""

    def __init__(self, handle: Callable[[Item], None]) -> None:
        self._handle = handle
        self._waiting: deque[tuple[float, Item]] = deque()
        self._left = ITEMS_PER_TICK
        self._is_scheduled = False
        self._shedding_until = 0.0

    def __len__(self) -> int:
        """The number of items that wait."""
        return len(self._waiting)

    def is_overloaded(self) -> bool:
        """Whether the caller should reject an item instead of adding it."""
        if not self._waiting:
            return False
        now = asyncio.get_running_loop().time()
        if now - self._waiting[0][0] > QUEUE_DELAY_SECONDS_MAX:
            self._shedding_until = now + SHED_SECONDS
        if now >= self._shedding_until or len(self._waiting) < QUEUE_LENGTH_WHILE_SHEDDING_MAX:
            return False
        self._shedding_until = now + SHED_SECONDS
        return True

    def add(self, item: Item) -> None:
        """Handle an item, now or later. Call it only from the event loop's thread."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next_tick)
        if self._left and not self._waiting:
            self._left -= 1
            self._handle(item)
        else:
            self._waiting.append((asyncio.get_running_loop().time(), item))

    def _next_tick(self) -> None:
        self._is_scheduled = bool(self._waiting)
        self._left = ITEMS_PER_TICK
        if self._is_scheduled:
            asyncio.get_running_loop().call_soon(self._next_tick)
        while self._left and self._waiting:
            self._left -= 1
            self._handle(self._waiting.popleft()[1])
