"""Open a database, and end with SIGKILL before a statement of its migration: `ENGINE WHERE START_OF_STATEMENT`."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from support.old_databases import Databases
from tok0n.adapters.sql import ddl


async def main(engine: ddl.Engine, where: str, start: str) -> None:
    def execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith(start):
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.Engine, "before_cursor_execute", execute)
    await Databases(engine, Path()).open(where)


if __name__ == "__main__":
    asyncio.run(main("sqlite" if sys.argv[1] == "sqlite" else "postgresql", *sys.argv[2:]))
