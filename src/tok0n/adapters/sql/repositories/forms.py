"""Submitted forms in SQL, behind the `Forms` port. The primary key decides which of two submissions comes first."""

import sqlalchemy as sa

from tok0n.adapters.sql.schema import form_submission
from tok0n.adapters.sql.store import SqlStore, execute
from tok0n.domain.errors import AlreadySubmitted
from tok0n.domain.forms import KEPT_US, SEALED_US, Submission

_FORMS = form_submission.c
_CLAIM = sa.text(
    "INSERT INTO form_submission (account_id, form, digest, submitted_at_us, result, sealed)"
    " VALUES (:account_id, :form, :digest, :submitted_at_us, :result, :sealed) ON CONFLICT DO NOTHING"
).bindparams(sa.bindparam("digest", type_=sa.LargeBinary), sa.bindparam("sealed", type_=sa.LargeBinary))


class SqlForms:
    """The `Forms` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def claim(self, submission: Submission, *, result: str | None, now_us: int) -> None:
        await self._store.write(lambda tx: claim(tx, submission, result=result, now_us=now_us))

    async def finish(self, submission: Submission, *, result: str, sealed: bytes | None) -> None:
        finished = sa.update(form_submission).where(*_same_submission(submission)).values(result=result, sealed=sealed)
        await execute(self._store, finished)

    async def withdraw(self, submission: Submission) -> None:
        withdrawn = sa.delete(form_submission).where(*_same_submission(submission), _FORMS.result.is_(None))
        await execute(self._store, withdrawn)

    async def check(self, submission: Submission, *, now_us: int) -> None:
        await self._store.read(lambda tx: check(tx, submission, now_us=now_us))

    async def delete_old(self, *, now_us: int) -> None:
        is_old = _FORMS.submitted_at_us <= now_us - KEPT_US
        is_sealed = sa.and_(_FORMS.sealed.is_not(None), _FORMS.submitted_at_us <= now_us - SEALED_US)

        def has_stale(tx: sa.Connection) -> bool:
            stale = (sa.select(_FORMS.form).where(where).limit(1) for where in (is_old, is_sealed))
            return any(tx.execute(query).first() for query in stale)

        if not await self._store.read(has_stale):  # usually there is nothing to remove
            return

        def fn(tx: sa.Connection) -> None:
            tx.execute(sa.delete(form_submission).where(is_old))
            tx.execute(sa.update(form_submission).where(is_sealed).values(sealed=None))

        await self._store.write(fn)


def claim(
    tx: sa.Connection, submission: Submission, *, result: str | None, now_us: int, sealed: bytes | None = None
) -> None:
    """Store a submission. Raises `AlreadySubmitted` if it is already stored.

    Without `result`, it is in progress. `sealed` is its encrypted secret. PostgreSQL waits until the transaction of an
    equal submission has ended.
    """
    values: dict[str, object] = {"account_id": submission.account_id, "form": submission.form}
    values |= {"digest": submission.digest, "submitted_at_us": now_us, "result": result, "sealed": sealed}
    # A submission that caused the conflict can be withdrawn before `check` reads it: then the claim is free again.
    while tx.execute(_CLAIM, values).rowcount == 0:
        check(tx, submission, now_us=now_us)


def check(tx: sa.Connection, submission: Submission, *, now_us: int) -> None:
    """Raise `AlreadySubmitted` if the submission is stored."""
    query = sa.select(_FORMS.result, _FORMS.sealed, _FORMS.submitted_at_us).where(*_same_submission(submission))
    row = tx.execute(query).one_or_none()
    if row is not None:
        shows_secret = row.submitted_at_us > now_us - SEALED_US
        raise AlreadySubmitted(result=row.result, sealed=row.sealed if shows_secret else None)


def _same_submission(submission: Submission) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        _FORMS.account_id == submission.account_id,
        _FORMS.form == submission.form,
        _FORMS.digest == submission.digest,
    )
