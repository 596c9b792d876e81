"""Load the statements that create the database from the .sql files. `schema` defines the tables for queries."""

from pathlib import Path
from typing import Literal

import sqlalchemy as sa

Engine = Literal["sqlite", "postgresql"]

_FOLDER = Path(__file__).parent
TYPES: dict[Engine, dict[str, str]] = {
    "sqlite": {
        "big": "INTEGER",
        "text": "TEXT",
        "blob": "BLOB",
        "identity": "INTEGER NOT NULL PRIMARY KEY",
        "strict": "STRICT",
        "clustered": "STRICT, WITHOUT ROWID",
    },
    "postgresql": {
        "big": "BIGINT",
        "text": 'TEXT COLLATE "C"',
        "blob": "BYTEA",
        "identity": "BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        "strict": "",
        "clustered": "",
    },
}
"""Each engine's values for the placeholders in `schema.sql`."""


def engine_of(tx: sa.Connection) -> Engine:
    """Return the engine of a connection. Raises `ValueError` for one that Tok0n doesn't support."""
    for engine in TYPES:
        if engine == tx.dialect.name:
            return engine
    raise ValueError(f"unsupported database: {tx.dialect.name}")


def tables(engine: Engine) -> list[str]:
    """Return the statements that create every table and index."""
    return _statements(_FOLDER / "schema.sql", **TYPES[engine])


def statements_of(engine: Engine, table: str) -> list[str]:
    """Return the statement that creates a table, and then those of its indexes."""
    of_table = f"CREATE TABLE {table} (", f" ON {table} ("
    return [statement for statement in tables(engine) if any(part in statement for part in of_table)]


def execute_all(tx: sa.Connection, engine: Engine, statements: str) -> None:
    """Execute statements that blank lines separate, with the engine's types in their placeholders."""
    for statement in statements.strip().split("\n\n"):
        if statement:
            tx.exec_driver_sql(statement.format(**TYPES[engine]))


def guards(engine: Engine) -> list[str]:
    """Return the statements that create the triggers."""
    return _statements(_FOLDER / ("sqlite" if engine == "sqlite" else "postgres") / "guards.sql")


def guards_0104(engine: Engine) -> list[str]:
    """Return what schema 0104 adds to `guards`. Run it after `guards`.

    It adds triggers that protect documents, and on PostgreSQL removes foreign keys from the tables of use.
    """
    return _statements(_FOLDER / ("sqlite" if engine == "sqlite" else "postgres") / "guards_0104.sql")


def batch_function() -> str:
    """Return the statement that creates the function of PostgreSQL's hot path."""
    return (_FOLDER / "postgres" / "batch.sql").read_text("utf-8")


def _statements(file: Path, **placeholders: str) -> list[str]:
    """Split a file at blank lines, because triggers contain semicolons."""
    text = file.read_text("utf-8")
    blocks = (text.format(**placeholders) if placeholders else text).strip().split("\n\n")
    lines = ([line for line in block.splitlines() if not line.startswith("--")] for block in blocks)
    return ["\n".join(block) for block in lines if block]
