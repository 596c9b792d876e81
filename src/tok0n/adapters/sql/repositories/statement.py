"""The statement of an account in SQL, behind the `Statements` port."""

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.entry_search import last_before
from tok0n.adapters.sql.repositories.lots import changes_around, position_before
from tok0n.adapters.sql.schema import ledger_entry, wallet
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.history import LedgerEntry
from tok0n.domain.ledger import EntryKind
from tok0n.domain.lots import Position

_ID_PARTS = 3
_DIGITS_MAX = 18
"""A number of 18 digits fits a 64-bit integer."""


class SqlStatements:
    """The `Statements` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def entries(
        self,
        account_id: str,
        *,
        since_us: int | None = None,
        until_us: int | None = None,
        before: str | None = None,
        rows_max: int,
        token_class: str | None = None,
    ) -> list[LedgerEntry]:
        columns = ledger_entry.c
        query = sa.select(ledger_entry).where(columns.account_id == account_id)
        if token_class is not None:
            query = query.where(columns.token_class == token_class)

        def fn(tx: sa.Connection) -> list[LedgerEntry]:
            first_id = 0 if since_us is None else last_before(tx, account_id, since_us) + 1
            end_ids = [] if before is None else [_row_id(tx, account_id, before)]
            if until_us is not None:
                end_ids.append(last_before(tx, account_id, until_us) + 1)
            bounds = [columns.id >= first_id]
            if end_ids:
                # One upper bound, because SQLite seeks by one of two, and reads all rows up to the other.
                bounds.append(columns.id < min(end_ids))
            rows = tx.execute(query.where(*bounds).order_by(columns.id.desc()).limit(rows_max))
            return [entry_of_row(row) for row in rows]

        return await self._store.read(fn)

    async def balances_at(self, account_id: str, at_us: int) -> dict[str, int]:
        query = sa.select(wallet).where(wallet.c.account_id == account_id).order_by(wallet.c.token_class)

        def fn(tx: sa.Connection) -> dict[str, int]:
            last_id = last_before(tx, account_id, at_us)
            wallets = tx.execute(query).all()
            if len(wallets) == 1:
                return {wallets[0].token_class: _posted(tx, account_id, wallets[0].token_class, last_id)}
            balances = {}
            for row in wallets:
                current = Position(number=row.entries, posted_after=row.posted)
                changes = changes_around(tx, account_id, row.token_class, last_id + 1)
                position = position_before(
                    tx, account_id, row.token_class, last_id + 1, current=current, changes=changes
                )
                if position is None:
                    balances[row.token_class] = _posted(tx, account_id, row.token_class, last_id)
                else:
                    balances[row.token_class] = position.posted_after
            return balances

        return await self._store.read(fn)

    async def first_entry_at_us(self, account_id: str) -> int | None:
        columns = ledger_entry.c
        query = sa.select(columns.created_at_us).where(columns.account_id == account_id).order_by(columns.id).limit(1)
        return await self._store.read(lambda tx: tx.scalar(query))


def _row_id(tx: sa.Connection, account_id: str, entry_id: str) -> int:
    """Return the row id of an entry of the account, or 0 if `entry_id` identifies none."""
    parts = entry_id.split("-", _ID_PARTS - 1)
    numbers = parts[:2]
    if len(parts) < _ID_PARTS or not all(
        number.isascii() and number.isdecimal() and len(number) <= _DIGITS_MAX for number in numbers
    ):
        return 0
    at_us, number = map(int, numbers)
    columns = ledger_entry.c
    same_time = (
        columns.id > last_before(tx, account_id, at_us),
        columns.id <= last_before(tx, account_id, at_us + 1),
    )
    is_entry = (columns.account_id == account_id, columns.token_class == parts[2], columns.number == number)
    return tx.scalar(sa.select(columns.id).where(*is_entry, *same_time)) or 0


def _posted(tx: sa.Connection, account_id: str, token_class: str, last_id: int) -> int:
    """Return the posted tokens of a wallet after the row `last_id` of the account.

    Reads the entries of other classes that follow the wallet's last one.
    """
    columns = ledger_entry.c
    query = sa.select(columns.posted_after).where(
        columns.account_id == account_id, columns.token_class == token_class, columns.id <= last_id
    )
    return tx.scalar(query.order_by(columns.id.desc()).limit(1)) or 0


def entry_of_row(row: sa.Row[tuple[object, ...]]) -> LedgerEntry:
    """Convert a complete row of `ledger_entry`."""
    return LedgerEntry(
        token_class=row.token_class,
        number=row.number,
        kind=EntryKind(row.kind),
        amount=row.amount,
        posted_after=row.posted_after,
        request_id=row.request_id,
        reason=row.reason,
        author=row.author,
        reverses_request_id=row.reverses_request_id,
        created_at_us=row.created_at_us,
    )
