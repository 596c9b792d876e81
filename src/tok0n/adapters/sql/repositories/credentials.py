"""Change credentials: password, email address, TOTP secret, recovery codes and passkeys. No other module changes them.

In the caller's transaction, a change locks the user's row, ends every outstanding link and every other session of the
user, and increments `user.credential_changes`.
"""

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.notices import append_notice
from tok0n.adapters.sql.schema import mail_link, session, users
from tok0n.domain.errors import CredentialsChanged, NotFound
from tok0n.domain.notices import NoticeEvent
from tok0n.domain.users import LinkPurpose, User

COLUMNS = frozenset({"password_hash", "email", "totp_secret"})
"""The columns of `users` that are credentials."""


def user_of_row(row: sa.Row[tuple[object, ...]]) -> User:
    """Convert a complete row of `users`."""
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
    """Return a user, or None. Locks the row until the transaction ends; SQLite has one writer and needs no lock."""
    row = tx.execute(sa.select(users).where(users.c.id == user_id).with_for_update()).one_or_none()
    return None if row is None else user_of_row(row)


def require_session(tx: sa.Connection, user_id: str, session_digest: bytes) -> User:
    """Lock the user's row, and check that the session that requests a change still exists.

    A password reset ends an attacker's sessions, and this check then stops changes that the attacker has started.
    Raises `CredentialsChanged`.
    """
    user = lock_user(tx, user_id)
    existing = sa.select(session.c.digest).where(session.c.digest == session_digest, session.c.user_id == user_id)
    if user is None or tx.scalar(existing) is None:
        raise CredentialsChanged
    return user


def change_credentials(
    tx: sa.Connection,
    user_id: str,
    *,
    keep_session: bytes | None = None,
    keep_links: tuple[LinkPurpose, ...] = (),
    **changes: object,
) -> User:
    """Change columns of the user, end the user's links and other sessions, and return the changed user.

    Also call it before a change of passkeys or recovery codes, which are in other tables. Raises `NotFound`.
    """
    if lock_user(tx, user_id) is None:
        raise NotFound("There is no such user.")
    links, sessions = mail_link.c, session.c
    tx.execute(sa.delete(mail_link).where(links.user_id == user_id, links.purpose.not_in(keep_links)))
    delete = sa.delete(session).where(sessions.user_id == user_id)
    tx.execute(delete if keep_session is None else delete.where(sessions.digest != keep_session))
    values = {"credential_changes": users.c.credential_changes + 1, **changes}
    row = tx.execute(sa.update(users).where(users.c.id == user_id).values(**values).returning(users)).one()
    return user_of_row(row)


def notify_user(tx: sa.Connection, event: NoticeEvent, user: User, *, now_us: int, **fields: str) -> None:
    """Store a notice for a user at the current address. A user without an account has changed nothing yet."""
    if user.account_id is not None:
        append_notice(tx, event, account_id=user.account_id, email=user.email, fields=fields, now_us=now_us)
