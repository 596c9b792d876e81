"""Notices of events, and the preferences of their receivers, in SQL: the ports `NoticeOutbox` and `Preferences`."""

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import notice, notice_preference, users
from tok0n.adapters.sql.store import SqlStore, lock_for
from tok0n.domain.notices import (
    EMAILS_PER_HOUR_MAX,
    HOUR_US,
    OPTIONAL_KINDS,
    SUMMARY_EVENTS_MAX,
    DueNotices,
    Notice,
    NoticeChannel,
    NoticeEvent,
    NoticeKind,
)
from tok0n.domain.users import UTC

GROUPS_MAX = 100
"""The most accounts and kinds that one call handles."""

_NOTICE = notice.c
_PREFERENCE = notice_preference.c


def append_notice(
    tx: sa.Connection, event: NoticeEvent, *, account_id: str, email: str, fields: Mapping[str, str], now_us: int
) -> None:
    """Store a notice of an event in the transaction of the event. `email` is the address that gets it."""
    tx.execute(
        sa.insert(notice).values(
            account_id=account_id,
            kind=event.kind,
            event=event,
            fields=msgspec.json.encode(fields).decode(),
            email=email,
            created_at_us=now_us,
        )
    )


class SqlNoticeOutbox:
    """The `NoticeOutbox` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def claim_due(self, *, now_us: int) -> list[DueNotices]:
        """Writes nothing if nothing waits."""
        is_old = _NOTICE.sent_at_us <= now_us - HOUR_US

        def waits(tx: sa.Connection) -> bool:
            conditions = (_NOTICE.sent_at_us.is_(None), is_old)
            return any(tx.execute(sa.select(_NOTICE.id).where(each).limit(1)).first() for each in conditions)

        def fn(tx: sa.Connection) -> list[DueNotices]:
            lock_for(tx, "notices")
            tx.execute(sa.delete(notice).where(is_old))
            columns = (_NOTICE.account_id, _NOTICE.kind, _NOTICE.email)
            groups = sa.select(*columns).where(_NOTICE.sent_at_us.is_(None)).distinct().order_by(*columns)
            due: list[DueNotices] = []
            for group in tx.execute(groups).all():
                due += _claim_group(tx, group, now_us=now_us)
                if len(due) >= GROUPS_MAX:
                    break
            return due

        return await self._store.write(fn) if await self._store.read(waits) else []


def _claim_group(tx: sa.Connection, group: Any, *, now_us: int) -> list[DueNotices]:
    """Mark the notices of an account and kind that an email may be sent about, and return the emails."""
    of_kind = sa.and_(_NOTICE.account_id == group.account_id, _NOTICE.kind == group.kind)
    waits = sa.and_(of_kind, _NOTICE.email == group.email, _NOTICE.sent_at_us.is_(None))
    if group.kind in OPTIONAL_KINDS and (group.kind, NoticeChannel.EMAIL) in _turned_off(tx, group.account_id):
        tx.execute(sa.delete(notice).where(waits))
        return []
    sent = sa.select(sa.func.count()).where(of_kind, _NOTICE.sent_at_us > now_us - HOUR_US)
    room = EMAILS_PER_HOUR_MAX - tx.execute(sent).scalar_one()
    if room <= 0:
        return []
    rows = tx.execute(sa.select(notice).where(waits).order_by(_NOTICE.id).limit(SUMMARY_EVENTS_MAX)).all()
    marked, dropped = (
        ([row.id for row in rows], []) if len(rows) <= room else ([rows[0].id], [row.id for row in rows[1:]])
    )
    tx.execute(sa.update(notice).where(_NOTICE.id.in_(marked)).values(sent_at_us=now_us))
    if dropped:
        tx.execute(sa.delete(notice).where(_NOTICE.id.in_(dropped)))
    zone = tx.scalar(sa.select(users.c.time_zone).where(users.c.account_id == group.account_id)) or UTC
    notices = [_notice(row) for row in rows]
    emails = [notices] if dropped else [[each] for each in notices]
    return [
        DueNotices(kind=NoticeKind(group.kind), email=group.email, time_zone=zone, notices=tuple(email))
        for email in emails
    ]


def _notice(row: Any) -> Notice:
    fields = msgspec.json.decode(row.fields, type=dict[str, str])
    return Notice(event=NoticeEvent(row.event), fields=fields, created_at_us=row.created_at_us)


class SqlPreferences:
    """The `Preferences` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def turned_off(self, account_id: str) -> set[tuple[str, str]]:
        return await self._store.read(lambda tx: _turned_off(tx, account_id))

    async def replace(self, account_id: str, values: Mapping[tuple[str, str], bool]) -> None:
        def fn(tx: sa.Connection) -> None:
            lock_for(tx, f"notice preferences {account_id}")
            for (kind, channel), is_on in values.items():
                is_row = _PREFERENCE.account_id == account_id, _PREFERENCE.kind == kind, _PREFERENCE.channel == channel
                tx.execute(sa.delete(notice_preference).where(*is_row))
                row = {"account_id": account_id, "kind": kind, "channel": channel, "is_on": int(is_on)}
                tx.execute(sa.insert(notice_preference).values(row))

        await self._store.write(fn)


def _turned_off(tx: sa.Connection, account_id: str) -> set[tuple[str, str]]:
    query = sa.select(_PREFERENCE.kind, _PREFERENCE.channel)
    rows = tx.execute(query.where(_PREFERENCE.account_id == account_id, _PREFERENCE.is_on == 0))
    return {(row.kind, row.channel) for row in rows}
