"""Run the periodic tasks of a serving process: those defined here, and those that `bootstrap.wiring` adds."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tok0n.domain.catalogue import ModelState
from tok0n.domain.errors import Tok0nError
from tok0n.ports.clock import Clock
from tok0n.ports.ledger import Ledger
from tok0n.services.catalogue import Catalogue
from tok0n.services.reservations import Reservations
from tok0n.services.verify_models import VerifyModels

log = structlog.get_logger()

SWEEP_SECONDS = 5.0
SWEEP_ROWS_MAX = 1_000
REFRESH_SECONDS = 1.0
VERIFY_SECONDS = 1.0
"""The interval between checks for models that are due for verification."""

PeriodicTask = Callable[[], Awaitable[object]]


class Housekeeping:
    """Runs each periodic task in its own asyncio task. `more_tasks` pairs further tasks with intervals in seconds."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        reservations: Reservations,
        catalogue: Catalogue,
        verify_models: VerifyModels,
        clock: Clock,
        verify_interval_us: int,
        more_tasks: Sequence[tuple[PeriodicTask, float]] = (),
    ) -> None:
        self._ledger = ledger
        self._reservations = reservations
        self._catalogue = catalogue
        self._verify_models = verify_models
        self._clock = clock
        self._verify_interval_us = verify_interval_us
        self._more_tasks = more_tasks
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start all periodic tasks."""
        periodic_tasks = [
            (self.sweep, SWEEP_SECONDS),
            (self._catalogue.refresh, REFRESH_SECONDS),
            (self.verify_due, VERIFY_SECONDS),
            *self._more_tasks,
        ]
        self._tasks = [asyncio.create_task(_every(seconds, task)) for task, seconds in periodic_tasks]

    async def stop(self) -> None:
        """Cancel all periodic tasks, and wait until they end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def sweep(self) -> None:
        """Retry failed releases, then expire overdue reservations, whichever process made them.

        `Lease.expire_abandoned` expires the reservations of dead processes earlier (ADR 21).
        """
        await self._reservations.retry_releases()
        expired = await self._ledger.expire(now_us=self._clock.now_us(), rows_max=SWEEP_ROWS_MAX)
        if expired:
            log.warning("reservations_expired", rows=expired)

    async def verify_due(self) -> None:
        """Verify the models that are due, unless another process does."""
        models = self._catalogue.due_models(now_us=self._clock.now_us(), interval_us=self._verify_interval_us)
        for model in models:
            state = await self._verify_models.verify_if_unclaimed(model)
            if state is None:
                continue
            if state.passed:
                log.info("model_verified", model=model.id, latency_ms=state.latency_ms)
            else:
                log.warning(
                    "model_failed_verification",
                    model=model.id,
                    failures=state.consecutive_failures,
                    detail=state.detail,
                )
            self._warn_of_streams(state)
        if models:
            await self._catalogue.refresh()

    def _warn_of_streams(self, state: ModelState) -> None:
        for endpoint in self._catalogue.stream_endpoints:
            stream = state.streams.get(endpoint)
            if stream is not None and stream.detail:
                log.warning(
                    "model_failed_stream",
                    model=state.id,
                    endpoint=endpoint,
                    failures=stream.consecutive_failures,
                    detail=stream.detail,
                )


async def _every(seconds: float, task: PeriodicTask) -> None:
    """Run `task` now, and again `seconds` after each run. Logs a failure and continues."""
    while True:
        try:
            await task()
        except Tok0nError as error:
            log.warning("periodic_task_failed", task=task.__name__, detail=error.detail or error.message)
        except Exception:
            log.exception("periodic_task_failed", task=task.__name__)
        await asyncio.sleep(seconds)
