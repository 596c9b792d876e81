"""Low-balance alerts in SQL, behind the `Notices` port."""

import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import lock_accounts
from tok0n.adapters.sql.schema import account, low_balance_notice
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.users import LowBalance

_NOTICE = low_balance_notice.c
_IS_LOW = (
    sa.select(sa.case((account.c.posted < _NOTICE.threshold_tokens, 1), else_=0))
    .where(account.c.id == _NOTICE.account_id, account.c.status == "open")
    .scalar_subquery()
)
_CHANGED = sa.select(_NOTICE.account_id).where(_NOTICE.notified != _IS_LOW)
"""The accounts that crossed their threshold, down or up, since the last check.

A join might scan all accounts, because few of them have a threshold.
"""


class SqlNotices:
    """The `Notices` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def threshold_tokens(self, account_id: str) -> int | None:
        """See `ports.Notices.threshold_tokens`."""
        query = sa.select(_NOTICE.threshold_tokens).where(_NOTICE.account_id == account_id)
        return await self._store.read(lambda tx: tx.scalar(query))

    async def set_threshold(self, account_id: str, threshold_tokens: int | None) -> None:
        # An account that is already below the threshold counts as notified.
        def fn(tx: sa.Connection) -> None:
            lock_accounts(tx, [account_id])
            tx.execute(sa.delete(low_balance_notice).where(_NOTICE.account_id == account_id))
            if threshold_tokens is not None:
                notified = sa.case((account.c.posted < threshold_tokens, 1), else_=0)
                row = sa.select(account.c.id, sa.literal(threshold_tokens), notified).where(account.c.id == account_id)
                columns = ["account_id", "threshold_tokens", "notified"]
                tx.execute(sa.insert(low_balance_notice).from_select(columns, row))

        await self._store.write(fn)

    async def claim_due(self, *, rows_max: int) -> list[LowBalance]:
        # Reads before it writes, because usually nothing is due.
        if not await self._store.read(lambda tx: tx.execute(_CHANGED.limit(1)).first()):
            return []

        def fn(tx: sa.Connection) -> list[LowBalance]:
            ids = list(tx.scalars(_CHANGED.order_by(_NOTICE.account_id).limit(rows_max)))
            query = (
                sa.select(_NOTICE.account_id, _NOTICE.threshold_tokens, account.c.email, account.c.posted)
                .join(account, account.c.id == _NOTICE.account_id)
                .where(_NOTICE.account_id.in_(ids), account.c.id.in_(ids))
                .order_by(_NOTICE.account_id)
            )
            low = []
            for row in tx.execute(query).all():
                notified = int(row.posted < row.threshold_tokens)
                update = sa.update(low_balance_notice).values(notified=notified)
                unchanged = update.where(_NOTICE.account_id == row.account_id, _NOTICE.notified != notified)
                if tx.execute(unchanged).rowcount and notified:
                    low.append(LowBalance(email=row.email, threshold_tokens=row.threshold_tokens, posted=row.posted))
            return low

        return await self._store.write(fn)
