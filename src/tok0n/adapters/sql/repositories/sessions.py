"""Sessions in SQL, behind the `Sessions` port."""

import sqlalchemy as sa

from tok0n.adapters.sql.repositories.credentials import lock_user, notify_user, user_of_row
from tok0n.adapters.sql.schema import account, known_device, session, users
from tok0n.adapters.sql.store import SqlStore, execute
from tok0n.domain.errors import CredentialsChanged
from tok0n.domain.notices import NoticeEvent
from tok0n.domain.users import (
    DEVICES_MAX,
    SESSION_IDLE_US,
    SESSION_LIFETIME_US,
    TWO_FACTOR_LIFETIME_US,
    Session,
    SessionRecord,
    User,
    session_id_of,
)

SEEN_EVERY_US = 60_000_000
"""`seen_at_us` is updated at most once a minute, to avoid a write for every page."""

_SESSION = session.c


class SqlSessions:
    """The `Sessions` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def begin(
        self,
        *,
        user: User,
        digest: bytes,
        agent: str,
        now_us: int,
        awaits_two_factor: bool,
        replaces: bytes | None = None,
        network: str = "",
        device: bytes | None = None,
    ) -> None:
        def fn(tx: sa.Connection) -> None:
            current = lock_user(tx, user.id)
            if current is None or current.credential_changes != user.credential_changes:
                raise CredentialsChanged
            delete = sa.delete(session).where(_SESSION.digest == replaces, _SESSION.waits == 1)
            if replaces is not None and tx.execute(delete).rowcount == 0:
                raise CredentialsChanged
            tx.execute(sa.delete(session).where(_SESSION.user_id == user.id, sa.not_(_is_active(now_us))))
            values = {"digest": digest, "user_id": user.id, "agent": agent, "network": network}
            if device is not None and not awaits_two_factor and _remember_device(tx, current.id, device, now_us=now_us):
                fields = {"user_agent": agent, "network": network}
                notify_user(tx, NoticeEvent.NEW_SIGN_IN, current, now_us=now_us, **fields)
            tx.execute(
                sa.insert(session).values(
                    **values, waits=int(awaits_two_factor), created_at_us=now_us, seen_at_us=now_us
                )
            )

        await self._store.write(fn)

    async def find(self, digest: bytes, *, now_us: int) -> Session | None:
        query = (
            sa.select(users, _SESSION.seen_at_us, account.c.status)
            .join(session, users.c.id == _SESSION.user_id)
            .join(account, account.c.id == users.c.account_id)
            .where(_SESSION.digest == digest, _SESSION.waits == 0, _is_active(now_us), account.c.status != "closed")
        )
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        if row is None:
            return None
        if row.seen_at_us < now_us - SEEN_EVERY_US:
            update = sa.update(session).where(_SESSION.digest == digest).values(seen_at_us=now_us)
            await execute(self._store, update)
        return Session(
            digest=digest,
            user_id=row.id,
            email=row.email,
            account_id=row.account_id,
            time_zone=row.time_zone,
            is_operator=bool(row.is_operator),
            is_suspended=row.status == "suspended",
        )

    async def find_waiting_user(self, digest: bytes, *, now_us: int) -> User | None:
        query = (
            sa.select(users)
            .join(session, users.c.id == _SESSION.user_id)
            .where(_SESSION.digest == digest, _SESSION.waits == 1)
            .where(_SESSION.created_at_us > now_us - TWO_FACTOR_LIFETIME_US)
        )
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        return None if row is None else user_of_row(row)

    async def list_for_user(self, user_id: str, *, now_us: int) -> list[SessionRecord]:
        query = (
            sa.select(_SESSION.digest, _SESSION.agent, _SESSION.network, _SESSION.created_at_us, _SESSION.seen_at_us)
            .where(_SESSION.user_id == user_id, _SESSION.waits == 0, _is_active(now_us))
            .order_by(_SESSION.seen_at_us.desc(), _SESSION.created_at_us.desc())
        )
        return await self._store.read(
            lambda tx: [
                SessionRecord(
                    digest=row.digest,
                    agent=row.agent,
                    network=row.network,
                    created_at_us=row.created_at_us,
                    seen_at_us=row.seen_at_us,
                )
                for row in tx.execute(query)
            ]
        )

    async def end(self, digest: bytes) -> None:
        await execute(self._store, sa.delete(session).where(_SESSION.digest == digest))

    async def end_by_id(self, user_id: str, session_id: str) -> bool:
        def fn(tx: sa.Connection) -> bool:
            digests = tx.scalars(sa.select(_SESSION.digest).where(_SESSION.user_id == user_id)).all()
            matches = [digest for digest in digests if session_id_of(digest) == session_id]
            tx.execute(sa.delete(session).where(_SESSION.digest.in_(matches)))
            return bool(matches)

        return await self._store.write(fn)

    async def end_all(self, user_id: str, *, except_digest: bytes | None = None) -> None:
        delete = sa.delete(session).where(_SESSION.user_id == user_id)
        if except_digest is not None:
            delete = delete.where(_SESSION.digest != except_digest)
        await execute(self._store, delete)

    async def delete_ended(self, *, now_us: int) -> None:
        """Each of the two conditions has its own index."""
        is_idle = _SESSION.seen_at_us <= now_us - SESSION_IDLE_US
        is_old = _SESSION.created_at_us <= now_us - SESSION_LIFETIME_US

        def fn(tx: sa.Connection) -> None:
            for has_ended in (is_idle, is_old):
                tx.execute(sa.delete(session).where(has_ended))

        await self._store.write(fn)


def _is_active(now_us: int) -> sa.ColumnElement[bool]:
    return sa.and_(
        _SESSION.seen_at_us > now_us - SESSION_IDLE_US,
        _SESSION.created_at_us > now_us - SESSION_LIFETIME_US,
    )


def _remember_device(tx: sa.Connection, user_id: str, device: bytes, *, now_us: int) -> bool:
    """Remember a device of the user. Returns True if it was unknown and the user had others.

    The first device tells the owner nothing: it signed up, or was in use before devices were stored. A user keeps the
    `DEVICES_MAX` devices that were used last.
    """
    columns = known_device.c
    is_of_user = columns.user_id == user_id
    update = sa.update(known_device).where(is_of_user, columns.digest == device).values(seen_at_us=now_us)
    if tx.execute(update).rowcount:
        return False
    newest_first = sa.select(columns.digest, columns.seen_at_us).where(is_of_user).order_by(columns.seen_at_us.desc())
    devices = tx.execute(newest_first).all()
    old = [row.digest for row in devices[DEVICES_MAX - 1 :]]
    if old:
        tx.execute(sa.delete(known_device).where(is_of_user, columns.digest.in_(old)))
    tx.execute(sa.insert(known_device).values(user_id=user_id, digest=device, seen_at_us=now_us))
    return bool(devices)
