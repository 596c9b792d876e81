"""New SQLite databases for the tests: copies of one that this process made with the migrations."""

import asyncio
import functools
import tempfile
from pathlib import Path

from tok0n.adapters.sql.sqlite import database_file
from tok0n.adapters.sql.sqlite.store import SqliteStore


@functools.cache
def _template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        asyncio.run(SqliteStore(path, serving=False).aclose())
        return path.read_bytes()


async def make_database(path: Path) -> None:
    """A database at head at `path`, unless there is one already."""
    if not path.exists():
        template = await asyncio.to_thread(_template)
        database_file.create(path)
        path.write_bytes(template)
