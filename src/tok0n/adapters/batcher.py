"""Group commit: run all commands that arrived during the previous call in ONE call (docs/adr/0002).

Adds no artificial delay, and uses no thread or task while no command waits.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from tok0n.domain.errors import Overloaded

RESERVATIONS_WAITING_MAX = 512
"""Reservations are rejected if this many wait, so that an accepted one waits for tens of milliseconds only."""

Command = TypeVar("Command")
Result = TypeVar("Result")


class UncancellableFuture(asyncio.Future[Result]):
    """A future that can't be cancelled, because its command always runs.

    A task that is cancelled while it awaits this future gets `CancelledError` only when the future is done. So the task
    knows the result and can undo it.
    """

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        """Do nothing. The task keeps waiting."""
        del msg
        return False


class Batcher(Generic[Command, Result]):
    """Collects the commands that wait for a shared resource, and runs all of them in one call (group commit).

    `run` gets 1 to `batch_max` commands and returns one result or exception for each, in order. Only one call runs at a
    time. If it raises, every command of the batch fails with that exception.
    """

    def __init__(
        self,
        run: Callable[[list[Command]], Awaitable[list[Result | Exception]]],
        *,
        name: str,
        batch_max: int,
        queue_max: int,
    ) -> None:
        self._run = run
        self._name = name
        self._batch_max = batch_max
        self._queue_max = queue_max
        self.waiting: list[tuple[Command, UncancellableFuture[Result]]] = []
        """The commands that wait, without those that are running. The list stays the same object."""
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, command: Command, *, bypass_limit: bool = False) -> UncancellableFuture[Result]:
        """Queue one command. Its future resolves when the command has run, even if nobody awaits it.

        Raises `Overloaded` if `queue_max` commands are waiting. `bypass_limit` skips this check for commands that end a
        reservation: there cannot be more of them than there are reservations.
        """
        if not bypass_limit and len(self.waiting) >= self._queue_max:
            raise Overloaded(queue=self._name)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        future: UncancellableFuture[Result] = UncancellableFuture(loop=self._loop)
        self.waiting.append((command, future))
        if self._task is None:
            self._task = self._loop.create_task(self._drain())
        return future

    @property
    def is_idle(self) -> bool:
        """Whether no command waits or runs."""
        return self._task is None

    async def wait_until_drained(self) -> None:
        """Wait until no command waits or runs."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _drain(self) -> None:
        try:
            while self.waiting:
                batch = self.waiting[: self._batch_max]
                del self.waiting[: self._batch_max]
                try:
                    results = await self._run([command for command, _ in batch])
                except Exception as error:  # noqa: BLE001  each caller gets it
                    results = [error] * len(batch)
                for (_, future), result in zip(batch, results, strict=True):
                    if isinstance(result, Exception):
                        future.set_exception(result)
                    else:
                        future.set_result(result)
        finally:
            self._task = None
