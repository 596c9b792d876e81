"""Alerts of budgets in SQL, behind the `BudgetNotices` port. `budget_period.notified` is the share already reported."""

import functools
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.ledger_functions import lock_budgets
from tok0n.adapters.sql.new_entries import Alert, NewEntries
from tok0n.adapters.sql.repositories.keys import budget_of
from tok0n.adapters.sql.schema import account, api_key, budget_period, key_budget
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.budgets import SpentBudget

_PERIOD = budget_period.c
_BUDGETS = (
    sa.select(key_budget, api_key.c.name, api_key.c.account_id, account.c.email)
    .join(api_key, api_key.c.id == key_budget.c.api_key_id)
    .join(account, account.c.id == api_key.c.account_id)
    .where(api_key.c.revoked_at_us.is_(None), account.c.status == "open")
)


class SqlBudgetNotices:
    """The `BudgetNotices` port."""

    def __init__(self, store: SqlStore) -> None:
        self._entries = NewEntries(store, Alert.BUDGET, account_ids=account.c.id, can_be_due=_has_budget)

    async def claim_due(self, *, now_us: int, rows_max: int) -> list[SpentBudget]:
        """See `ports.BudgetNotices.claim_due`.

        The first call checks the current period of every budget. Later calls check the budgets of accounts that have
        new entries or a changed budget, or that were reopened.
        """
        find, claim = (functools.partial(function, now_us=now_us) for function in (_due_of, _claim))
        return await self._entries.claim(find, claim, rows_max=rows_max)


def _has_budget(account_id: "sa.ColumnElement[str]") -> "sa.ColumnElement[bool]":
    return sa.exists().where(api_key.c.account_id == account_id, key_budget.c.api_key_id == api_key.c.id)


def _due_of(tx: sa.Connection, account_ids: list[str], *, now_us: int) -> list[SpentBudget]:
    """Return the budgets of the accounts that have reached a share that is not reported."""
    due = []
    for row in tx.execute(_BUDGETS.where(api_key.c.account_id.in_(account_ids)).order_by(key_budget.c.id)).all():
        budget = budget_of(row)
        of_period = sa.and_(
            _PERIOD.budget_id == budget.id, _PERIOD.starts_at_us == budget.period_at(now_us).starts_at_us
        )
        spent, notified = _use(tx, of_period)
        percent = budget.notice_percent(spent)
        if percent > notified:
            due.append(
                SpentBudget(
                    account_id=row.account_id,
                    email=row.email,
                    api_key_id=row.api_key_id,
                    key_name=row.name,
                    budget=budget,
                    spent=spent,
                    percent=percent,
                )
            )
    return due


def _use(tx: sa.Connection, of_period: "sa.ColumnElement[bool]") -> tuple[int, int]:
    row: Any = tx.execute(sa.select(_PERIOD.spent, _PERIOD.notified).where(of_period)).one_or_none()
    return (0, 0) if row is None else (row.spent, row.notified)


def _claim(tx: sa.Connection, due: list[SpentBudget], *, now_us: int) -> list[SpentBudget]:
    """Record the shares as reported. Returns those that no other process has recorded."""
    existing = set(lock_budgets(tx, [spent.budget.id for spent in due]))
    claimed = []
    for spent in due:
        if spent.budget.id not in existing:
            continue
        starts_at_us = spent.budget.period_at(now_us).starts_at_us
        update = sa.update(budget_period).where(
            _PERIOD.budget_id == spent.budget.id,
            _PERIOD.starts_at_us == starts_at_us,
            _PERIOD.notified < spent.percent,
        )
        if tx.execute(update.values(notified=spent.percent)).rowcount:
            claimed.append(spent)
    return claimed
