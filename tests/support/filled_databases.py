"""Databases with many rows: each is filled once for a process, and every test gets a copy."""

import asyncio
import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from support import postgres
from support.ledgers import Opened, open_engine

Fill = Callable[[Opened], Awaitable[None]]


class FilledDatabases:
    """Keeps the originals in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.asynccontextmanager
    async def copy(self, engine: str, folder: Path, *, name: str, fill: Fill) -> AsyncIterator[Opened]:
        """Open a copy in `folder` of the database that `fill` fills. The original is called `name`."""
        original = self._folder / f"{name}-{engine}"
        if not original.exists():
            original.mkdir()
            async with open_engine(engine, original) as db:
                await fill(db)
        if engine == "postgres":
            template = (original / "postgres.url").read_text().rpartition("/")[2]
            cluster = await asyncio.to_thread(postgres.shared_cluster)
            url = await postgres.make_database(cluster, f"t{secrets.token_hex(8)}", template=template)
            (folder / "postgres.url").write_text(url)
        else:
            shutil.copy(original / "ledger.db", folder)
        async with open_engine(engine, folder) as db:
            yield db
