"""Find what is due in the accounts with new ledger entries, for alerts that are checked again and again."""

import functools
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import sqlalchemy as sa

from tok0n.adapters.sql.entry_ids import FinalEntries
from tok0n.adapters.sql.schema import ledger_entry
from tok0n.adapters.sql.store import SqlStore, by_index

ACCOUNTS_AT_ONCE = 1_000

T = TypeVar("T")


class NewEntries:
    """Follows the ledger. `account_ids` is the column with the accounts of the first check."""

    def __init__(self, store: SqlStore, account_ids: sa.Column[str]) -> None:
        self._store = store
        self._account_ids = account_ids
        self._entries = FinalEntries()
        self._checked_id: int | None = None

    async def due(self, find: Callable[[sa.Connection, list[str]], list[T]], *, rows_max: int) -> list[T]:
        """Return at most `rows_max` of what `find` finds, which gets pages of account ids.

        The first call looks in all accounts, later ones in those with entries since the last complete check. What this
        call has no room for is found again by the next.
        """
        await self._store.read(self._entries.look)
        final_id = self._entries.final_id
        due: list[T] = []
        async for account_ids in self._unchecked():
            due += await self._store.read(functools.partial(_find, find, account_ids))
            if len(due) > rows_max:
                break
        else:
            self._checked_id = final_id or None  # None: nothing is final yet
        return due[:rows_max]

    async def _unchecked(self) -> AsyncIterator[list[str]]:
        """Yield the accounts that must be checked, in pages."""
        if self._checked_id is not None:
            changed = sa.select(ledger_entry.c.account_id).where(ledger_entry.c.id > self._checked_id)
            # With DISTINCT, SQLite would read the whole index by account.
            account_ids = sorted(set(await self._ids(changed)))
            for start in range(0, len(account_ids), ACCOUNTS_AT_ONCE):
                yield account_ids[start : start + ACCOUNTS_AT_ONCE]
            return
        column, account_ids = self._account_ids, [""]
        page = sa.select(column).order_by(column).limit(ACCOUNTS_AT_ONCE)
        while account_ids := await self._ids(page.where(column > account_ids[-1])):
            yield account_ids

    async def _ids(self, query: "sa.Select[Any]") -> list[str]:
        def fn(tx: sa.Connection) -> list[str]:
            by_index(tx)
            return list(tx.scalars(query))

        return await self._store.read(fn)


def _find(find: Callable[[sa.Connection, list[str]], list[T]], account_ids: list[str], tx: sa.Connection) -> list[T]:
    by_index(tx)
    return find(tx, account_ids)
