"""What a serving process does beside requests: expire, release again, verify models, and whatever it is given."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

from tok0n.domain.catalogue import Model
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
"""How often the catalogue is looked through for models that are to be verified."""

PeriodicTask = Callable[[], Awaitable[object]]


class Housekeeping:
    """Runs each chore in a task of its own, from `start` to `stop`; `more` holds chores and the seconds between."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        reservations: Reservations,
        catalogue: Catalogue,
        verify_models: VerifyModels,
        clock: Clock,
        verify_interval_us: int,
        more: Sequence[tuple[PeriodicTask, float]] = (),
    ) -> None:
        self._ledger = ledger
        self._reservations = reservations
        self._catalogue = catalogue
        self._verify_models = verify_models
        self._clock = clock
        self._verify_interval_us = verify_interval_us
        self._more = more
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin all chores."""
        chores = [
            (self.sweep, SWEEP_SECONDS),
            (self._catalogue.refresh, REFRESH_SECONDS),
            (self.verify_due, VERIFY_SECONDS),
            *self._more,
        ]
        self._tasks = [asyncio.create_task(_every(chore, seconds)) for chore, seconds in chores]

    async def stop(self) -> None:
        """End all chores."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def sweep(self) -> None:
        """Expire what a dead process left PENDING, and try failed releases again."""
        await self._reservations.retry_releases()
        expired = await self._ledger.expire(now_us=self._clock.now_us(), rows_max=SWEEP_ROWS_MAX)
        if expired:
            log.warning("reservations_expired", rows=expired)

    async def verify_due(self) -> None:
        """Verify what never passed as it is declared now, and what passed long ago."""
        await self._verify(self._catalogue.due(now_us=self._clock.now_us(), interval_us=self._verify_interval_us))

    async def _verify(self, models: list[Model]) -> None:
        for model in models:
            state = await self._verify_models.if_unclaimed(model)
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
        if models:
            await self._catalogue.refresh()


async def _every(chore: PeriodicTask, seconds: float) -> None:
    """Do `chore` now and every so many seconds. A failure is logged, and does not end the series."""
    while True:
        try:
            await chore()
        except Tok0nError as error:
            log.warning("chore_failed", chore=chore.__name__, detail=error.detail or error.message)
        except Exception:
            log.exception("chore_failed", chore=chore.__name__)
        await asyncio.sleep(seconds)
