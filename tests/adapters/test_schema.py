"""The tables that the code reads are those that the migrations make."""

import asyncio
import functools
import pkgutil
import re
import secrets
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from support import postgres
from support.ledgers import NOW_US, open_engine
from support.rollups import roll_up
from support.spending import spend
from tok0n.adapters.sql import migrate, migrations, schema
from tok0n.adapters.sql.postgres import connection
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.domain.errors import AccountingFailed, OperatorError
from tok0n.domain.ledger import MICROSECONDS_PER_DAY

HELD_OTHERWISE = {
    "add_fk request.account_id",
    "add_fk request.api_key_id",
    "add_fk ledger_entry.account_id",
    "add_fk ledger_entry.request_id",
    "add_fk usage_quarter.account_id",
    "add_fk usage_quarter.api_key_id",
    "add_fk usage_span.account_id",
    "add_fk usage_span.api_key_id",
}
"""The foreign keys that PostgreSQL does not check (docs/adr/0012): triggers of `postgres/guards.sql` replace them."""


SCHEMA = Path(migrate.__file__).parent / "schema.sql"


def test_the_newest_migration_ends_at_the_schema_that_the_code_needs() -> None:
    modules = (module.name for module in pkgutil.iter_modules(migrations.__path__))
    sources = [int(name.removeprefix("from_")) for name in modules if name.startswith("from_")]
    assert max(sources) + 1 == int(schema.HEAD)


def test_the_code_and_the_schema_agree_on_the_conditions_of_partial_indexes() -> None:
    created = {
        name: " ".join(condition.split())
        for name, condition in re.findall(
            r"CREATE (?:UNIQUE )?INDEX (\w+) ON [^;]*? WHERE ([^;]*);", SCHEMA.read_text()
        )
    }
    indexes = [index for table in schema.metadata.tables.values() for index in table.indexes]
    described = {
        str(index.name): str(index.dialect_options["sqlite"]["where"])
        for index in indexes
        if index.dialect_options["sqlite"]["where"] is not None
    }
    assert "request_slow" in described
    assert described == created


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
    assert {_name(difference) for difference in await stores[0].read(_differences)} == HELD_OTHERWISE
    for statement in (
        "DELETE FROM account",
        "DELETE FROM api_key",
        "DELETE FROM request",
        "DELETE FROM wallet",
        "UPDATE wallet SET token_class = 'other'",
        "UPDATE request SET id = 'req_other'",
        "TRUNCATE account CASCADE",
        "TRUNCATE wallet",
        "TRUNCATE api_key CASCADE",
        "TRUNCATE request CASCADE",
        "TRUNCATE ledger_entry",
    ):
        with pytest.raises(AccountingFailed) as refused:
            await stores[0].write(functools.partial(_tamper, statement=statement))
        assert re.search("(is|are) never|keep their id", refused.value.detail or ""), statement
    await stores[0].write(functools.partial(_mark, version="9999"))
    await stores[0].probe()  # a later version has migrated: this one goes on until it is restarted
    await stores[0].write(functools.partial(_mark, version="0001"))
    with pytest.raises(AccountingFailed):
        await stores[0].probe()
    for store in stores:
        await store.aclose()


@pytest.mark.anyio
async def test_use_of_a_missing_api_key_does_not_stop_the_roll_up(tmp_path: Path) -> None:
    async with open_engine("postgres", tmp_path) as db:
        for email, tokens in (("a@x", 3), ("b@x", 5)):
            account, key = await db.key(email, tokens=10)
            await spend(db, account_id=account.id, key_id=key.id, tokens=tokens, at_us=NOW_US)
        wrong = sa.update(schema.usage_quarter).where(schema.usage_quarter.c.charged == 3).values(api_key_id="missing")
        await db.store.write(lambda tx: tx.execute(wrong).rowcount)
        await roll_up(db, now_us=NOW_US + 3 * MICROSECONDS_PER_DAY)
        days = [row for row in await db.rows(schema.usage_span) if row["span_quarters"] == 96]
        assert sorted(row["charged"] for row in days) == [3, 5]
        assert "missing" in {row["api_key_id"] for row in days}


@pytest.mark.anyio
async def test_a_migration_on_postgres_may_take_longer_than_any_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    def upgrade(tx: sa.Connection) -> list[str]:
        tx.execute(sa.text("SELECT pg_sleep(0.5)"))
        return ["slow"]

    monkeypatch.setattr(migrate, "upgrade", upgrade)
    monkeypatch.setattr(connection, "CLIENT_SECONDS_MORE", 0.1)
    async with postgres.database(f"t{secrets.token_hex(8)}") as url:
        store = PostgresStore(PostgresOptions(url=url, statement_timeout_seconds=0.2))
        assert await store.migrate() == ["slow"]
        with pytest.raises(AccountingFailed):
            await store.write(upgrade)
        await store.aclose()


def _differences(tx: sa.Connection) -> Any:
    return compare_metadata(MigrationContext.configure(tx), schema.metadata)


def _name(difference: Any) -> str:
    kind, constraint = difference
    return f"{kind} {constraint.parent}.{','.join(constraint.column_keys)}"


def _mark(tx: sa.Connection, *, version: str) -> None:
    tx.execute(sa.text("UPDATE alembic_version SET version_num = :version"), {"version": version})


def _tamper(tx: sa.Connection, *, statement: str) -> None:
    """With a row in each of the four tables, which go with the transaction."""
    account = {"id": "a", "email": "a@example.com", "status": "open", "created_at_us": 0}
    wallet = {"account_id": "a", "token_class": "standard", "posted": 1, "pending": 1, "entries": 0}
    key = {"id": "k", "account_id": "a", "name": "k", "created_at_us": 0}
    request = {"id": "r", "account_id": "a", "api_key_id": "k", "model": "m", "status": "PENDING", "reserved": 1}
    request |= {"charged": 0, "shortfall": 0, "dispatched": 0, "created_at_us": 0, "expires_at_us": 0}
    rows = {schema.account: account, schema.wallet: wallet, schema.api_key: key, schema.request: request}
    for table, row in rows.items():
        tx.execute(sa.insert(table), row)
    tx.execute(sa.text(statement))
