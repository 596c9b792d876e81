"""Leases of processes: one that outlasts any test, and others that end at a given time."""

import sqlalchemy as sa

from tok0n.adapters.sql.postgres.ledger import PostgresLedger
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.store import SqlStore

PROCESS_ID = "proc_test"

_LONG = sa.text("INSERT INTO process VALUES (:id, 4000000000000000, 0) ON CONFLICT DO NOTHING")

_MOVE = sa.text("""
UPDATE process SET lease_ends_at_us = now_us + :ends_in_us, renewed_since_us = now_us - :renewed_for_us
FROM CAST(extract(epoch FROM now()) * 1000000 AS bigint) AS now_us WHERE id = :id
""")


async def leased_ledger(store: PostgresStore, *, read_back_seconds_max: float = 10.0) -> PostgresLedger:
    """A ledger whose process has a lease until the year 2096."""
    await store.write(lambda tx: tx.execute(_LONG, {"id": PROCESS_ID}) and None)
    return PostgresLedger(store, process_id=PROCESS_ID, read_back_seconds_max=read_back_seconds_max)


async def move_lease(store: SqlStore, process_id: str, *, ends_in: int, renewed_for: int) -> None:
    """Make a lease end in `ends_in` seconds, as if it had been renewed without a gap for `renewed_for` seconds."""
    values = {"id": process_id, "ends_in_us": ends_in * 10**6, "renewed_for_us": renewed_for * 10**6}
    assert await store.write(lambda tx: tx.execute(_MOVE, values).rowcount) == 1
