"""Deal with what comes a few at a time, so that what is under way goes before what is new.

One turn of the event loop deals with all that has come. Of a crowd that came together the first would wait until the
last was read, and all would go on together: they stay a crowd, and wait for each other at each step.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

EACH_TURN = 24
"""A millisecond's work or two: fewer make group commits smaller, each of which costs as much as many calls."""

CROWD_SECONDS_MAX = 0.2
"""A crowd may come at any time; when its first still waits after this, more comes than can be dealt with."""

WAITING_MAX = 64
"""How many may wait while more comes than can be dealt with, so that they wait for tens of milliseconds only."""

OVERRUN_SECONDS = 1.0
"""Who was sent away comes back after about so long."""

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """Calls `act` with each item in the order that they came, at once or in one of the next turns of the event loop."""

    def __init__(self, act: Callable[[Item], None]) -> None:
        self._act = act
        self._waiting: deque[tuple[float, Item]] = deque()
        self._left = EACH_TURN
        self._is_counting = False
        self._overrun_until = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def has_room(self) -> bool:
        """Whether another item would not wait for long. A crowd now and then has room; what never ends has not."""
        if not self._waiting:
            return True
        now = asyncio.get_running_loop().time()
        if now - self._waiting[0][0] > CROWD_SECONDS_MAX:
            self._overrun_until = now + OVERRUN_SECONDS
        if now >= self._overrun_until or len(self._waiting) < WAITING_MAX:
            return True
        self._overrun_until = now + OVERRUN_SECONDS
        return False

    def add(self, item: Item) -> None:
        """Act on an item in its turn. Only on the event loop's thread."""
        if not self._is_counting:
            self._is_counting = True
            asyncio.get_running_loop().call_soon(self._next_turn)
        if self._left and not self._waiting:
            self._left -= 1
            self._act(item)
        else:
            self._waiting.append((asyncio.get_running_loop().time(), item))

    def _next_turn(self) -> None:
        self._is_counting = bool(self._waiting)
        self._left = EACH_TURN
        if self._is_counting:
            asyncio.get_running_loop().call_soon(self._next_turn)
        while self._left and self._waiting:
            self._left -= 1
            self._act(self._waiting.popleft()[1])
