"""Add up the quarter hours of past days in `usage_span`, behind the `DailyUse` port.

A settlement writes only `usage_quarter`.

Each step adds one day of some accounts, and its progress, in one transaction. So a crash between two steps loses
nothing, and repeating a day gives the same rows.
"""

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.span_rows import LONG_LENGTHS, QUARTERS_PER_DAY
from tok0n.adapters.sql.schema import account, request, usage_rollup
from tok0n.adapters.sql.store import SqlStore, lock_for
from tok0n.domain import ids
from tok0n.domain.ledger import MICROSECONDS_PER_DAY

ADD_UP_DELAY_US = MICROSECONDS_PER_DAY
"""A day is added up this long after its end. A settlement commits long before, even after an outage."""

_ADD = """
INSERT INTO usage_span
    (account_id, span_quarters, quarter, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)
SELECT account_id, {length}, quarter / {length} * {length}, api_key_id, model, sum(requests), sum(prompt_tokens),
    sum(completion_tokens), sum(charged)
FROM usage_quarter WHERE account_id IN :account_ids AND quarter >= :first AND quarter < :until
GROUP BY account_id, quarter / {length}, api_key_id, model
ON CONFLICT (account_id, span_quarters, quarter, api_key_id, model) DO UPDATE SET requests = excluded.requests,
    prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens, charged = excluded.charged
"""
_ADD_LENGTHS = [
    sa.text(_ADD.format(length=length)).bindparams(sa.bindparam("account_ids", expanding=True))
    for length in LONG_LENGTHS
]


class SqlDailyUse:
    """The `DailyUse` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def roll_up(self, *, now_us: int, accounts_max: int) -> bool:
        end_day = (now_us - ADD_UP_DELAY_US) // MICROSECONDS_PER_DAY
        progress = sa.select(usage_rollup)
        # Reads first, because usually there is nothing to add.
        row = await self._store.read(lambda tx: tx.execute(progress).one_or_none())
        if row is not None and row.day == end_day:
            return False

        def fn(tx: sa.Connection) -> bool:
            lock_for(tx, "usage_rollup")
            row = tx.execute(progress).one_or_none()
            if row is None:
                day, after = _first_day(tx, end_day), ""
                tx.execute(sa.insert(usage_rollup).values(day=day, account_id=after))
            else:
                day, after = row
            if day >= end_day:
                # After `end_day`, the clock was ahead. These days may get more use, so they are added up again.
                _set_progress(tx, end_day, "")
                return False
            _set_progress(tx, *_add(tx, day, after=after, accounts_max=accounts_max))
            return True

        return await self._store.write(fn)


def _add(tx: sa.Connection, day: int, *, after: str, accounts_max: int) -> tuple[int, str]:
    """Add up a day of the accounts with the next ids. Returns the progress."""
    page = sa.select(account.c.id).where(account.c.id > after).order_by(account.c.id).limit(accounts_max)
    account_ids = list(tx.scalars(page))
    if account_ids:
        values = {"account_ids": account_ids, "first": day * QUARTERS_PER_DAY, "until": (day + 1) * QUARTERS_PER_DAY}
        for statement in _ADD_LENGTHS:
            tx.execute(statement, values)
    return (day + 1, "") if len(account_ids) < accounts_max else (day, account_ids[-1])


def _first_day(tx: sa.Connection, end_day: int) -> int:
    oldest = tx.scalar(sa.select(sa.func.min(request.c.id)))
    created_us = None if oldest is None else ids.request_time_us(oldest)
    return end_day if created_us is None else min(end_day, created_us // MICROSECONDS_PER_DAY)


def _set_progress(tx: sa.Connection, day: int, account_id: str) -> None:
    tx.execute(sa.update(usage_rollup).values(day=day, account_id=account_id))
