"""Databases of the schemas 0102 and 0103, made with the statements with which their code created them."""

import asyncio
import contextlib
import itertools
import json
import re
import secrets
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy as sa

from support import postgres
from support.leases import leased_ledger
from support.old_ledger import OldLedger, Row
from tok0n.adapters.sql import ddl, schema
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.sqlite.ledger import SqliteLedger
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.errors import OperatorError
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR
from tok0n.ports.ledger import Ledger

SCHEMAS = Path(__file__).parent.parent / "adapters" / "schemas"

Contents = dict[str, list[Row]]

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
    """Creates databases of one engine."""

    def __init__(self, engine: ddl.Engine, folder: Path) -> None:
        self.engine = engine
        self._folder = folder

    async def create_empty(self) -> str:
        """Return the URL of a PostgreSQL database without tables, or the path of a SQLite file."""
        name = f"t{secrets.token_hex(8)}"
        if self.engine == "sqlite":
            return str(self._folder / name)
        cluster = await asyncio.to_thread(postgres.shared_cluster)
        return await postgres.make_database(cluster, name, template="template0")

    async def create(self, *, accounts: int = 4, requests: int = 200) -> str:
        """Create and fill a database of schema 0102."""
        return await self._create("0102", OldLedger(accounts=accounts, requests=requests).rows)

    async def create_0103(self) -> str:
        """Create a database of schema 0103 with rows that the code of 0103 wrote.

        Three accounts, two token classes, budgets, a rotated and a disabled key, purchases with a refund, 162 requests
        of which 16 are PENDING, and sums of past days.
        """
        return await self._create("0103", _rows_of_0103())

    async def _create(self, version: str, rows: Contents) -> str:
        where = await self.create_empty()
        script = (SCHEMAS / f"{version}-{self.engine}.sql").read_text("utf-8")
        tables = [table.name for table in schema.metadata.sorted_tables if table.name in rows]
        tables += sorted(rows.keys() - set(tables))  # those that this version no longer has
        assert set(tables) == set(rows)
        if self.engine == "sqlite":
            connection = sqlite3.connect(where)
            connection.executescript(script)
            for table in tables:
                columns, values = _columns(rows[table])
                places = ", ".join("?" * len(columns))
                connection.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", values)
            connection.commit()
            connection.close()
        else:
            async with _connected(where) as server:
                await server.execute(script)
                for table in tables:
                    columns, values = _columns(rows[table])
                    await server.copy_records_to_table(table, records=values, columns=columns)
                for table in {"ledger_entry", "activity"} & rows.keys():
                    await server.execute(
                        f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}"
                    )
        return where

    async def execute(self, where: str, *statements: str) -> None:
        """Run statements on a database as it is, without migrating it."""
        if self.engine == "sqlite":
            connection = sqlite3.connect(where)
            for statement in statements:
                connection.execute(statement)
            connection.commit()
            connection.close()
        else:
            async with _connected(where) as server:
                for statement in statements:
                    await server.execute(statement)

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

    @contextlib.asynccontextmanager
    async def opened(self, where: str) -> AsyncIterator[tuple[SqlStore, Ledger]]:
        """Migrate a database, and open its store and ledger."""
        store, _ = await self.open(where)
        try:
            if isinstance(store, SqliteStore):
                yield store, SqliteLedger(store)
            else:
                assert isinstance(store, PostgresStore)
                ledger = await leased_ledger(store)
                yield store, ledger
                await ledger.aclose()
        finally:
            await store.aclose()

    async def contents(self, where: str) -> Contents:
        """Return every row of a database as it is, without migrating it."""
        if self.engine == "sqlite":
            engine = sa.create_engine(f"sqlite:///{where}")
            with engine.connect() as tx:
                rows = rows_of(tx)
            engine.dispose()
            return rows
        store = PostgresStore(PostgresOptions(url=where))
        rows = await store.read(rows_of)
        await store.aclose()
        return rows


def _rows_of_0103() -> Contents:
    """Read the rows. The first of each table in the file has the names of its columns, and bytes are in hex."""
    rows: Contents = {}
    for table, (columns, *values) in json.loads((SCHEMAS / "0103-rows.json").read_text("utf-8")).items():
        decoded = ([bytes.fromhex(v["hex"]) if isinstance(v, dict) else v for v in row] for row in values)
        rows[table] = [dict(zip(columns, row, strict=True)) for row in decoded]
    return rows


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Any]:
    server = await asyncpg.connect(url)
    try:
        yield server
    finally:
        await server.close()


