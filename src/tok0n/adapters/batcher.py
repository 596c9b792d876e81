"""What waits together goes together: ONE call for all commands that arrived while the previous call ran.

Adds no artificial delay, and holds no thread or task while nothing waits. docs/adr/0002 tells why.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

from tok0n.domain.errors import Overloaded

RESERVATIONS_WAITING_MAX = 512
"""With more commands waiting no reservation is taken: those that were keep a latency of some tens of milliseconds."""

Command = TypeVar("Command")
Result = TypeVar("Result")


class UncancellableFuture(asyncio.Future[Result]):
    """A future that cannot be cancelled: what was submitted is carried out.

    A task that is cancelled while it awaits one is woken with `CancelledError` once the future is done: then it knows
    what happened, and can undo it.
    """

    __slots__ = ()

    def cancel(self, msg: Any | None = None) -> bool:
        """Refuse, so that the task waits on."""
        del msg
        return False


class Batcher(Generic[Command, Result]):
    """Stands in front of one shared resource.

    `run` is called with 1 to `batch_max` commands, never twice at once, and gives one result or exception for each,
    in order. If it raises, every command of the batch fails with that exception.
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
        self._waiting: list[tuple[Command, UncancellableFuture[Result]]] = []
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, command: Command, *, must: bool = False) -> UncancellableFuture[Result]:
        """Queue one command; its future resolves when it was carried out, waited for or not.

        Raises `Overloaded` at once when `queue_max` commands wait, unless it `must` be carried out: what ends a
        reservation must, and there can be no more of those than there are reservations.
        """
        if not must and len(self._waiting) >= self._queue_max:
            raise Overloaded(queue=self._name)
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        future: UncancellableFuture[Result] = UncancellableFuture(loop=self._loop)
        self._waiting.append((command, future))
        if self._task is None:
            self._task = self._loop.create_task(self._drain())
        return future

    @property
    def waiting(self) -> int:
        """How many commands wait, besides those that are carried out now."""
        return len(self._waiting)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and nothing runs."""
        return self._task is None

    async def drained(self) -> None:
        """Wait until nothing waits and nothing runs."""
        while self._task is not None:
            await asyncio.shield(self._task)

    async def _drain(self) -> None:
        try:
            while self._waiting:
                batch = self._waiting[: self._batch_max]
                del self._waiting[: self._batch_max]
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
