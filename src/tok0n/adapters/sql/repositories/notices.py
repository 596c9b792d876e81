"""What the owners of accounts want to be told of, behind the `Notices` port."""

import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import lock_accounts
from tok0n.adapters.sql.schema import account, low_balance_notice
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.users import LowBalance

_NOTICE = low_balance_notice.c


class SqlNotices:
    """The `Notices` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def below(self, account_id: str) -> int | None:
        """See `ports.Notices.below`."""
        query = sa.select(_NOTICE.below).where(_NOTICE.account_id == account_id)
        return await self._store.read(lambda tx: tx.scalar(query))

    async def set_below(self, account_id: str, below: int | None) -> None:
        """See `ports.Notices.set_below`. Whoever is below already when it is set knows that, and is not told."""

        def fn(tx: sa.Connection) -> None:
            lock_accounts(tx, [account_id])
            tx.execute(sa.delete(low_balance_notice).where(_NOTICE.account_id == account_id))
            if below is not None:
                told = sa.select(account.c.id, sa.literal(below), sa.case((account.c.posted < below, 1), else_=0))
                columns = ["account_id", "below", "told"]
                tx.execute(sa.insert(low_balance_notice).from_select(columns, told.where(account.c.id == account_id)))

        await self._store.write(fn)

    async def claim_due(self, *, rows_max: int) -> list[LowBalance]:
        """See `ports.Notices.claim_due`. Looks before it writes: mostly there is nothing to tell."""
        if not await self._store.read(lambda tx: tx.execute(_changed(sa.select(_NOTICE.account_id)).limit(1)).first()):
            return []

        def fn(tx: sa.Connection) -> list[LowBalance]:
            query = _changed(sa.select(_NOTICE.account_id, _NOTICE.below, account.c.email, account.c.posted))
            low = []
            for row in tx.execute(query.order_by(_NOTICE.account_id).limit(rows_max)).all():
                told = int(row.posted < row.below)
                mine = sa.update(low_balance_notice).where(_NOTICE.account_id == row.account_id, _NOTICE.told != told)
                if tx.execute(mine.values(told=told)).rowcount and told:
                    low.append(LowBalance(email=row.email, below=row.below, posted=row.posted))
            return low

        return await self._store.write(fn)


def _changed(query: "sa.Select[tuple[object, ...]]") -> "sa.Select[tuple[object, ...]]":
    """Those that crossed their threshold, down or up, since they were last looked at."""
    is_low = sa.case((account.c.posted < _NOTICE.below, 1), else_=0)
    return query.join(account, account.c.id == _NOTICE.account_id).where(
        account.c.status == "open", is_low != _NOTICE.told
    )
