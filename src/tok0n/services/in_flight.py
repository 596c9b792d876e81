"""Count the calls that are under way, so that an end can wait for them."""

import asyncio
from types import TracebackType


class InFlight:
    """Entered by each call; `idle` waits until the last has left."""

    def __init__(self) -> None:
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        if not self._calls:
            self._idle.clear()
        self._calls += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._calls -= 1
        if not self._calls:
            self._idle.set()

    async def idle(self) -> None:
        """Wait until no call is in flight."""
        await self._idle.wait()
