"""The methods of the `Ledger` port that are not on the hot path. They are the same on both engines."""

import asyncio
import time
from collections.abc import Callable

from tok0n.adapters.sql import audit, ledger_functions
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.ledger import AuditReport
from tok0n.ports.ledger import RecentRequest

AUDIT_PAUSE_SECONDS_MAX = 0.02
"""After each snapshot, the audit pauses for as long as the snapshot took, and at most this long.

In the pause, SQLite can complete a checkpoint and start its WAL again.
"""


class SharedLedger:
    """The base of the ledgers on SQLite and PostgreSQL."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def reverse(self, *, request_id: str, now_us: int) -> None:
        await self._store.write(lambda tx: ledger_functions.reverse(tx, request_id=request_id, now_us=now_us))

    async def expire(self, *, now_us: int, rows_max: int) -> int:
        return await self._store.write(
            lambda tx: ledger_functions.expire(tx, now_us=now_us, before_us=now_us, rows_max=rows_max)
        )

    async def recover(self, *, now_us: int) -> int:
        return await self._store.write(lambda tx: ledger_functions.recover(tx, now_us=now_us))

    async def recent(self, *, since_us: int) -> list[RecentRequest]:
        return await self._store.read(lambda tx: ledger_functions.recent(tx, since_us=since_us))

    async def audit(self, *, progress: Callable[[int], None] = lambda _: None) -> AuditReport:
        steps = audit.Audit().steps()
        next(steps)
        while True:
            started = time.monotonic()
            done = await self._store.read(lambda tx: audit.run_step(tx, steps), no_timeout=True)
            if isinstance(done, AuditReport):
                return done
            progress(done)
            await asyncio.sleep(min(AUDIT_PAUSE_SECONDS_MAX, time.monotonic() - started))
