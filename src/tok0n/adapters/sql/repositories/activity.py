"""The activity of an account in SQL: one row for each change of it or of a key. Rows are appended, never edited.

A row's id counts the changes of all accounts, so nobody may see it. The changes of an account are numbered from 1.
"""

from typing import Any

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import activity, api_key
from tok0n.domain.key_edits import Activity

_ACTIVITY = activity.c


def append(
    tx: sa.Connection,
    *,
    account_id: str,
    api_key_id: str | None,
    action: str,
    actor: str,
    before: dict[str, Any],
    after: dict[str, Any],
    now_us: int,
) -> None:
    """Append a change of a key, or of the account itself. `before` and `after` have what changed, never a secret."""
    tx.execute(
        sa.insert(activity).values(
            account_id=account_id,
            api_key_id=api_key_id,
            action=action,
            actor=actor,
            before=msgspec.json.encode(before).decode(),
            after=msgspec.json.encode(after).decode(),
            created_at_us=now_us,
        )
    )


def select(tx: sa.Connection, account_id: str, *, before: int | None, rows_max: int) -> list[Activity]:
    """Return the newest changes of an account whose number is less than `before`, newest first."""
    of_account = _ACTIVITY.account_id == account_id
    count = tx.scalar(sa.select(sa.func.count()).select_from(activity).where(of_account)) or 0
    end = count if before is None else min(count, before - 1)
    skipped = max(0, end - rows_max)
    if end <= skipped:
        return []
    first_id = sa.select(_ACTIVITY.id).where(of_account).order_by(_ACTIVITY.id).offset(skipped).limit(1)
    query = sa.select(activity, api_key.c.name).outerjoin(api_key, api_key.c.id == _ACTIVITY.api_key_id)
    query = query.where(of_account, _ACTIVITY.id >= first_id.scalar_subquery()).order_by(_ACTIVITY.id)
    rows = tx.execute(query.limit(end - skipped)).all()
    return [_activity(row, number) for number, row in enumerate(rows, skipped + 1)][::-1]


def _activity(row: sa.Row[Any], number: int) -> Activity:
    return Activity(
        id=number,
        action=row.action,
        actor=row.actor,
        api_key_id=row.api_key_id,
        key_name=row.name,
        before=_members(row.before),
        after=_members(row.after),
        created_at_us=row.created_at_us,
    )


def _members(column: str | None) -> dict[str, Any]:
    return {} if column is None else msgspec.json.decode(column, type=dict[str, Any])
