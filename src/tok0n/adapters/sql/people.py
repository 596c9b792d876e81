"""People, their sessions and their mailed links in SQL, behind the `People` port."""

import os

import sqlalchemy as sa

from tok0n.adapters.sql.schema import account, mail_link, person, session
from tok0n.adapters.sql.store import SqlStore, lock_for
from tok0n.domain import ids
from tok0n.domain.people import LINK_LIFE_US, SESSION_IDLE_US, SESSION_LIFE_US, LinkPurpose, Person, SignedIn

SEEN_EVERY_US = 60_000_000
"""How exactly it is known when a session was last used: a write for every page would cost more than it tells."""


class SqlPeople:
    """The `People` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def find(self, email: str) -> Person | None:
        """See `ports.People.find`."""
        query = sa.select(person).where(person.c.email == email)
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        return None if row is None else _person(row)

    async def register(self, *, email: str, password_hash: str, now_us: int) -> Person:
        """See `ports.People.register`."""

        def fn(tx: sa.Connection) -> Person:
            lock_for(tx, f"person {email}")
            row = tx.execute(sa.select(person).where(person.c.email == email)).one_or_none()
            if row is None:
                values = {"id": ids.person_id(os.urandom(ids.RANDOM_BYTES)), "email": email, "created_at_us": now_us}
                tx.execute(sa.insert(person).values(**values, password_hash=password_hash))
            elif row.verified_at_us is None:
                tx.execute(sa.update(person).where(person.c.id == row.id).values(password_hash=password_hash))
            return _person(tx.execute(sa.select(person).where(person.c.email == email)).one())

        return await self._store.write(fn)

    async def make_link(self, *, person_id: str, purpose: LinkPurpose, digest: bytes, now_us: int) -> None:
        """See `ports.People.make_link`."""

        def fn(tx: sa.Connection) -> None:
            links = mail_link.c
            tx.execute(sa.delete(mail_link).where(links.person_id == person_id, links.purpose == purpose))
            values = {"digest": digest, "person_id": person_id, "purpose": purpose}
            tx.execute(sa.insert(mail_link).values(**values, expires_at_us=now_us + LINK_LIFE_US))

        await self._store.write(fn)

    async def linked(self, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> Person | None:
        """See `ports.People.linked`."""
        links = mail_link.c
        query = (
            sa.select(person)
            .join(mail_link, links.person_id == person.c.id)
            .where(links.digest == digest, links.purpose == purpose, links.expires_at_us > now_us)
        )
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        return None if row is None else _person(row)

    async def verify(self, digest: bytes, *, now_us: int) -> Person | None:
        """See `ports.People.verify`."""

        def fn(tx: sa.Connection) -> Person | None:
            found = _take_link(tx, digest, purpose=LinkPurpose.VERIFY, now_us=now_us)
            return None if found is None else _with_account(tx, found, now_us=now_us)

        return await self._store.write(fn)

    async def reset_password(self, digest: bytes, *, password_hash: str, now_us: int) -> Person | None:
        """See `ports.People.reset_password`."""

        def fn(tx: sa.Connection) -> Person | None:
            found = _take_link(tx, digest, purpose=LinkPurpose.RESET, now_us=now_us)
            if found is None:
                return None
            tx.execute(sa.update(person).where(person.c.id == found.id).values(password_hash=password_hash))
            tx.execute(sa.delete(session).where(session.c.person_id == found.id))
            return _with_account(tx, found, now_us=now_us)

        return await self._store.write(fn)

    async def begin_session(self, *, person_id: str, digest: bytes, agent: str, now_us: int) -> None:
        """See `ports.People.begin_session`."""

        def fn(tx: sa.Connection) -> None:
            tx.execute(sa.delete(session).where(session.c.person_id == person_id, _has_ended(now_us)))
            values = {"digest": digest, "person_id": person_id, "agent": agent}
            tx.execute(sa.insert(session).values(**values, created_at_us=now_us, seen_at_us=now_us))

        await self._store.write(fn)

    async def find_session(self, digest: bytes, *, now_us: int) -> SignedIn | None:
        """See `ports.People.find_session`."""
        query = (
            sa.select(session.c.person_id, session.c.seen_at_us, person.c.email, person.c.account_id)
            .join(person, person.c.id == session.c.person_id)
            .join(account, account.c.id == person.c.account_id)
            .where(session.c.digest == digest, sa.not_(_has_ended(now_us)), account.c.status == "open")
        )
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        if row is None:
            return None
        if row.seen_at_us < now_us - SEEN_EVERY_US:
            seen = sa.update(session).where(session.c.digest == digest).values(seen_at_us=now_us)
            await self._store.write(lambda tx: tx.execute(seen) and None)
        return SignedIn(digest=digest, person_id=row.person_id, email=row.email, account_id=row.account_id)

    async def end_session(self, digest: bytes) -> None:
        """See `ports.People.end_session`."""
        await self._store.write(lambda tx: tx.execute(sa.delete(session).where(session.c.digest == digest)) and None)

    async def end_sessions(self, person_id: str) -> None:
        """See `ports.People.end_sessions`."""
        ended = sa.delete(session).where(session.c.person_id == person_id)
        await self._store.write(lambda tx: tx.execute(ended) and None)


def _take_link(tx: sa.Connection, digest: bytes, *, purpose: LinkPurpose, now_us: int) -> Person | None:
    """Use a link up; gives whose it was, if it still worked."""
    taken = tx.execute(
        sa.delete(mail_link)
        .where(mail_link.c.digest == digest, mail_link.c.purpose == purpose)
        .returning(mail_link.c.person_id, mail_link.c.expires_at_us)
    ).one_or_none()
    if taken is None or taken.expires_at_us <= now_us:
        return None
    return _person(tx.execute(sa.select(person).where(person.c.id == taken.person_id)).one())


def _with_account(tx: sa.Connection, found: Person, *, now_us: int) -> Person:
    """Whoever reads the mail of an address owns its account: one that the operator opened, or a new one."""
    if found.account_id is not None:
        return found
    lock_for(tx, f"account {found.email}")
    account_id = tx.scalar(sa.select(account.c.id).where(account.c.email == found.email))
    if account_id is None:
        account_id = ids.account_id(os.urandom(ids.RANDOM_BYTES))
        values = {"id": account_id, "email": found.email, "status": "open", "posted": 0, "pending": 0}
        tx.execute(sa.insert(account).values(**values, created_at_us=now_us))
    changed = {"account_id": account_id, "verified_at_us": now_us}
    tx.execute(sa.update(person).where(person.c.id == found.id).values(**changed))
    return _person(tx.execute(sa.select(person).where(person.c.id == found.id)).one())


def _has_ended(now_us: int) -> sa.ColumnElement[bool]:
    return sa.or_(
        session.c.seen_at_us <= now_us - SESSION_IDLE_US,
        session.c.created_at_us <= now_us - SESSION_LIFE_US,
    )


def _person(row: sa.Row[tuple[object, ...]]) -> Person:
    return Person(
        id=row.id,
        account_id=row.account_id,
        email=row.email,
        password_hash=row.password_hash,
        verified_at_us=row.verified_at_us,
    )
