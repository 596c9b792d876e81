"""Refill a limiter that has lost its data from the request rows of the last minute. One process does, the others wait.

A request that was admitted just before the loss may not have a row yet. So the refill reads the rows
`ADMISSION_SECONDS_MAX` after it detected the loss. A request that was admitted longer ago and has no row is no longer
sent (`ports.Admission.is_still_valid`). So the gateway never sends more requests than the limit.
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
"""All keys have the same hash tag, because a script on a cluster can access one node only."""

LEASE_US = 30_000_000
ADMISSION_SECONDS_MAX = 2.0
MARGIN_SECONDS = 0.1
LOCK_SECONDS = 4.0
CLOCK_SKEW_SECONDS = 2.0
"""The largest difference between the clocks of gateways and database at which no admission expires too early."""

ROWS_AT_ONCE = 2_000
RETRY_SECONDS = 0.25

_SCRIPT = Script((Path(__file__).parent / "refill.lua").read_text("utf-8"))

Recent = Callable[..., Awaitable[list[RecentRequest]]]


class Refill:
    """Refills the limiter. One task in each process tries, and the process that holds the lock does it."""

    def __init__(self, connection: ScriptConnection, clock: Clock, recent: Recent) -> None:
        self._connection = connection
        self._clock = clock
        self._recent = recent
        self._id = secrets.token_hex(16)
        self._script = _SCRIPT
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start a refill unless one runs. Call it if the limiter has lost its data."""
        if self._task is None:
            self._task = asyncio.create_task(self._until_filled(), name="limiter refill")
            self._task.add_done_callback(self._task_done)

    async def wait_until_finished(self) -> None:
        """Wait until this process or another has refilled the limiter."""
        self.begin()
        assert self._task is not None, "begin starts it"
        await asyncio.wait([self._task])

    async def aclose(self) -> None:
        """Cancel the refill."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and task.exception() is not None:
            log.error("limiter_refill_failed", exc_info=task.exception())

    async def _until_filled(self) -> None:
        lost = self._clock.monotonic()
        while True:
            try:
                if await self._is_filled():
                    return
                if await self._take_lock():
                    if await self._is_filled():  # Another process finished between the two commands.
                        await self._connection.command("DEL", LOCK)
                        return
                    if await self._fill(lost):
                        return
            except (Unreachable, Tok0nError) as error:
                log.warning("limiter_refill_delayed", detail=str(error))
            await asyncio.sleep(RETRY_SECONDS)

    async def _is_filled(self) -> bool:
        epoch = await self._connection.command("GET", EPOCH)
        return bool(epoch == self._connection.run_id)

    async def _take_lock(self) -> bool:
        reply = await self._connection.command("SET", LOCK, self._id, "NX", "PX", round(LOCK_SECONDS * 1000))
        return reply is not None

    async def _fill(self, lost: float) -> bool:
        """Refill the limiter. Returns False if another process took the lock."""
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
