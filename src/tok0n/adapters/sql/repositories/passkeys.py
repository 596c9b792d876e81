"""Passkeys in SQL, behind the `Passkeys` port."""

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.repositories.credentials import change_credentials, require_session, user_of_row
from tok0n.adapters.sql.schema import passkey, users
from tok0n.adapters.sql.store import SqlStore, execute
from tok0n.domain.errors import AlreadyExists, LimitReached
from tok0n.domain.users import Passkey, User

_NAMES = Passkey.__struct_fields__


class SqlPasskeys:
    """The `Passkeys` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def add(self, passkey_: Passkey, *, passkeys_max: int, session_digest: bytes) -> None:
        def fn(tx: sa.Connection) -> None:
            require_session(tx, passkey_.user_id, session_digest)
            count = sa.select(sa.func.count()).where(passkey.c.user_id == passkey_.user_id)
            if tx.execute(count).scalar_one() >= passkeys_max:
                raise LimitReached(f"You have {passkeys_max} passkeys, the most that you can have. Remove one first.")
            change_credentials(tx, passkey_.user_id, keep_session=session_digest)
            try:
                tx.execute(sa.insert(passkey).values(**msgspec.structs.asdict(passkey_)))
            except sa.exc.IntegrityError:
                raise AlreadyExists("You've already added this passkey.") from None

        await self._store.write(fn)

    async def list_for_user(self, user_id: str) -> list[Passkey]:
        query = sa.select(passkey).where(passkey.c.user_id == user_id).order_by(passkey.c.created_at_us)
        return await self._store.read(lambda tx: [_passkey(row) for row in tx.execute(query)])

    async def find(self, credential_id: bytes) -> tuple[Passkey, User] | None:
        def fn(tx: sa.Connection) -> tuple[Passkey, User] | None:
            row = tx.execute(sa.select(passkey).where(passkey.c.credential_id == credential_id)).one_or_none()
            if row is None:
                return None
            owner = tx.execute(sa.select(users).where(users.c.id == row.user_id)).one()
            return _passkey(row), user_of_row(owner)

        return await self._store.read(fn)

    async def record_use(self, credential_id: bytes, *, sign_count: int, now_us: int) -> None:
        update = sa.update(passkey).where(passkey.c.credential_id == credential_id)
        update = update.values(sign_count=sign_count, last_used_at_us=now_us)
        await execute(self._store, update)

    async def remove(self, *, user_id: str, credential_id: bytes, session_digest: bytes) -> None:
        is_passkey = sa.and_(passkey.c.user_id == user_id, passkey.c.credential_id == credential_id)

        def fn(tx: sa.Connection) -> None:
            require_session(tx, user_id, session_digest)
            if tx.execute(sa.delete(passkey).where(is_passkey)).rowcount:
                change_credentials(tx, user_id, keep_session=session_digest)

        await self._store.write(fn)


def _passkey(row: sa.Row[tuple[object, ...]]) -> Passkey:
    return Passkey(**{name: getattr(row, name) for name in _NAMES})
