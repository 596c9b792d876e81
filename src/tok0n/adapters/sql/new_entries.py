"""Find the alerts that are due in the accounts with new ledger entries."""

import functools
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Any, TypeVar

import sqlalchemy as sa

from tok0n.adapters.sql.entry_ids import FinalEntries
from tok0n.adapters.sql.schema import alert_check, ledger_entry
from tok0n.adapters.sql.store import SqlStore

ACCOUNTS_AT_ONCE = 1_000

T = TypeVar("T")
C = TypeVar("C")


class Alert(StrEnum):
    """An alert that follows the ledger."""

    BALANCE = "balance"
    BUDGET = "budget"


def check_again(tx: sa.Connection, account_id: str, *alerts: Alert) -> None:
    """Check alerts of an account again, because a change other than a ledger entry may have made one due."""
    for alert in alerts:
        tx.execute(sa.insert(alert_check).values(account_id=account_id, alert=alert))


class NewEntries:
    """Follows the ledger for an alert.

    `account_ids` is the column with the accounts of the first check. `can_be_due` returns the condition that an account
    has anything to alert about, given the column with its id. Most accounts have nothing.
    """

    def __init__(
        self,
        store: SqlStore,
        alert: Alert,
        *,
        account_ids: sa.Column[str],
        can_be_due: Callable[["sa.ColumnElement[str]"], "sa.ColumnElement[bool]"],
    ) -> None:
        self._store = store
        self._alert = alert
        self._account_ids = account_ids
        self._can_be_due = can_be_due
        self._entries = FinalEntries()
        self._checked_id: int | None = None

    async def claim(
        self,
        find: Callable[[sa.Connection, list[str]], list[T]],
        claim: Callable[[sa.Connection, list[T]], list[C]],
        *,
        rows_max: int,
    ) -> list[C]:
        """Return what `claim` returns in a transaction for at most `rows_max` of what `find` finds.

        `find` gets pages of account ids. The first call looks in all accounts, later ones in those with new entries
        since the last complete check, and in those that `check_again` names. What this call has no room for is found
        again by the next.
        """
        checks = await self._store.read(self._checks)
        due = await self._due(find, sorted(set(checks.values())), rows_max=rows_max)
        check_ids = list(checks) if len(due) <= rows_max else []
        if not due and not check_ids:
            return []

        def fn(tx: sa.Connection) -> list[C]:
            claimed = claim(tx, due[:rows_max]) if due else []
            if check_ids:
                tx.execute(sa.delete(alert_check).where(alert_check.c.id.in_(check_ids)))
            return claimed

        return await self._store.write(fn)

    async def _due(
        self, find: Callable[[sa.Connection, list[str]], list[T]], account_ids: list[str], *, rows_max: int
    ) -> list[T]:
        """Return what is due in these accounts and in those with new entries. More than `rows_max` is incomplete."""
        await self._store.read(self._entries.look)
        final_id = self._entries.final_id
        due = await self._store.read(functools.partial(_find, find, account_ids)) if account_ids else []
        async for page in self._unchecked():
            due += await self._store.read(functools.partial(_find, find, page))
            if len(due) > rows_max:
                break
        else:
            self._checked_id = final_id or None  # None: nothing is final yet
        return due

    def _checks(self, tx: sa.Connection) -> dict[int, str]:
        """Return the accounts to check again, by the id of their row."""
        columns = alert_check.c
        query = sa.select(columns.id, columns.account_id).where(columns.alert == self._alert)
        return {row.id: row.account_id for row in tx.execute(query.order_by(columns.id).limit(ACCOUNTS_AT_ONCE))}

    async def _unchecked(self) -> AsyncIterator[list[str]]:
        """Yield the accounts that must be checked, in pages."""
        if self._checked_id is not None:
            # With DISTINCT on the column itself, SQLite would read the whole index by account.
            account_id = ledger_entry.c.account_id.concat("").label("account_id")
            new = sa.select(account_id).where(ledger_entry.c.id > self._checked_id).distinct().subquery()
            changed = sa.select(new.c.account_id).where(self._can_be_due(new.c.account_id))
            account_ids = sorted(await self._read_account_ids(changed))
            for start in range(0, len(account_ids), ACCOUNTS_AT_ONCE):
                yield account_ids[start : start + ACCOUNTS_AT_ONCE]
            return
        column, account_ids = self._account_ids, [""]
        page = sa.select(column).order_by(column).limit(ACCOUNTS_AT_ONCE)
        while account_ids := await self._read_account_ids(page.where(column > account_ids[-1])):
            yield account_ids

    async def _read_account_ids(self, query: "sa.Select[Any]") -> list[str]:
        return await self._store.read(lambda tx: list(tx.scalars(query)))


def _find(find: Callable[[sa.Connection, list[str]], list[T]], account_ids: list[str], tx: sa.Connection) -> list[T]:
    return find(tx, account_ids)
