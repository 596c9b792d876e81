"""Several stores on one database, as several processes have them."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from support import postgres, sqlite
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.sql.store import SqlStore

Opener = Callable[[], Awaitable[SqlStore]]


@contextlib.asynccontextmanager
async def opener(engine: str, folder: Path) -> AsyncIterator[Opener]:
    """Opens one more store on the same new database at each call, and closes all of them at the end."""
    opened: list[SqlStore] = []
    url = ""
    if engine == "postgres":
        cluster = await asyncio.to_thread(postgres.shared_cluster)
        url = await postgres.make_database(cluster, f"t{secrets.token_hex(8)}")

    async def open_store() -> SqlStore:
        store: SqlStore
        if url:
            store = PostgresStore(PostgresOptions(url=url))
        else:
            await sqlite.make_database(folder / "shared.db")
            store = SqliteStore(folder / "shared.db", serving=not opened)
        opened.append(store)
        return store

    try:
        yield open_store
    finally:
        for store in opened:
            await store.aclose()
