"""The tables that the code reads are those that the migrations make."""

from pathlib import Path

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from tok0n.adapters.sql import migrate, schema

MIGRATIONS = Path(migrate.__file__).parent / "migrations"


def test_the_code_needs_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_current_head() == schema.HEAD


def test_the_migrations_make_the_tables_that_the_code_reads() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.begin() as tx:
        assert migrate.upgrade(tx) == ["0001"]
        assert migrate.upgrade(tx) == []
        differences = compare_metadata(MigrationContext.configure(tx), schema.metadata)
    engine.dispose()
    assert differences == []
