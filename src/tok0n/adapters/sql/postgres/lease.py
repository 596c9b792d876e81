"""The `Lease` port on PostgreSQL: which processes are alive, by the database's clock (docs/adr/0021).

A sweep locks the rows of ended processes, so none of them can renew its lease, and reserve, before the sweep commits.
"""

import secrets

import asyncpg
import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql import ledger_functions
from tok0n.adapters.sql.postgres.connection import Lost, NotConnected, StatementConnection, describe
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.schema import process, request
from tok0n.adapters.sql.store import execute
from tok0n.domain import ids
from tok0n.domain.errors import AccountingFailed

LEASE_US = 15_000_000
GAP_US_MAX = 20_000_000
"""A longer time between two renewals means that the database was away from this process."""

STEADY_US = 30_000_000
"""How long a process must have renewed its lease without such a gap before it expires the reservations of others."""

GRACE_US = 10_000_000
"""The time from the end of a lease until the reservations of its process expire."""

KEPT_US = 60_000_000
"""An ended process's row stays this long, plus a statement timeout: its last reservation may be committed late."""

RENEWAL_SECONDS_MAX = 3.0
"""The timeout of a renewal, so that a second attempt fits into the rest of the lease."""

PROCESSES_PER_COMMIT = 1_000
ROWS_PER_COMMIT = 100
"""A sweep locks the accounts of at most this many reservations at once."""

_RENEW = """
INSERT INTO process AS p (id, lease_ends_at_us, renewed_since_us)
SELECT $1, now_us + $2, now_us FROM CAST(extract(epoch FROM now()) * 1000000 AS bigint) AS now_us
ON CONFLICT (id) DO UPDATE SET lease_ends_at_us = excluded.lease_ends_at_us, renewed_since_us = CASE
    WHEN excluded.lease_ends_at_us - p.lease_ends_at_us BETWEEN 0 AND $3 THEN p.renewed_since_us
    ELSE excluded.renewed_since_us END
"""
_now_us: "sa.ColumnElement[int]" = sa.literal_column(
    "CAST(extract(epoch FROM now()) * 1000000 AS bigint)", sa.BigInteger
)


class PostgresLease:
    """Renews on a connection of its own, so that a renewal never waits for the pool."""

    def __init__(self, store: PostgresStore) -> None:
        self.process_id = ids.process_id(secrets.token_bytes(ids.RANDOM_BYTES))
        self._store = store
        self._kept_us = KEPT_US + round(store.options.statement_timeout_seconds * 1_000_000)
        options = msgspec.structs.replace(
            store.options, connect_timeout_seconds=RENEWAL_SECONDS_MAX, statement_timeout_seconds=RENEWAL_SECONDS_MAX
        )
        self._connection = StatementConnection(options)

    async def renew(self) -> None:
        arguments = self.process_id, LEASE_US, GAP_US_MAX
        try:
            try:
                await self._connection.fetch(_RENEW, *arguments)
            except Lost:
                await self._connection.fetch(_RENEW, *arguments)
        except (NotConnected, Lost, asyncpg.PostgresError) as error:
            raise AccountingFailed(upstream_called=False, detail=describe(error)) from error

    async def probe(self) -> None:
        alive = sa.select(process.c.id).where(process.c.id == self.process_id, process.c.lease_ends_at_us > _now_us)
        if await self._store.read(lambda tx: tx.scalar(alive)) is None:
            raise AccountingFailed(upstream_called=False, detail="the lease of this process has ended")

    async def expire_abandoned(self, *, now_us: int) -> int:
        total = 0
        while expired := await self._store.write(lambda tx: self._sweep(tx, now_us=now_us)):
            total += expired
        return total

    async def end(self) -> None:
        ended = sa.update(process).where(process.c.id == self.process_id, process.c.lease_ends_at_us > _now_us)
        await execute(self._store, ended.values(lease_ends_at_us=_now_us))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()

    def _sweep(self, tx: sa.Connection, *, now_us: int) -> int:
        """Expire reservations of ended processes, and delete those processes that left none. Returns how many expired.

        `now()` is the start of the transaction, so a sweep that was held up decides as of its start.
        """
        steady = sa.select(process.c.id).where(
            process.c.id == self.process_id,
            process.c.lease_ends_at_us > _now_us,
            process.c.renewed_since_us <= _now_us - STEADY_US,
        )
        if tx.scalar(steady) is None:
            return 0
        ended = sa.select(process.c.id).where(process.c.lease_ends_at_us <= _now_us - GRACE_US)
        first = ended.order_by(process.c.lease_ends_at_us).limit(PROCESSES_PER_COMMIT)
        ended_ids = tx.scalars(first.with_for_update(skip_locked=True, key_share=True)).all()
        if not ended_ids:
            return 0
        expired = ledger_functions.expire_of_processes(
            tx, process_ids=ended_ids, now_us=now_us, rows_max=ROWS_PER_COMMIT
        )
        if not expired:
            is_old = process.c.lease_ends_at_us <= _now_us - self._kept_us
            referenced = sa.select(request.c.process_id).where(ledger_functions.is_pending_of(ended_ids))
            is_done = process.c.id.in_(ended_ids) & process.c.id.not_in(referenced)
            tx.execute(sa.delete(process).where(is_old, is_done))
        return expired
