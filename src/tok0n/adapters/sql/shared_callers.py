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
from tok0n.domain.budgets import KeyBudget, ResetPeriod
from tok0n.ports.callers import KeyChanges

LOOKUPS_AT_ONCE_MAX = 256
LOOKUPS_WAITING_MAX = 2_000
CHANGES_MAX = 1_000
"""The most changes to read at once. A reader that is further behind must forget all callers."""

FIND_WHERE_DIGEST = """
SELECT digest, api_key.id, account_id, version, status, disabled_at_us, models, endpoints, networks,
    requests_per_minute, expires_at_us, ends_at_us, key_budget.id, tokens, period, token_class, time_zone
FROM key_secret JOIN api_key ON api_key.id = key_secret.api_key_id JOIN account ON account.id = account_id
    LEFT JOIN key_budget ON key_budget.api_key_id = api_key.id
WHERE revoked_at_us IS NULL AND status <> 'closed' AND digest
"""
"""The query for the rows of `callers_of`, up to the condition on the digest. A key has a row for each budget."""


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
        await self._batcher.wait_until_drained()

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
            # Older changes were deleted, or there are more than these: any key may have changed.
            if rows[0].number != after + 1 or len(rows) == CHANGES_MAX:
                return KeyChanges(number=_last_change(tx), api_key_ids=None)
            return KeyChanges(number=rows[-1].number, api_key_ids=frozenset(row.api_key_id for row in rows))

        return await self._sql_store.read(fn)


def _last_change(tx: sa.Connection) -> int:
    return tx.scalar(sa.select(sa.func.max(key_change.c.number))) or 0


def callers_of(lookups: list[Lookup], rows: list[Any]) -> list[Caller | Exception | None]:
    """Match the rows of `FIND_WHERE_DIGEST` with the lookups. An expired key has no caller."""
    by_digest: dict[bytes, Caller] = {}
    for digest, *columns in rows:
        caller = by_digest.get(digest) or _caller(columns)
        budget_id, tokens, period, token_class, time_zone = columns[11:]
        if budget_id is not None:
            budget = KeyBudget(
                id=budget_id, tokens=tokens, period=ResetPeriod(period), token_class=token_class, time_zone=time_zone
            )
            caller = msgspec.structs.replace(caller, budgets=(*caller.budgets, budget))
        by_digest[digest] = caller
    callers = [by_digest.get(lookup.digest) for lookup in lookups]
    return [
        None if caller is None or caller.has_expired(lookup.now_us) else caller
        for lookup, caller in zip(lookups, callers, strict=True)
    ]


def _caller(columns: list[Any]) -> Caller:
    """Return the caller of a row of `FIND_WHERE_DIGEST` after its digest, without its budgets."""
    key_id, account_id, version, status, disabled_at_us, models, endpoints, networks, per_minute, *ends = columns[:11]
    return Caller(
        api_key_id=key_id,
        account_id=account_id,
        key_version=version,
        models=names_of(models),
        endpoints=names_of(endpoints),
        networks=names_of(networks),
        requests_per_minute=per_minute,
        expires_at_us=min((end for end in ends if end is not None), default=None),
        is_disabled=disabled_at_us is not None,
        is_suspended=status == "suspended",
    )


def names_of(column: str | None) -> tuple[str, ...] | None:
    """Return the names in a column with a JSON array."""
    return None if column is None else msgspec.json.decode(column, type=tuple[str, ...])
