"""Redeem codes that can still be used, in SQL, behind the `UsableCodes` port."""

import sqlalchemy as sa

from tok0n.adapters.sql.schema import redeem_code
from tok0n.adapters.sql.store import SqlStore


class SqlUsableCodes:
    """The `UsableCodes` port. Its queries use the partial index `redeem_code_usable`."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def exist(self, *, now_us: int) -> bool:
        codes = redeem_code.c
        is_unexpired = (codes.expires_at_us > now_us, codes.expires_at_us.is_(None))
        queries = [sa.select(sa.literal(1)).where(codes.uses < codes.uses_max, where) for where in is_unexpired]

        def fn(tx: sa.Connection) -> bool:
            return any(tx.scalar(query.limit(1)) for query in queries)

        return await self._store.read(fn)
