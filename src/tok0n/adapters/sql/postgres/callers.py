"""The `Callers` port on PostgreSQL."""

from collections.abc import Mapping

import asyncpg
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from tok0n.adapters.sql.postgres.connection import Lost, NotConnected, StatementConnection, describe
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.shared_callers import FIND_WHERE_DIGEST, Lookup, SharedCallers, callers_of
from tok0n.domain.accounts import Caller
from tok0n.domain.errors import AccountingFailed

KEYS_PER_COMMIT = 5_000

_FIND = f"{FIND_WHERE_DIGEST} = ANY ($1::bytea[])"
_USED = sa.text("""
WITH use AS (
    SELECT * FROM unnest(:key_ids, :times) AS use (key_id, at)
), unlocked AS MATERIALIZED (
    SELECT id FROM api_key WHERE id IN (SELECT key_id FROM use) FOR NO KEY UPDATE SKIP LOCKED
), updated AS (
    UPDATE api_key SET last_used_at_us = use.at FROM use, unlocked
    WHERE api_key.id = use.key_id AND unlocked.id = use.key_id AND coalesce(last_used_at_us, 0) < use.at
)
SELECT key_id FROM use JOIN api_key ON api_key.id = key_id WHERE key_id NOT IN (SELECT id FROM unlocked)
""").bindparams(sa.bindparam("key_ids", type_=ARRAY(sa.Text)), sa.bindparam("times", type_=ARRAY(sa.BigInteger)))
"""Skips the keys whose rows are locked: a transaction that never waits is never part of a deadlock."""


class PostgresCallers(SharedCallers):
    """Looks keys up on a connection of its own, so that lookups don't wait for batches of the ledger."""

    def __init__(self, store: PostgresStore) -> None:
        super().__init__(store)
        self._store = store
        self._connection = StatementConnection(store.options)

    async def mark_used(self, used_at_us: Mapping[str, int]) -> frozenset[str]:
        locked: set[str] = set()
        key_ids = sorted(used_at_us)
        for start in range(0, len(key_ids), KEYS_PER_COMMIT):
            chunk = key_ids[start : start + KEYS_PER_COMMIT]
            values = {"key_ids": chunk, "times": [used_at_us[key_id] for key_id in chunk]}
            locked.update(await self._store.write(lambda tx, values=values: tx.scalars(_USED, values).all()))  # type: ignore[misc]
        return frozenset(locked)

    async def aclose(self) -> None:
        """Wait for the lookups in progress, then close the connection."""
        await super().aclose()
        await self._connection.aclose()

    async def _find_all(self, lookups: list[Lookup]) -> list[Caller | Exception | None]:
        digests = [lookup.digest for lookup in lookups]
        try:
            try:
                rows = await self._connection.fetch(_FIND, digests)
            except Lost:  # The server may have closed an idle connection. A query can run twice.
                rows = await self._connection.fetch(_FIND, digests)
        except (NotConnected, Lost, asyncpg.PostgresError) as error:
            raise AccountingFailed(upstream_called=False, detail=describe(error)) from error
        return callers_of(lookups, rows)
