"""Copy an embedded database to PostgreSQL. Needs the extra `postgres`."""

from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql.copying import Copied, copy
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.bootstrap.resources import open_store
from tok0n.domain.errors import OperatorError
from tok0n.settings import Settings


async def copy_to_postgres(settings: Settings, url: str) -> Copied:
    """Migrate an empty PostgreSQL database, and copy the embedded database of the settings to it.

    Raises `OperatorError` if a server uses the source or the target is not empty.
    """
    if settings.database.is_postgres:
        raise OperatorError("database.url is a PostgreSQL database. tok0n copy copies only an embedded database.")
    async with open_store(settings, serving=True) as source:
        assert isinstance(source.database, SqliteStore)
        await source.ledger.recover(now_us=SystemClock().now_us())
        target = PostgresStore(PostgresOptions(url=url))
        try:
            await target.migrate()
            return await copy(source.database, target)
        finally:
            await target.aclose()
