"""Counted attempts in SQL, behind the `Attempts` port. Each kind and subject has one row, and one statement decides.

On PostgreSQL, concurrent attempts wait for the row's lock, and then check the condition on the newest version.
"""

import sqlalchemy as sa

from tok0n.adapters.sql.schema import attempt
from tok0n.adapters.sql.store import SqlStore, execute
from tok0n.domain.attempts import AttemptKind, AttemptLimit, CountedAttempt, TooMany

_ATTEMPTS = attempt.c
_COUNT = sa.text(
    "INSERT INTO attempt (kind, subject, since_us, expires_at_us, counted)"
    " VALUES (:kind, :subject, :now_us, :expires_at_us, 1)"
    " ON CONFLICT (kind, subject) DO UPDATE SET"
    " since_us = CASE WHEN attempt.expires_at_us <= :now_us THEN :now_us ELSE attempt.since_us END,"
    " counted = CASE WHEN attempt.expires_at_us <= :now_us THEN 1 ELSE attempt.counted + 1 END,"
    " expires_at_us = :expires_at_us"
    " WHERE attempt.expires_at_us <= :now_us OR attempt.counted < :attempts_max"
    " RETURNING since_us"
).bindparams(
    sa.bindparam("subject", type_=sa.LargeBinary),
    *(sa.bindparam(name, type_=sa.BigInteger) for name in ("now_us", "expires_at_us", "attempts_max")),
)


class SqlAttempts:
    """The `Attempts` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def count_attempt(
        self, kind: AttemptKind, subject: bytes, *, limit: AttemptLimit, now_us: int
    ) -> CountedAttempt | TooMany:
        values = {"kind": kind.value, "subject": subject, "now_us": now_us, "attempts_max": limit.attempts_max}
        values["expires_at_us"] = now_us + limit.quiet_us
        expiry = sa.select(_ATTEMPTS.expires_at_us).where(_ATTEMPTS.kind == kind.value, _ATTEMPTS.subject == subject)

        def fn(tx: sa.Connection) -> CountedAttempt | TooMany:
            since_us = tx.execute(_COUNT, values).scalar_one_or_none()
            if since_us is not None:
                return CountedAttempt(kind=kind, subject=subject, since_us=since_us)
            expires_at_us = tx.execute(expiry).scalar_one_or_none()
            return TooMany(wait_us=max(1, (expires_at_us or now_us) - now_us))

        return await self._store.write(fn)

    async def take_back(self, counted: CountedAttempt) -> None:
        decrement = (
            sa.update(attempt)
            .where(
                _ATTEMPTS.kind == counted.kind.value,
                _ATTEMPTS.subject == counted.subject,
                _ATTEMPTS.since_us == counted.since_us,
                _ATTEMPTS.counted > 0,
            )
            .values(counted=_ATTEMPTS.counted - 1)
        )
        await execute(self._store, decrement)

    async def delete_expired(self, *, now_us: int, rows_max: int) -> int:
        is_expired = _ATTEMPTS.expires_at_us <= now_us
        expired = sa.select(_ATTEMPTS.kind, _ATTEMPTS.subject).where(is_expired).order_by(_ATTEMPTS.expires_at_us)

        def has_expired(tx: sa.Connection) -> bool:
            return tx.execute(expired.limit(1)).first() is not None

        if not await self._store.read(has_expired):  # usually there is nothing to remove
            return 0
        key = sa.tuple_(_ATTEMPTS.kind, _ATTEMPTS.subject)
        # PostgreSQL checks the outer condition again if a row changes after the subquery.
        delete = sa.delete(attempt).where(key.in_(expired.limit(rows_max)), is_expired)
        return await execute(self._store, delete)
