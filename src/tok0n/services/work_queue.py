"""Run CPU-bound work in a few threads behind a bounded queue, so that it can't delay other requests for long."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from tok0n.domain.errors import Overloaded

P = ParamSpec("P")
T = TypeVar("T")


class WorkQueue:
    """Runs at most `threads` calls at the same time, and queues at most `waiting_max` more."""

    def __init__(self, name: str, *, threads: int, waiting_max: int) -> None:
        self._name = name
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._jobs_max = threads + waiting_max
        self._jobs = 0
        self._lock = threading.Lock()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function` in a thread. Raises `Overloaded` if the queue is full, and the errors of `function`.

        Cancellation removes a queued call. A running call counts toward the limit until it ends.
        """
        with self._lock:
            if self._jobs >= self._jobs_max:
                raise Overloaded(queue=self._name)
            self._jobs += 1
        job = self._pool.submit(function, *args, **kwargs)
        job.add_done_callback(self._on_job_done)
        return await asyncio.wrap_future(job)

    def close(self) -> None:
        """Cancel the queued calls, and wait for the running ones."""
        self._pool.shutdown(cancel_futures=True)

    def _on_job_done(self, _: Future[T]) -> None:
        with self._lock:
            self._jobs -= 1
