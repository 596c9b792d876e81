"""The activity of an account in SQL: one row for each change of it or of a key. Rows are appended, never edited."""

from typing import Any

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import activity, api_key
from tok0n.domain.key_edits import Activity

_COLUMNS = activity.c


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
    """Return the newest rows of an account whose id is less than `before`."""
    query = sa.select(activity, api_key.c.name).outerjoin(api_key, api_key.c.id == _COLUMNS.api_key_id)
    query = query.where(_COLUMNS.account_id == account_id)
    if before is not None:
        query = query.where(_COLUMNS.id < before)
    return [_activity(row) for row in tx.execute(query.order_by(_COLUMNS.id.desc()).limit(rows_max))]


def _activity(row: sa.Row[Any]) -> Activity:
    return Activity(
        id=row.id,
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
