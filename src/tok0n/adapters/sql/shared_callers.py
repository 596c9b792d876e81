"""The parts of the `Callers` port that are the same on both engines.

Triggers number the changes of keys and accounts in `key_change` (`guards.sql`), so changes of every process count.
"""

from abc import ABC, abstractmethod
from asyncio import Future
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tok0n.adapters.batcher import Batcher
from tok0n.adapters.sql.schema import key_change
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.accounts import Caller
from tok0n.ports.callers import KeyChanges

LOOKUPS_AT_ONCE_MAX = 256
LOOKUPS_WAITING_MAX = 2_000
CHANGES_MAX = 1_000
"""The most changes to read at once. A reader that is further behind must forget all callers."""

FIND = """
SELECT digest, api_key.id, account_id, budget IS NOT NULL, models, expires_at_us
FROM api_key JOIN account ON account.id = account_id
WHERE revoked_at_us IS NULL AND account.status = 'open' AND digest
"""
"""The query for the rows of `callers_of`, up to the condition on the digest."""


class Lookup(NamedTuple):
    """One lookup that waits for the next query."""

    digest: bytes
    now_us: int


class SharedCallers(ABC):
    """The base of the lookups on SQLite and PostgreSQL. All lookups that wait share one query."""

    def __init__(self, store: SqlStore) -> None:
        self._sql_store = store
        self._batcher: Batcher[Lookup, Caller | None] = Batcher(
            self._find_all, name="key lookups", batch_max=LOOKUPS_AT_ONCE_MAX, queue_max=LOOKUPS_WAITING_MAX
        )

    def find(self, digest: bytes, *, now_us: int) -> Future[Caller | None]:
        return self._batcher.submit(Lookup(digest, now_us))

    async def aclose(self) -> None:
        """Wait for the lookups in progress."""
        await self._batcher.drained()

    @abstractmethod
    async def _find_all(self, lookups: list[Lookup]) -> list[Caller | Exception | None]:
        """Return the caller of each lookup. Raises `AccountingFailed`."""

    async def changes(self, *, after: int | None) -> KeyChanges:
        def fn(tx: sa.Connection) -> KeyChanges:
            if after is None:
                return KeyChanges(number=_last_change(tx), api_key_ids=frozenset())
            query = sa.select(key_change).where(key_change.c.number > after).order_by(key_change.c.number)
            rows = tx.execute(query.limit(CHANGES_MAX)).all()
            if not rows:
                return KeyChanges(number=after, api_key_ids=frozenset())
            if rows[0].number != after + 1 or len(rows) == CHANGES_MAX:
                return KeyChanges(number=_last_change(tx), api_key_ids=None)
            return KeyChanges(number=rows[-1].number, api_key_ids=frozenset(row.api_key_id for row in rows))

        return await self._sql_store.read(fn)


def _last_change(tx: sa.Connection) -> int:
    return tx.scalar(sa.select(sa.func.max(key_change.c.number))) or 0


def callers_of(lookups: list[Lookup], rows: list[Any]) -> list[Caller | Exception | None]:
    """Match the rows of `FIND` with the lookups. An expired key has no caller."""
    found: dict[bytes, Caller] = {}
    for digest, api_key_id, account_id, has_budget, models, expires_at_us in rows:
        found[digest] = Caller(
            api_key_id=api_key_id,
            account_id=account_id,
            has_budget=bool(has_budget),
            models=None if models is None else msgspec.json.decode(models, type=tuple[str, ...]),
            expires_at_us=expires_at_us,
        )
    callers = [found.get(lookup.digest) for lookup in lookups]
    return [
        None if caller is None or caller.has_expired(lookup.now_us) else caller
        for lookup, caller in zip(lookups, callers, strict=True)
    ]
