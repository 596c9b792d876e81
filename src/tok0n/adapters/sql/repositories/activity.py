"""The activity log of an account in SQL: who changed what, and when. It never contains a secret."""

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import activity


def record_activity(
    tx: sa.Connection,
    *,
    account_id: str,
    action: str,
    actor: str,
    now_us: int,
    api_key_id: str | None = None,
    before: Mapping[str, object] | None = None,
    after: Mapping[str, object] | None = None,
) -> None:
    """Record a change in the transaction that makes it. `before` and `after` have the changed members."""
    tx.execute(
        sa.insert(activity).values(
            account_id=account_id,
            api_key_id=api_key_id,
            action=action,
            actor=actor,
            before=_encoded(before),
            after=_encoded(after),
            created_at_us=now_us,
        )
    )


def _encoded(members: Mapping[str, object] | None) -> str | None:
    return None if members is None else msgspec.json.encode(members).decode()
