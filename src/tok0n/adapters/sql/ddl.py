"""The statements that create the database, from the .sql files. `schema.py` describes the tables to the code."""

from pathlib import Path
from typing import Literal

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
"""The words of each engine for the placeholders of `schema.sql`."""


def tables(engine: Engine) -> list[str]:
    """The statements that create every table and index."""
    return _statements(_FOLDER / "schema.sql", **TYPES[engine])


def guards(engine: Engine) -> list[str]:
    """The statements that create the triggers."""
    return _statements(_FOLDER / ("sqlite" if engine == "sqlite" else "postgres") / "guards.sql")


def batch_function() -> str:
    """The statement that creates the function of PostgreSQL's hot path."""
    return (_FOLDER / "postgres" / "batch.sql").read_text("utf-8")


def _statements(file: Path, **words: str) -> list[str]:
    """Split at blank lines, because a trigger contains semicolons."""
    text = file.read_text("utf-8")
    blocks = (text.format(**words) if words else text).strip().split("\n\n")
    lines = ([line for line in block.splitlines() if not line.startswith("--")] for block in blocks)
    return ["\n".join(block) for block in lines if block]
