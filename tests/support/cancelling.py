"""Cancel a coroutine at each of its suspensions, one after the other."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

SUSPENSIONS_MAX = 1_000


class CancelAt:
    """Awaits a coroutine and cancels the task at its n-th suspension, and at the next ones up to `times` times."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any], n: int, *, times: int = 1) -> None:
        self.coroutine = coroutine
        self.cancelled_at = range(n, n + times)
        self.suspensions = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self.coroutine.__await__()
        step: Any = inner.send
        value: Any = None
        while True:
            try:
                waiting_for = step(value)
            except StopIteration as stop:
                return stop.value
            self.suspensions += 1
            if self.suspensions in self.cancelled_at:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                value = yield waiting_for
                step = inner.send
            except BaseException as error:  # noqa: BLE001  handed on to the coroutine
                step, value = inner.throw, error


async def cancelled_at_each_await(
    start: Callable[[], Coroutine[Any, Any, Any]], *, times: int = 1
) -> AsyncIterator[asyncio.Task[Any]]:
    """Run `start()` again and again, cancelled at its 1st, 2nd, 3rd … suspension; gives the task after each run.

    With `times`, each run is cancelled at that many suspensions in a row. The last task is the one that ran to its end.
    """
    for n in range(1, SUSPENSIONS_MAX):
        at = CancelAt(start(), n, times=times)

        async def run(at: CancelAt = at) -> Any:
            return await at

        task = asyncio.create_task(run())
        await asyncio.wait([task])
        yield task
        if not task.cancelled():
            return
    raise AssertionError("it never came to its end")
