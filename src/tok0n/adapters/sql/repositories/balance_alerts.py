"""Alerts of low balances in SQL, behind the `BalanceAlerts` port."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import lock_wallets
from tok0n.adapters.sql.new_entries import Alert, NewEntries
from tok0n.adapters.sql.schema import account, balance_alert, wallet
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.notices import BalanceAlert, LowBalance

_ALERT = balance_alert.c
_POSTED = sa.func.coalesce(wallet.c.posted, 0)
_IS_LOW = sa.case((_ALERT.threshold_tokens > _POSTED, 1), else_=0)


class SqlBalanceAlerts:
    """The `BalanceAlerts` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store
        self._entries = NewEntries(
            store,
            Alert.BALANCE,
            account_ids=_ALERT.account_id,
            can_be_due=lambda account_id: sa.exists().where(_ALERT.account_id == account_id),
        )

    async def list_for_account(self, account_id: str) -> list[BalanceAlert]:
        query = sa.select(_ALERT.token_class, _ALERT.threshold_tokens).where(_ALERT.account_id == account_id)
        query = query.order_by(_ALERT.token_class, _ALERT.threshold_tokens)
        return await self._store.read(lambda tx: [_alert(row) for row in tx.execute(query)])

    async def replace(self, account_id: str, alerts: Sequence[BalanceAlert]) -> None:
        """An alert that stays keeps its mark."""
        columns = (_ALERT.token_class, _ALERT.threshold_tokens)

        def fn(tx: sa.Connection) -> None:
            lock_wallets(tx, [account_id])
            current = {_alert(row) for row in tx.execute(sa.select(*columns).where(_ALERT.account_id == account_id))}
            wallets = sa.select(wallet.c.token_class, wallet.c.posted).where(wallet.c.account_id == account_id)
            posted: dict[str, int] = {row.token_class: row.posted for row in tx.execute(wallets)}
            for alert in current - set(alerts):
                tx.execute(sa.delete(balance_alert).where(_is(account_id, alert)))
            for alert in set(alerts) - current:
                is_low = posted.get(alert.token_class, 0) < alert.threshold_tokens
                values = {"account_id": account_id, "token_class": alert.token_class, "notified": int(is_low)}
                tx.execute(sa.insert(balance_alert).values(**values, threshold_tokens=alert.threshold_tokens))

        await self._store.write(fn)

    async def claim_due(self, *, rows_max: int) -> list[LowBalance]:
        """See `ports.BalanceAlerts.claim_due`.

        The first call checks every alert. Later calls check the alerts of accounts that have new entries or were
        reopened.
        """
        return await self._entries.claim(_due_among, _claim, rows_max=rows_max)


def _due_among(tx: sa.Connection, account_ids: list[str]) -> list[str]:
    return list(tx.scalars(_changed(sa.select(_ALERT.account_id), account_ids).distinct()))


def _claim(tx: sa.Connection, account_ids: list[str]) -> list[LowBalance]:
    """Mark the alerts that a balance has crossed, down or up. Returns the lowest alert of each balance that is low."""
    columns = _ALERT.account_id, _ALERT.token_class, _ALERT.threshold_tokens, account.c.email, _POSTED.label("posted")
    low: dict[tuple[str, str], LowBalance] = {}
    query = _changed(sa.select(*columns), account_ids)
    for row in tx.execute(query.order_by(_ALERT.account_id, _ALERT.token_class, _ALERT.threshold_tokens)).all():
        notified = int(row.posted < row.threshold_tokens)
        update = sa.update(balance_alert).where(_is(row.account_id, _alert(row)), _ALERT.notified != notified)
        if tx.execute(update.values(notified=notified)).rowcount and notified:
            fallen = LowBalance(
                account_id=row.account_id,
                email=row.email,
                token_class=row.token_class,
                threshold_tokens=row.threshold_tokens,
                posted=row.posted,
            )
            low.setdefault((row.account_id, row.token_class), fallen)
    return list(low.values())


def _is(account_id: str, alert: BalanceAlert) -> "sa.ColumnElement[bool]":
    return sa.and_(
        _ALERT.account_id == account_id,
        _ALERT.token_class == alert.token_class,
        _ALERT.threshold_tokens == alert.threshold_tokens,
    )


def _alert(row: Any) -> BalanceAlert:
    return BalanceAlert(threshold_tokens=row.threshold_tokens, token_class=row.token_class)


def _changed(query: "sa.Select[Any]", account_ids: list[str]) -> "sa.Select[Any]":
    """Narrow `query` to the alerts of these accounts that a balance has crossed since the last check."""
    is_wallet = sa.and_(wallet.c.account_id == _ALERT.account_id, wallet.c.token_class == _ALERT.token_class)
    accounts = query.join(account, account.c.id == _ALERT.account_id)
    return accounts.outerjoin(wallet, is_wallet).where(
        _ALERT.account_id.in_(account_ids),
        account.c.id.in_(account_ids),
        account.c.status == "open",
        _ALERT.notified != _IS_LOW,
    )