def _columns(rows: list[Row]) -> tuple[list[str], list[tuple[Any, ...]]]:
    columns = list(rows[0])
    assert all(row.keys() == rows[0].keys() for row in rows)
    return columns, [tuple(row[column] for column in columns) for row in rows]


def describe(tx: sa.Connection) -> list[Any]:
    """Return everything that the database says of its schema, in an order that does not depend on its history."""
    if tx.dialect.name == "postgresql":
        return [sorted(map(str, tx.exec_driver_sql(query))) for query in _POSTGRES_SCHEMA]
    rows = tx.exec_driver_sql("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL").all()
    return sorted((kind, name, sorted(_parts(sql))) for kind, name, sql in rows)


def _parts(sql: str) -> list[str]:
    """Split a statement at the commas of its outermost parentheses, without its spaces and quotes."""
    text = re.sub(r"\s+|\"", "", sql)
    if "(" not in text:
        return [text]
    start, end = text.index("("), text.rindex(")")
    parts, depth = [""], 0
    for character in text[start + 1 : end]:
        depth += (character == "(") - (character == ")")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [text[:start], text[end:], *parts]


def migrated_from_0103(old: Contents) -> Contents:
    """Return the rows that a database of schema 0103 must have after the migration to this version."""
    new = dict(old)
    added = {"quantity": 1, "billing": None, "tax_cents": None, "decline_code": None}
    new["pack_order"] = [row | added for row in old["pack_order"]]
    new["mail_link"] = [row | {"browser_digest": None} for row in old["mail_link"]]
    new["session"] = [row | {"network": ""} for row in old["session"]]
    new["balance_alert"] = [row | {"token_class": "standard"} for row in new.pop("low_balance_notice")]
    del new["usage_hour"]
    new["usage_quarter"] = _quarters(old["request"])
    new["usage_span"] = [*_spans(new["usage_quarter"]), *map(_day, new.pop("usage_day"))]
    new["alembic_version"] = [{"version_num": schema.HEAD}]
    for table in schema.metadata.tables:
        new.setdefault(table, [])
    return {table: sorted_rows(rows) for table, rows in new.items()}


def _quarters(requests: list[Row]) -> list[Row]:
    """Return the use in each quarter hour, which the migration sums from the requests."""
    names, tokens = ("account_id", "api_key_id", "model"), ("prompt_tokens", "completion_tokens", "charged")
    sums: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row in requests:
        if row["status"] == "SETTLED":
            key = (row["resolved_at_us"] // MICROSECONDS_PER_QUARTER_HOUR, *(row[name] for name in names))
            sums[key].update(requests=1, **{name: row[name] for name in tokens})
    return [
        dict(zip(("quarter", *names), key, strict=True)) | {name: counted[name] for name in ("requests", *tokens)}
        for key, counted in sums.items()
    ]


def _spans(quarters: list[Row]) -> Iterator[Row]:
    """Yield the sums of quarter hours in each hour and in each six hours."""
    names = ("requests", "prompt_tokens", "completion_tokens", "charged")
    sums: defaultdict[tuple[Any, ...], Counter[str]] = defaultdict(Counter)
    for row, length in itertools.product(quarters, (4, 24)):
        key = row["account_id"], length, row["quarter"] // length * length, row["api_key_id"], row["model"]
        sums[key].update({name: row[name] for name in names})
    for key, counted in sums.items():
        columns = dict(zip(("account_id", "span_quarters", "quarter", "api_key_id", "model"), key, strict=True))
        yield columns | {name: counted[name] for name in names}


def _day(row: Row) -> Row:
    """Return the row of a day as the sum of 96 quarter hours."""
    rest = {name: value for name, value in row.items() if name != "day"}
    return rest | {"span_quarters": 96, "quarter": 96 * row["day"]}


def rows_of(tx: sa.Connection) -> Contents:
    """Return every row of every table."""
    contents: Contents = {}
    for table in sa.inspect(tx).get_table_names():
        rows = tx.execute(sa.select(sa.text("*")).select_from(sa.table(table))).mappings()
        contents[table] = sorted_rows(dict(row) for row in rows)
    return contents


def sorted_rows(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: sorted(map(str, row.items())))
