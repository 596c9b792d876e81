"""The parts of the `Callers` port that are the same on both engines.

Triggers number the changes of keys and accounts in `key_change` (`guards.sql`), so changes of every process count.
"""

from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import key_change
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.accounts import Caller
from tok0n.ports.callers import KeyChanges

LOOKUPS_AT_ONCE_MAX = 256
LOOKUPS_WAITING_MAX = 2_000
CHANGES_MAX = 1_000
"""The most changes to read at once. A reader that is further behind must forget all callers."""

COLUMNS = "digest, api_key.id, account_id, budget IS NOT NULL, models, expires_at_us"
ACTIVE = "revoked_at_us IS NULL AND account.status = 'open'"


class Lookup(NamedTuple):
    """One lookup that waits for the next query."""

    digest: bytes
    now_us: int


class SharedCallers:
    """The base of the lookups on SQLite and PostgreSQL."""

    def __init__(self, store: SqlStore) -> None:
        self._sql_store = store

    async def changes(self, *, after: int | None) -> KeyChanges:
        def fn(tx: sa.Connection) -> KeyChanges:
            if after is None:
                last = tx.scalar(sa.select(sa.func.max(key_change.c.number)))
                return KeyChanges(number=last or 0, api_key_ids=frozenset())
            query = sa.select(key_change).where(key_change.c.number > after).order_by(key_change.c.number)
            rows = tx.execute(query.limit(CHANGES_MAX)).all()
            if not rows:
                return KeyChanges(number=after, api_key_ids=frozenset())
            if rows[0].number != after + 1 or len(rows) == CHANGES_MAX:
                last = tx.scalar(sa.select(sa.func.max(key_change.c.number)))
                return KeyChanges(number=last or 0, api_key_ids=None)
            return KeyChanges(number=rows[-1].number, api_key_ids=frozenset(row.api_key_id for row in rows))

        return await self._sql_store.read(fn)


def callers_of(lookups: list[Lookup], rows: list[Any]) -> list[Caller | None]:
    """Match the rows of a query for `COLUMNS` with the lookups."""
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
