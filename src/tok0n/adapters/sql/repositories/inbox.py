"""The payment provider's events in SQL, behind the `Inbox` port."""

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import payment_event, payment_reconciliation
from tok0n.adapters.sql.store import SqlStore, execute, lock_for
from tok0n.domain.payments import NotApplicable, PaymentEvent, StoredEvent

_EVENTS = payment_event.c
_RECONCILED = payment_reconciliation.c.at_us


class SqlInbox:
    """The `Inbox` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def store(self, event: PaymentEvent, *, now_us: int) -> bool:
        existing = sa.select(_EVENTS.id).where(_EVENTS.id == event.id)
        insert = sa.insert(payment_event).values(
            id=event.id,
            type=event.type,
            event=msgspec.json.encode(event).decode(),
            created_at_us=event.created_at_us,
            received_at_us=now_us,
        )

        def fn(tx: sa.Connection) -> bool:
            lock_for(tx, f"payment event {event.id}")
            if tx.execute(existing).first() is not None:
                return False
            tx.execute(insert)
            return True

        return await self._store.write(fn)

    async def unhandled(self, *, now_us: int, rows_max: int) -> list[StoredEvent]:
        query = (
            sa.select(payment_event)
            .where(_EVENTS.handled_at_us.is_(None), _EVENTS.due_at_us <= now_us)
            .order_by(_EVENTS.attempts, _EVENTS.received_at_us, _EVENTS.id)
            .limit(rows_max)
        )
        return await self._store.read(lambda tx: [_stored(row) for row in tx.execute(query)])

    async def mark_handled(self, event_id: str, *, now_us: int, failure: str | None) -> bool:
        update = sa.update(payment_event).where(_EVENTS.id == event_id, _EVENTS.handled_at_us.is_(None))
        update = update.values(handled_at_us=now_us, failure=failure)
        return await execute(self._store, update) == 1

    async def record_attempt(self, event_id: str, *, attempts: int, due_at_us: int, failure: str) -> bool:
        is_unhandled = sa.and_(_EVENTS.id == event_id, _EVENTS.handled_at_us.is_(None), _EVENTS.attempts < attempts)
        update = sa.update(payment_event).where(is_unhandled)
        update = update.values(attempts=attempts, due_at_us=due_at_us, failure=failure)
        return await execute(self._store, update) == 1

    async def last_reconciled_us(self) -> int | None:
        return await self._store.read(lambda tx: tx.scalar(sa.select(sa.func.max(_RECONCILED))))

    async def mark_reconciled(self, *, at_us: int) -> None:
        def fn(tx: sa.Connection) -> None:
            tx.execute(sa.delete(payment_reconciliation).where(at_us >= _RECONCILED))
            tx.execute(sa.insert(payment_reconciliation).values(at_us=at_us))

        await self._store.write(fn)


def _stored(row: sa.Row[tuple[object, ...]]) -> StoredEvent:
    try:
        event = msgspec.json.decode(row.event, type=PaymentEvent)
    except msgspec.ValidationError as error:  # An older version stored it with fewer checks.
        fact = NotApplicable(why=str(error))
        event = PaymentEvent(id=row.id, type=row.type, created_at_us=row.created_at_us, fact=fact)
    return StoredEvent(event=event, attempts=row.attempts, received_at_us=row.received_at_us)
