"""A lease that outlasts any test, for ledgers that no process renews a lease for."""

import sqlalchemy as sa

from tok0n.adapters.sql.postgres.ledger import PostgresLedger
from tok0n.adapters.sql.postgres.store import PostgresStore

PROCESS_ID = "proc_test"

_LONG = sa.text("INSERT INTO process VALUES (:id, 4000000000000000, 0) ON CONFLICT DO NOTHING")


async def leased_ledger(store: PostgresStore, *, read_back_seconds_max: float = 10.0) -> PostgresLedger:
    """A ledger whose process is alive until the year 2096."""
    await store.write(lambda tx: tx.execute(_LONG, {"id": PROCESS_ID}) and None)
    return PostgresLedger(store, process_id=PROCESS_ID, read_back_seconds_max=read_back_seconds_max)
