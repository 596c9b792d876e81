"""Users and their emailed links in SQL, behind the `Users` port."""

import os
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.accounts import insert_account
from tok0n.adapters.sql.repositories.credentials import (
    COLUMNS,
    change_credentials,
    lock_user,
    notify_user,
    require_session,
    user_of_row,
)
from tok0n.adapters.sql.repositories.welcome import grant_welcome
from tok0n.adapters.sql.schema import account, api_key, dismissed_hint, mail_link, passkey, recovery_code, users
from tok0n.adapters.sql.store import SqlStore, execute, lock_for
from tok0n.domain import ids
from tok0n.domain.errors import AlreadyExists, NotFound
from tok0n.domain.notices import NoticeEvent
from tok0n.domain.users import LINK_LIFETIME_US, UTC, Hint, LinkPurpose, SignUpLink, User, Welcome


class SqlUsers:
    """The `Users` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def find(self, email: str) -> User | None:
        query = sa.select(users).where(users.c.email == email)
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        return None if row is None else user_of_row(row)

    async def get(self, user_id: str) -> User:
        query = sa.select(users).where(users.c.id == user_id)
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        if row is None:
            raise NotFound("There is no such user.")
        return user_of_row(row)

    async def has_operator(self) -> bool:
        return await self._store.read(_has_operator)

    async def register(
        self, *, email: str, password_hash: str, now_us: int, link: SignUpLink | None = None, time_zone: str = UTC
    ) -> User:
        def fn(tx: sa.Connection) -> User:
            user = _lock_by_email(tx, email)
            if user is None:
                user = _insert(tx, email=email, password_hash=password_hash, now_us=now_us, time_zone=time_zone)
            elif user.verified_at_us is None:
                # Anyone can sign up with any address, so a sign-up must not end the operator's invitation.
                keep_links = (LinkPurpose.INVITE,)
                user = change_credentials(
                    tx, user.id, keep_links=keep_links, password_hash=password_hash, time_zone=time_zone
                )
            else:
                return user
            if link is not None:
                insert = sa.insert(mail_link).values(
                    digest=link.digest,
                    user_id=user.id,
                    purpose=LinkPurpose.VERIFY,
                    expires_at_us=link.expires_at_us,
                    browser_digest=link.browser_digest,
                )
                tx.execute(insert)
            return user

        return await self._store.write(fn)

    async def create_link(
        self,
        *,
        user_id: str | None,
        purpose: LinkPurpose,
        digest: bytes,
        expires_at_us: int,
        email: str | None,
        session_digest: bytes | None = None,
    ) -> None:
        def fn(tx: sa.Connection) -> None:
            links = mail_link.c
            if user_id is not None:
                if session_digest is not None:
                    require_session(tx, user_id, session_digest)
                elif lock_user(tx, user_id) is None:
                    raise NotFound("There is no such user.")
                tx.execute(sa.delete(mail_link).where(links.user_id == user_id, links.purpose == purpose))
            values = {"digest": digest, "user_id": user_id, "purpose": purpose, "email": email}
            tx.execute(sa.insert(mail_link).values(**values, expires_at_us=expires_at_us))

        await self._store.write(fn)

    async def find_by_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> User | None:
        links = mail_link.c
        query = (
            sa.select(users)
            .join(mail_link, links.user_id == users.c.id)
            .where(links.digest == digest, links.purpose == purpose, links.expires_at_us > now_us)
        )
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        return None if row is None else user_of_row(row)

    async def has_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> bool:
        links = mail_link.c
        query = sa.select(links.purpose).where(
            links.digest == digest, links.purpose == purpose, links.expires_at_us > now_us
        )
        return await self._store.read(lambda tx: tx.execute(query).first()) is not None

    async def use_link(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> bool:
        def fn(tx: sa.Connection) -> bool:
            return consume_link(tx, digest, purpose=purpose, now_us=now_us, may_open=False) is not None

        return await self._store.write(fn)

    async def verify(
        self,
        digest: bytes,
        *,
        now_us: int,
        may_open: bool,
        browser_digest: bytes | None = None,
        welcome: Welcome | None = None,
    ) -> User | None:
        def fn(tx: sa.Connection) -> User | None:
            link = consume_link(
                tx,
                digest,
                purpose=LinkPurpose.VERIFY,
                now_us=now_us,
                may_open=may_open,
                browser_digest=browser_digest,
            )
            if link is None:
                return None
            return _with_account(tx, change_credentials(tx, link.user_id), now_us=now_us, welcome=welcome)

        return await self._store.write(fn)

    async def choose_password(
        self,
        digest: bytes,
        *,
        purpose: LinkPurpose,
        password_hash: str,
        now_us: int,
        may_open: bool,
        welcome: Welcome | None = None,
    ) -> User | None:
        def fn(tx: sa.Connection) -> User | None:
            link = consume_link(tx, digest, purpose=purpose, now_us=now_us, may_open=may_open)
            if link is None:
                return None
            user = change_credentials(tx, link.user_id, password_hash=password_hash)
            notify_user(tx, NoticeEvent.PASSWORD_CHANGED, user, now_us=now_us)
            return _with_account(tx, user, now_us=now_us, welcome=welcome)

        return await self._store.write(fn)

    async def set_up(self, digest: bytes, *, email: str, password_hash: str, now_us: int) -> User | None:
        def fn(tx: sa.Connection) -> User | None:
            lock_for(tx, "the operator's account")
            link = consume_link(tx, digest, purpose=LinkPurpose.SET_UP, now_us=now_us, may_open=True)
            if link is None or _has_operator(tx):
                return None
            user = _lock_by_email(tx, email) or _insert(tx, email=email, password_hash=password_hash, now_us=now_us)
            tx.execute(sa.delete(mail_link).where(mail_link.c.purpose == LinkPurpose.SET_UP))
            operator = change_credentials(tx, user.id, password_hash=password_hash, is_operator=1)
            return _with_account(tx, operator, now_us=now_us)

        return await self._store.write(fn)

    async def change_email(self, digest: bytes, *, now_us: int, keep_session: bytes | None) -> User | None:
        def fn(tx: sa.Connection) -> User | None:
            link = consume_link(tx, digest, purpose=LinkPurpose.EMAIL, now_us=now_us, may_open=False)
            if link is None:
                return None
            other_user = _lock_by_email(tx, link.email)
            lock_for(tx, f"account {link.email}")
            other_account = tx.scalar(sa.select(account.c.id).where(account.c.email == link.email))
            if other_user is not None or other_account is not None:
                return None
            before = lock_user(tx, link.user_id)
            assert before is not None
            notify_user(tx, NoticeEvent.EMAIL_CHANGED, before, now_us=now_us, new_email=link.email)
            user = change_credentials(tx, link.user_id, keep_session=keep_session, email=link.email)
            tx.execute(sa.update(account).where(account.c.id == user.account_id).values(email=link.email))
            return user

        return await self._store.write(fn)

    async def change_password(self, *, user_id: str, password_hash: str, session_digest: bytes, now_us: int) -> None:
        def fn(tx: sa.Connection) -> None:
            require_session(tx, user_id, session_digest)
            user = change_credentials(tx, user_id, keep_session=session_digest, password_hash=password_hash)
            notify_user(tx, NoticeEvent.PASSWORD_CHANGED, user, now_us=now_us)

        await self._store.write(fn)

    async def set_time_zone(self, *, user_id: str, time_zone: str) -> None:
        await self._store.write(lambda tx: _update(tx, user_id, time_zone=time_zone))

    async def dismiss_hint(self, hint: Hint, *, user_id: str) -> None:
        values = {"user_id": user_id, "hint": hint}
        await self._store.write(lambda tx: tx.execute(_DISMISS, values) and None)

    async def dismissed_hints(self, user_id: str) -> set[Hint]:
        query = sa.select(dismissed_hint.c.hint).where(dismissed_hint.c.user_id == user_id)
        return await self._store.read(lambda tx: {Hint(hint) for hint in tx.scalars(query)})

    async def set_totp(
        self,
        *,
        user_id: str,
        secret: str | None,
        step: int,
        recovery_codes: list[bytes],
        session_digest: bytes,
        now_us: int,
    ) -> None:
        def fn(tx: sa.Connection) -> None:
            user = require_session(tx, user_id, session_digest)
            if secret is not None and user.totp_secret is not None:
                raise AlreadyExists("Two-factor authentication is already on. Reload the page.")
            changed = change_credentials(tx, user_id, keep_session=session_digest, totp_secret=secret, totp_step=step)
            if changed.totp_secret != user.totp_secret:
                event = NoticeEvent.TWO_FACTOR_OFF if secret is None else NoticeEvent.TWO_FACTOR_ON
                notify_user(tx, event, changed, now_us=now_us)
            tx.execute(sa.delete(recovery_code).where(recovery_code.c.user_id == user_id))
            for digest in recovery_codes:
                tx.execute(sa.insert(recovery_code).values(user_id=user_id, digest=digest))

        await self._store.write(fn)

    async def use_totp_step(self, *, user_id: str, step: int) -> bool:
        update = sa.update(users).where(users.c.id == user_id, users.c.totp_step < step).values(totp_step=step)
        return await execute(self._store, update) == 1

    async def use_recovery_code(self, *, user_id: str, digest: bytes) -> bool:
        codes = recovery_code.c
        delete = sa.delete(recovery_code).where(codes.user_id == user_id, codes.digest == digest)
        return await execute(self._store, delete) == 1

    async def recovery_codes_left(self, user_id: str) -> int:
        query = sa.select(sa.func.count()).where(recovery_code.c.user_id == user_id)
        return await self._store.read(lambda tx: tx.execute(query).scalar_one())

    async def delete_factors(self, user_id: str) -> None:
        def fn(tx: sa.Connection) -> None:
            change_credentials(tx, user_id, totp_secret=None)
            for table in (recovery_code, passkey):
                tx.execute(sa.delete(table).where(table.c.user_id == user_id))

        await self._store.write(fn)

    async def delete_stale(self, *, now_us: int, rows_max: int) -> int:
        # Because of the OFFSET, PostgreSQL looks up the links of each user instead of reading all of them.
        links_of_user = sa.select(mail_link.c.user_id).where(mail_link.c.user_id == users.c.id).offset(0)
        is_unverified = sa.and_(users.c.verified_at_us.is_(None), users.c.created_at_us <= now_us - LINK_LIFETIME_US)
        stale = sa.select(users.c.id).where(is_unverified, ~links_of_user.exists()).limit(rows_max)

        def fn(tx: sa.Connection) -> int:
            links = tx.execute(sa.delete(mail_link).where(mail_link.c.expires_at_us <= now_us)).rowcount
            delete = sa.delete(users).where(users.c.id.in_(list(tx.scalars(stale))), users.c.verified_at_us.is_(None))
            return links + tx.execute(delete).rowcount

        return await self._store.write(fn)

    async def close_account(self, *, user_id: str, now_us: int) -> None:
        def fn(tx: sa.Connection) -> None:
            account_id = change_credentials(tx, user_id, closed_at_us=now_us).account_id
            tx.execute(sa.update(account).where(account.c.id == account_id).values(status="closed"))
            keys = sa.update(api_key).where(api_key.c.account_id == account_id, api_key.c.revoked_at_us.is_(None))
            tx.execute(keys.values(revoked_at_us=now_us, version=api_key.c.version + 1))

        await self._store.write(fn)


_DISMISS = sa.text("INSERT INTO dismissed_hint (user_id, hint) VALUES (:user_id, :hint) ON CONFLICT DO NOTHING")


def _has_operator(tx: sa.Connection) -> bool:
    return tx.scalar(sa.select(users.c.id).where(users.c.is_operator == 1).limit(1)) is not None


def _lock_by_email(tx: sa.Connection, email: str) -> User | None:
    """Return the user of an address. No other transaction can take the address until this one ends."""
    lock_for(tx, f"user {email}")
    row = tx.execute(sa.select(users).where(users.c.email == email)).one_or_none()
    return None if row is None else user_of_row(row)


def _insert(tx: sa.Connection, *, email: str, password_hash: str, now_us: int, time_zone: str = UTC) -> User:
    values = {"id": ids.user_id(os.urandom(ids.RANDOM_BYTES)), "email": email, "password_hash": password_hash}
    values["time_zone"] = time_zone
    row = tx.execute(sa.insert(users).values(**values, created_at_us=now_us).returning(users)).one()
    return user_of_row(row)


def _update(tx: sa.Connection, user_id: str, **changes: object) -> User:
    assert not COLUMNS & changes.keys(), "change_credentials changes credentials"
    row = tx.execute(sa.update(users).where(users.c.id == user_id).values(**changes).returning(users)).one()
    return user_of_row(row)


def consume_link(
    tx: sa.Connection,
    digest: bytes,
    *,
    purpose: LinkPurpose,
    now_us: int,
    may_open: bool,
    browser_digest: bytes | None = None,
) -> Any:
    """Delete a link. Returns its row (user_id, email, expires_at_us), or None if the link is invalid or has expired.

    An expired link is deleted too. `may_open`: the user may open an account.

    Locks the user's row first, as every change of credentials does. Without `may_open`, a link of a user without an
    account is invalid. So is the link of another browser, if `browser_digest` names one.
    """
    is_link = sa.and_(mail_link.c.digest == digest, mail_link.c.purpose == purpose)
    if browser_digest is not None:
        is_link = sa.and_(is_link, mail_link.c.browser_digest == browser_digest)
    link = tx.execute(sa.select(mail_link.c.user_id).where(is_link)).one_or_none()
    if link is None:
        return None
    if link.user_id is not None:
        owner = lock_user(tx, link.user_id)
        if owner is None or (owner.account_id is None and not may_open):
            return None
    columns = (mail_link.c.user_id, mail_link.c.email, mail_link.c.expires_at_us)
    row = tx.execute(sa.delete(mail_link).where(is_link).returning(*columns)).one_or_none()
    return None if row is None or row.expires_at_us <= now_us else row


def _with_account(tx: sa.Connection, user: User, *, now_us: int, welcome: Welcome | None = None) -> User:
    """Give a user with a verified address the account that the operator opened for the address, or a new one.

    Only a new account gets the welcome tokens.
    """
    if user.account_id is not None:
        return user
    lock_for(tx, f"account {user.email}")
    account_id = tx.scalar(sa.select(account.c.id).where(account.c.email == user.email))
    if account_id is None:
        account_id = insert_account(tx, email=user.email, now_us=now_us)
        if welcome is not None:
            grant_welcome(tx, welcome, account_id=account_id, email=user.email, now_us=now_us)
    return _update(tx, user.id, account_id=account_id, verified_at_us=now_us)
