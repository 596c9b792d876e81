"""A database of Tok0n 0.1.0 becomes one of this version in one step, with all of its data.

`schemas/` holds dumps of databases that the code of 0.1.0 made and filled.
"""

import asyncio
import re
import secrets
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from support import postgres
from tok0n.adapters.sql import audit, ddl, schema
from tok0n.adapters.sql.migrations import from_first_chain
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.errors import AccountingFailed, OperatorError

pytestmark = pytest.mark.anyio

DUMPS = Path(__file__).parent / "schemas"
RENAMED = {"person": "users", "person_id": "user_id", "below": "threshold_tokens", "told": "notified"}
REVERSED_REQUEST = f"req_{3:032}"

_POSTGRES_SCHEMA = (
    (
        "SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, l.collname,"
        " pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum"
        " LEFT JOIN pg_collation l ON l.oid = a.attcollation"
        " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped"
    ),
    (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace"
    ),
    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal",
    "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = 'public'::regnamespace",
    "SELECT relname FROM pg_class WHERE relkind = 'S'",
)


class Databases:
    """Creates databases of one engine, empty or from a dump."""

    def __init__(self, engine: ddl.Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder

    async def create(self, *, dump: bool) -> str:
        """Return the URL of a PostgreSQL database, or the path of a SQLite file."""
        name = f"t{secrets.token_hex(8)}"
        script = (DUMPS / f"tok0n-0.1.0-{self.engine}.sql").read_text("utf-8") if dump else ""
        if self.engine == "sqlite":
            path = self._folder / name
            connection = sqlite3.connect(path)
            connection.executescript(script)
            connection.close()
            return str(path)
        cluster = await asyncio.to_thread(postgres.shared_cluster)
        url = await postgres.make_database(cluster, name, template="template0")
        if dump:
            await self.execute(url, script)
        return url

    async def execute(self, where: str, *statements: str) -> None:
        """Run statements on a database as it is, without migrating it."""
        if self.engine == "sqlite":
            connection = sqlite3.connect(where)
            for statement in statements:
                connection.execute(statement)
            connection.commit()
            connection.close()
        else:
            connection = await asyncpg.connect(where)
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

    async def open(self, where: str) -> tuple[SqlStore, list[str]]:
        """Migrate a database and return its store, with the migrations applied."""
        if self.engine == "sqlite":
            embedded = SqliteStore(Path(where), serving=False)
            return embedded, await embedded.migrate()
        store = PostgresStore(PostgresOptions(url=where))
        try:
            return store, await store.migrate()
        except OperatorError:
            await store.aclose()
            raise


@pytest.fixture(params=["sqlite", "postgresql"])
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Databases:
    return Databases(request.param, tmp_path)


@pytest.fixture
async def stores() -> AsyncIterator[list[SqlStore]]:
    opened: list[SqlStore] = []
    yield opened
    for store in opened:
        await store.aclose()


def _describe(tx: sa.Connection) -> list[Any]:
    """Return everything that the database says of its schema, in an order that does not depend on its history."""
    if tx.dialect.name == "postgresql":
        return [sorted(map(str, tx.exec_driver_sql(query))) for query in _POSTGRES_SCHEMA]
    rows = tx.exec_driver_sql("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
    return sorted((kind, name, sorted(_parts(sql))) for kind, name, sql in rows)


def _parts(sql: str) -> list[str]:
    """Split a statement at the commas of its outermost parentheses, without its spaces and quotes."""
    text = re.sub(r"\s+|\"", "", sql)
    start, end = text.index("("), text.rindex(")")
    parts, depth = [""], 0
    for character in text[start + 1 : end]:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [text[:start], text[end:], *parts]


def _contents(tx: sa.Connection) -> dict[str, list[dict[str, Any]]]:
    """Return every row of every table, in the words of this version."""
    contents: dict[str, list[dict[str, Any]]] = {}
    for table in sa.inspect(tx).get_table_names():
        rows = tx.execute(sa.select(sa.text("*")).select_from(sa.table(table))).mappings()
        renamed = [{RENAMED.get(column, column): value for column, value in row.items()} for row in rows]
        contents[RENAMED.get(table, table)] = sorted(renamed, key=str)
    return contents


async def _read_as_it_is(databases: Databases, where: str) -> dict[str, list[dict[str, Any]]]:
    if databases.engine == "sqlite":
        engine = sa.create_engine(f"sqlite:///{where}")
        with engine.connect() as tx:
            contents = _contents(tx)
        engine.dispose()
        return contents
    store = PostgresStore(PostgresOptions(url=where))
    contents = await store.read(_contents)
    await store.aclose()
    return contents


async def test_a_database_of_0_1_0_becomes_one_of_this_version_with_all_its_data(
    databases: Databases, stores: list[SqlStore]
) -> None:
    where = await databases.create(dump=True)
    before = await _read_as_it_is(databases, where)
    store, applied = await databases.open(where)
    fresh, created = await databases.open(await databases.create(dump=False))
    stores += [store, fresh]

    assert (applied, created) == ([f"0007 -> {schema.HEAD}"], [schema.HEAD])
    assert await store.read(_describe) == await fresh.read(_describe)
    assert await store.migrate() in ([], applied), "SQLite migrates when it opens"
    report = await store.read(audit.audit)
    assert report.ok
    assert (report.accounts, report.requests, report.entries) == (2, 6, 7)
    after = await store.read(_contents)
    assert after.pop("alembic_version") == [{"version_num": schema.HEAD}]
    before.pop("alembic_version")
    for table, rows in before.items():
        assert len(rows) == len(after[table]), table
        for row in rows:
            assert any(row.items() <= other.items() for other in after[table]), table
    assert [row["reverses_request_id"] for row in after["ledger_entry"] if row["kind"] == "adjustment"] == [
        REVERSED_REQUEST
    ]
    with pytest.raises(AccountingFailed) as failed:
        await store.write(lambda tx: tx.execute(sa.update(schema.ledger_entry).values(reason="other")))
    assert "never edited" in str(failed.value.detail)


async def test_the_last_schema_of_the_old_chain_is_brought_over_too(
    databases: Databases, stores: list[SqlStore]
) -> None:
    where = await databases.create(dump=True)
    steps = [statement.format(**ddl.TYPES[databases.engine]) for statement in from_first_chain._TO_0012]
    await databases.execute(where, *steps, "UPDATE alembic_version SET version_num = '0012'")
    store, applied = await databases.open(where)
    fresh, _ = await databases.open(await databases.create(dump=False))
    stores += [store, fresh]
    assert applied == [f"0012 -> {schema.HEAD}"]
    assert await store.read(_describe) == await fresh.read(_describe)


async def test_a_ledger_with_differences_is_refused_and_stays_as_it_is(databases: Databases) -> None:
    where = await databases.create(dump=True)
    await databases.execute(where, "UPDATE account SET posted = posted + 1 WHERE email = 'bob@example.com'")
    before = await _read_as_it_is(databases, where)
    with pytest.raises(OperatorError, match="audit before the migration found 1 differences"):
        await databases.open(where)
    assert await _read_as_it_is(databases, where) == before


@pytest.mark.parametrize(("revision", "advice"), [("0003", "First run tok0n migrate"), ("9999", "newer Tok0n")])
async def test_an_unknown_schema_is_refused_with_the_way_out(databases: Databases, revision: str, advice: str) -> None:
    where = await databases.create(dump=True)
    await databases.execute(where, f"UPDATE alembic_version SET version_num = '{revision}'")
    with pytest.raises(OperatorError, match=advice):
        await databases.open(where)


def test_every_supported_revision_sorts_before_this_version() -> None:
    assert all(revision < schema.HEAD for revision in from_first_chain.SUPPORTED)
