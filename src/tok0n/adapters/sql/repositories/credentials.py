"""The only place that changes credentials: password, email address, second factor, recovery codes, passkeys.

A change locks the user's row, ends every outstanding link and every other session of that user, and counts itself
in `user.credential_changes`, all in the caller's transaction.
"""

import sqlalchemy as sa

from tok0n.adapters.sql.schema import mail_link, session, users
from tok0n.domain.errors import CredentialsChanged, NotFound
from tok0n.domain.users import LinkPurpose, User

COLUMNS = frozenset({"password_hash", "email", "totp_secret"})
"""The columns of `users` that are credentials."""


def user_of_row(row: sa.Row[tuple[object, ...]]) -> User:
    """A user from a whole row of the table."""
    return User(
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


def lock_user(tx: sa.Connection, user_id: str) -> User | None:
    """Lock the user's row until the transaction ends, and read it. SQLite has one writer anyway."""
    row = tx.execute(sa.select(users).where(users.c.id == user_id).with_for_update()).one_or_none()
    return None if row is None else user_of_row(row)


def require_session(tx: sa.Connection, user_id: str, made_in: bytes) -> User:
    """Lock the user's row, and check that the session that asks for a change still exists.

    A password reset ends the session of a thief, and with it every change that the thief has under way. Raises
    `CredentialsChanged`.
    """
    found = lock_user(tx, user_id)
    living = sa.select(session.c.digest).where(session.c.digest == made_in, session.c.user_id == user_id)
    if found is None or tx.scalar(living) is None:
        raise CredentialsChanged
    return found


def change_credentials(
    tx: sa.Connection,
    user_id: str,
    *,
    keep_session: bytes | None = None,
    keep_links: tuple[LinkPurpose, ...] = (),
    **changes: object,
) -> User:
    """Change columns of the user, end the links and other sessions, and return the changed user.

    Call it for a change in another table (passkeys, recovery codes) too, before that change. Raises `NotFound`.
    """
    if lock_user(tx, user_id) is None:
        raise NotFound("There is no such user.")
    links, sessions = mail_link.c, session.c
    tx.execute(sa.delete(mail_link).where(links.user_id == user_id, links.purpose.not_in(keep_links)))
    ended = sa.delete(session).where(sessions.user_id == user_id)
    tx.execute(ended if keep_session is None else ended.where(sessions.digest != keep_session))
    counted = {"credential_changes": users.c.credential_changes + 1, **changes}
    row = tx.execute(sa.update(users).where(users.c.id == user_id).values(**counted).returning(users)).one()
    return user_of_row(row)
