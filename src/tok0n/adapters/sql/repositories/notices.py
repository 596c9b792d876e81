"""Low-balance alerts in SQL, behind the `Notices` port. They compare the standard tokens."""

from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import lock_wallets
from tok0n.adapters.sql.new_entries import NewEntries
from tok0n.adapters.sql.schema import account, low_balance_notice, wallet
from tok0n.adapters.sql.store import SqlStore, by_index
from tok0n.domain.ledger import STANDARD
from tok0n.domain.users import LowBalance

_NOTICE = low_balance_notice.c


class SqlNotices:
    """The `Notices` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._entries = NewEntries(store, _NOTICE.account_id)

    async def threshold_tokens(self, account_id: str) -> int | None:
        """See `ports.Notices.threshold_tokens`."""
        query = sa.select(_NOTICE.threshold_tokens).where(_NOTICE.account_id == account_id)
        return await self._store.read(lambda tx: tx.scalar(query))

    async def set_threshold(self, account_id: str, threshold_tokens: int | None) -> None:
        # An account that is already below the threshold counts as notified.
        def fn(tx: sa.Connection) -> None:
            lock_wallets(tx, [account_id])
            tx.execute(sa.delete(low_balance_notice).where(_NOTICE.account_id == account_id))
            if threshold_tokens is not None:
                notified = sa.case((wallet.c.posted < threshold_tokens, 1), else_=0)
                row = sa.select(wallet.c.account_id, sa.literal(threshold_tokens), notified)
                row = row.where(wallet.c.account_id == account_id, wallet.c.token_class == STANDARD)
                columns = ["account_id", "threshold_tokens", "notified"]
                tx.execute(sa.insert(low_balance_notice).from_select(columns, row))

        await self._store.write(fn)

    async def claim_due(self, *, rows_max: int) -> list[LowBalance]:
        """See `ports.Notices.claim_due`. The first call checks every alert, later ones accounts with new entries."""
        due = await self._entries.due(_due_among, rows_max=rows_max)
        return await self._store.write(lambda tx: _claim(tx, due)) if due else []


def _due_among(tx: sa.Connection, account_ids: list[str]) -> list[str]:
    return list(tx.scalars(_changed(sa.select(_NOTICE.account_id), account_ids)))


def _claim(tx: sa.Connection, account_ids: list[str]) -> list[LowBalance]:
    by_index(tx)
    columns = _NOTICE.account_id, _NOTICE.threshold_tokens, account.c.email, wallet.c.posted
    low = []
    for row in tx.execute(_changed(sa.select(*columns), account_ids).order_by(_NOTICE.account_id)).all():
        notified = int(row.posted < row.threshold_tokens)
        update = sa.update(low_balance_notice).values(notified=notified)
        unchanged = update.where(_NOTICE.account_id == row.account_id, _NOTICE.notified != notified)
        if tx.execute(unchanged).rowcount and notified:
            low.append(LowBalance(email=row.email, threshold_tokens=row.threshold_tokens, posted=row.posted))
    return low


def _changed(query: "sa.Select[Any]", account_ids: list[str]) -> "sa.Select[Any]":
    """Narrow `query` to those of the accounts that crossed their threshold, down or up, since the last check."""
    is_low = sa.case((wallet.c.posted < _NOTICE.threshold_tokens, 1), else_=0)
    accounts = query.join(account, account.c.id == _NOTICE.account_id)
    return accounts.join(wallet, wallet.c.account_id == _NOTICE.account_id).where(
        _NOTICE.account_id.in_(account_ids),
        account.c.id.in_(account_ids),
        account.c.status == "open",
        wallet.c.account_id.in_(account_ids),
        wallet.c.token_class == STANDARD,
        is_low != _NOTICE.notified,
    )
