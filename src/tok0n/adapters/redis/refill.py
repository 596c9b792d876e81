"""Fill a limiter that has forgotten, from the request rows of the last minute: by one process, while the others wait.

A request that was admitted just before may not have its row yet. So the rows are read no sooner than
`ADMISSION_SECONDS_MAX` after the loss was noticed, and what was admitted longer ago than that is not sent any more
unless it has its row (`ports.Admission.is_still_valid`): never more than the limit is dispatched.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import structlog

from tok0n.adapters.redis.connection import Script, ScriptConnection, Unreachable
from tok0n.domain.errors import Tok0nError
from tok0n.domain.rate_limit import WINDOW_SECONDS
from tok0n.ports.clock import Clock
from tok0n.ports.ledger import RecentRequest

log = structlog.get_logger()

EPOCH = "{tok0n}:epoch"
EVERYTHING = "{tok0n}:everything"
LOCK = "{tok0n}:refill"
"""All keys share one hash tag, so that one script may touch them all on a cluster too."""

LEASE_US = 30_000_000
ADMISSION_SECONDS_MAX = 2.0
MARGIN_SECONDS = 0.1
LOCK_SECONDS = 4.0
CLOCK_SKEW_SECONDS = 2.0
"""How far the clocks of the gateways may differ before an admission is forgotten too early."""

ROWS_AT_ONCE = 2_000
RETRY_SECONDS = 0.25

_SCRIPT = Script((Path(__file__).parent / "refill.lua").read_text("utf-8"))

Recent = Callable[..., Awaitable[list[RecentRequest]]]


class Refill:
    """At most one is under way in a process, and one holds the lock among all."""

    def __init__(self, connection: ScriptConnection, clock: Clock, recent: Recent) -> None:
        self._connection = connection
        self._clock = clock
        self._recent = recent
        self._id = secrets.token_hex(16)
        self._script = _SCRIPT
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """See to it that the limiter is filled, by this process or another. Called whenever it shows that it forgot."""
        if self._task is None:
            self._task = asyncio.create_task(self._until_filled(), name="limiter refill")
            self._task.add_done_callback(self._over)

    async def finished(self) -> None:
        """Wait until the limiter is filled, by this process or another."""
        self.begin()
        assert self._task is not None, "begun"
        await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Give up."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _over(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("limiter_refill_failed", exc_info=task.exception())

    async def _until_filled(self) -> None:
        lost = self._clock.monotonic()
        while True:
            try:
                if await self._is_filled():
                    return
                if await self._take_lock() and await self._fill(lost):
                    return
            except (Unreachable, Tok0nError) as error:
                log.warning("limiter_refill_delayed", detail=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _is_filled(self) -> bool:
        epoch = await self._connection.command("GET", EPOCH)
        return bool(epoch == self._connection.run_id)

    async def _take_lock(self) -> bool:
        taken = await self._connection.command("SET", LOCK, self._id, "NX", "PX", round(LOCK_SECONDS * 1000))
        return taken is not None

    async def _fill(self, lost: float) -> bool:
        """Return whether the limiter has its data again. False if another process took the lock."""
        wait_seconds = lost + ADMISSION_SECONDS_MAX + MARGIN_SECONDS - self._clock.monotonic()
        if wait_seconds > 0:
            await asyncio.sleep(wait_seconds)
        if not await self._add([]):
            return False
        since_us = self._clock.now_us() - round((WINDOW_SECONDS + CLOCK_SKEW_SECONDS) * 1_000_000)
        rows = await self._recent(since_us=since_us)
        for first in range(0, len(rows), ROWS_AT_ONCE):
            if not await self._add(rows[first : first + ROWS_AT_ONCE]):
                return False
        if not await self._add([], last=True):
            return False
        log.warning("limiter_filled_again", requests=len(rows))
        return True

    async def _add(self, rows: list[RecentRequest], *, last: bool = False) -> bool:
        now_us = self._clock.now_us()
        arguments: list[Any] = [
            self._id,
            round(LOCK_SECONDS * 1000),
            int(last),
            LEASE_US,
        ]
        for row in rows:
            age_us = now_us - row.created_at_us - round(CLOCK_SKEW_SECONDS * 1_000_000)
            caller = row.caller
            arguments += [
                row.request_id,
                "" if caller is None else caller.api_key_id,
                caller.account_id if caller is not None and row.pending else "",
                int(row.dispatched),
                max(0, age_us),
            ]
        return bool(await self._connection.run(self._script, [LOCK, EPOCH, EVERYTHING], arguments))
