"""The operations of the `Ledger` port that are not on the hot path: one transaction function each, for both engines."""

from tok0n.adapters.sql import ledger_functions
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.ledger import AuditReport
from tok0n.ports.ledger import RecentRequest


class SharedLedger:
    """What the ledgers of SQLite and PostgreSQL have in common."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def reverse(self, *, request_id: str, now_us: int) -> None:
        """See `ports.Ledger.reverse`."""
        await self._store.write(lambda tx: ledger_functions.reverse(tx, request_id=request_id, now_us=now_us))

    async def expire(self, *, now_us: int, rows_max: int) -> int:
        """See `ports.Ledger.expire`."""
        return await self._store.write(
            lambda tx: ledger_functions.expire(tx, now_us=now_us, before_us=now_us, rows_max=rows_max)
        )

    async def recover(self, *, now_us: int) -> int:
        """See `ports.Ledger.recover`."""
        return await self._store.write(lambda tx: ledger_functions.recover(tx, now_us=now_us))

    async def recent(self, *, since_us: int) -> list[RecentRequest]:
        """See `ports.Ledger.recent`."""
        return await self._store.read(lambda tx: ledger_functions.recent(tx, since_us=since_us))

    async def audit(self) -> AuditReport:
        """See `ports.Ledger.audit`."""
        return await self._store.read(ledger_functions.audit, unhurried=True)
