"""The only place that changes credentials: password, email address, second factor, recovery codes, passkeys.

A change locks the person's row, ends every outstanding link and every other session of that person, and counts itself
in `person.credential_changes`, all in the caller's transaction.
"""

import sqlalchemy as sa

from tok0n.adapters.sql.schema import mail_link, person, session
from tok0n.domain.errors import CredentialsChanged, NotFound
from tok0n.domain.users import LinkPurpose, Person

COLUMNS = frozenset({"password_hash", "email", "totp_secret"})
"""The columns of `person` that are credentials."""


def person_of_row(row: sa.Row[tuple[object, ...]]) -> Person:
    """A person from a whole row of the table."""
    return Person(
        id=row.id,
        account_id=row.account_id,
        email=row.email,
        password_hash=row.password_hash,
        verified_at_us=row.verified_at_us,
        time_zone=row.time_zone,
        is_operator=bool(row.is_operator),
        totp_secret=row.totp_secret,
        closed_at_us=row.closed_at_us,
        credential_changes=row.credential_changes,
    )


def lock_person(tx: sa.Connection, person_id: str) -> Person | None:
    """Lock the person's row until the transaction ends, and read it. SQLite has one writer anyway."""
    row = tx.execute(sa.select(person).where(person.c.id == person_id).with_for_update()).one_or_none()
    return None if row is None else person_of_row(row)


def require_session(tx: sa.Connection, person_id: str, made_in: bytes) -> Person:
    """Lock the person's row, and check that the session that asks for a change still exists.

    A password reset ends the session of a thief, and with it every change that the thief has under way. Raises
    `CredentialsChanged`.
    """
    found = lock_person(tx, person_id)
    living = sa.select(session.c.digest).where(session.c.digest == made_in, session.c.person_id == person_id)
    if found is None or tx.scalar(living) is None:
        raise CredentialsChanged
    return found


def change_credentials(
    tx: sa.Connection,
    person_id: str,
    *,
    keep_session: bytes | None = None,
    keep_links: tuple[LinkPurpose, ...] = (),
    **changes: object,
) -> Person:
    """Change columns of the person, end the links and other sessions, and return the changed person.

    Call it for a change in another table (passkeys, recovery codes) too, before that change. Raises `NotFound`.
    """
    if lock_person(tx, person_id) is None:
        raise NotFound("There is no such person.")
    links, sessions = mail_link.c, session.c
    tx.execute(sa.delete(mail_link).where(links.person_id == person_id, links.purpose.not_in(keep_links)))
    ended = sa.delete(session).where(sessions.person_id == person_id)
    tx.execute(ended if keep_session is None else ended.where(sessions.digest != keep_session))
    counted = {"credential_changes": person.c.credential_changes + 1, **changes}
    row = tx.execute(sa.update(person).where(person.c.id == person_id).values(**counted).returning(person)).one()
    return person_of_row(row)
