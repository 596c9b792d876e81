"""The `ExportedRows` port in SQL. Every query seeks by index, and reads one page."""

import sqlalchemy as sa

from tok0n.adapters.sql.schema import (
    account,
    api_key,
    budget_period,
    key_budget,
    known_device,
    rejected_count,
    users,
)
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.exported import AccountFacts, PastBudgetPeriod, RejectedCount
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR

_NEVER_US = 2**62


class SqlExportedRows:
    """The `ExportedRows` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def facts(self, *, account_id: str, user_id: str) -> AccountFacts:
        query = sa.select(account.c.status, account.c.created_at_us, users.c.created_at_us.label("user_created_at_us"))
        query = query.join(users, users.c.account_id == account.c.id)
        query = query.where(account.c.id == account_id, users.c.id == user_id)
        devices = sa.select(known_device.c.seen_at_us).where(known_device.c.user_id == user_id)

        def fn(tx: sa.Connection) -> AccountFacts:
            row = tx.execute(query).one()
            seen = list(tx.scalars(devices.order_by(known_device.c.seen_at_us.desc())))
            return AccountFacts(
                status=row.status,
                created_at_us=row.created_at_us,
                user_created_at_us=row.user_created_at_us,
                known_devices=seen,
            )

        return await self._store.read(fn)

    async def budget_periods(
        self, account_id: str, *, budget_id: str, before: PastBudgetPeriod | None, rows_max: int
    ) -> list[PastBudgetPeriod]:
        columns = budget_period.c
        is_owned = sa.select(key_budget.c.id).join(api_key, api_key.c.id == key_budget.c.api_key_id)
        is_owned = is_owned.where(key_budget.c.id == budget_id, api_key.c.account_id == account_id)
        until_us = _NEVER_US if before is None else before.starts_at_us
        names = PastBudgetPeriod.__struct_fields__
        query = sa.select(*(columns[name] for name in names))
        query = query.where(columns.budget_id == budget_id, columns.starts_at_us < until_us)
        query = query.order_by(columns.starts_at_us.desc()).limit(rows_max)

        def fn(tx: sa.Connection) -> list[PastBudgetPeriod]:
            if tx.execute(is_owned).first() is None:
                return []
            return [PastBudgetPeriod(**{name: getattr(row, name) for name in names}) for row in tx.execute(query)]

        return await self._store.read(fn)

    async def rejected_counts(
        self, account_id: str, *, before: RejectedCount | None, rows_max: int
    ) -> list[RejectedCount]:
        columns = rejected_count.c
        order = (columns.quarter, columns.api_key_id, columns.model, columns.code)
        query = sa.select(rejected_count).where(columns.account_id == account_id)
        if before is not None:
            last = (before.since_us // MICROSECONDS_PER_QUARTER_HOUR, before.api_key_id, before.model, before.code)
            query = query.where(sa.tuple_(*order) < last)
        query = query.order_by(*(column.desc() for column in order)).limit(rows_max)

        def fn(tx: sa.Connection) -> list[RejectedCount]:
            return [
                RejectedCount(
                    since_us=row.quarter * MICROSECONDS_PER_QUARTER_HOUR,
                    api_key_id=row.api_key_id,
                    model=row.model,
                    code=row.code,
                    requests=row.requests,
                    stored=row.stored,
                )
                for row in tx.execute(query)
            ]

        return await self._store.read(fn)
