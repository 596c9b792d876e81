"""The tables that the code reads are those that the migrations make."""

import asyncio
import secrets
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from support import postgres
from tok0n.adapters.sql import migrate, schema
from tok0n.adapters.sql.postgres import PostgresStore
from tok0n.adapters.sql.postgres_connection import PostgresOptions
from tok0n.domain.errors import OperatorError

MIGRATIONS = Path(migrate.__file__).parent / "migrations"


def test_the_code_needs_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_the_migrations_make_the_tables_that_the_code_reads_on_sqlite() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as tx:
        assert migrate.upgrade(tx) == [schema.HEAD]
        assert migrate.upgrade(tx) == []
        assert _differences(tx) == []
    engine.dispose()


@pytest.mark.anyio
async def test_the_migrations_make_the_tables_that_the_code_reads_on_postgres() -> None:
    cluster = await asyncio.to_thread(postgres.shared_cluster)
    url = await postgres.make_database(cluster, f"t{secrets.token_hex(8)}", template="template0")
    stores = [PostgresStore(PostgresOptions(url=url)) for _ in range(8)]
    with pytest.raises(OperatorError, match="Run tok0n migrate"):
        await stores[0].check()
    applied = await asyncio.gather(*(store.migrate() for store in stores))
    assert sorted(applied) == [[]] * 7 + [[schema.HEAD]], "eight at once, one does it"
    await stores[0].check()
    assert await stores[0].read(_differences) == []
    for store in stores:
        await store.aclose()


def _differences(tx: sa.Connection) -> object:
    return compare_metadata(MigrationContext.configure(tx), schema.metadata)
