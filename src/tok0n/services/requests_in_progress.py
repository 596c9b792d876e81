"""Count the requests that can outlive their HTTP request, so that shutdown can wait for them.

The server itself waits for the HTTP requests of its connections.
"""

import asyncio
from types import TracebackType


class RequestsInProgress:
    """A context manager that each such request enters. `wait_until_idle` waits for all."""

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

    async def wait_until_idle(self) -> None:
        """Wait until no request is in progress."""
        await self._idle.wait()
