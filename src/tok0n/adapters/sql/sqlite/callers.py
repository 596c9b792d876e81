"""The `Callers` port on SQLite."""

import sqlite3
from collections.abc import Mapping

import sqlalchemy as sa

from tok0n.adapters.sql.schema import api_key
from tok0n.adapters.sql.shared_callers import FIND_WHERE_DIGEST, Lookup, SharedCallers, callers_of
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.domain.accounts import Caller

KEYS_PER_COMMIT = 500
"""Commits are short because requests wait for the one writer."""

_USED = (
    sa.update(api_key)
    .where(api_key.c.id == sa.bindparam("key_id"), sa.func.coalesce(api_key.c.last_used_at_us, 0) < sa.bindparam("at"))
    .values(last_used_at_us=sa.bindparam("at"))
)


class SqliteCallers(SharedCallers):
    """Looks keys up on a thread of its own, so that lookups don't wait for pages."""

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store)
        self._store = store

    async def mark_used(self, used_at_us: Mapping[str, int]) -> frozenset[str]:
        key_ids = sorted(used_at_us)
        for start in range(0, len(key_ids), KEYS_PER_COMMIT):
            # For one commit at a time: the rows of all keys would take 300 bytes each.
            rows = [{"key_id": key_id, "at": used_at_us[key_id]} for key_id in key_ids[start : start + KEYS_PER_COMMIT]]
            await self._store.write(lambda tx, rows=rows: tx.execute(_USED, rows) and None)  # type: ignore[misc]
        return frozenset()

    async def _find_all(self, lookups: list[Lookup]) -> list[Caller | Exception | None]:
        size = 1 << (len(lookups) - 1).bit_length()  # Powers of two limit the number of prepared statements.
        digests = [lookup.digest for lookup in lookups] + [b""] * (size - len(lookups))
        query = f"{FIND_WHERE_DIGEST} IN ({', '.join('?' * size)})"

        def fn(connection: sqlite3.Connection) -> list[tuple[object, ...]]:
            return connection.execute(query, digests).fetchall()

        return callers_of(lookups, await self._store.read_hot(fn))
