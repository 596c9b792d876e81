"""Measure the migration of a database that an older commit wrote, on SQLite and on PostgreSQL.

    python benchmarks/migration.py --commit COMMIT --accounts 20000 --requests 1000000
    python benchmarks/migration.py --commit COMMIT --only postgresql

Fills a database with the `benchmarks/large.py` of the commit, and opens it with this code, which migrates and audits
it. For PostgreSQL, it prints only the time.
"""

import argparse
import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import servers

from tok0n.adapters.sql import audit
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.sql.store import SqlStore

REPOSITORY = Path(__file__).parent.parent
CREATE_SQLITE = """
import asyncio, sys
from pathlib import Path
from tok0n.adapters.sql.sqlite.store import SqliteStore
asyncio.run(SqliteStore(Path(sys.argv[1].removeprefix("sqlite:")), serving=False).aclose())
"""
CREATE_POSTGRES = """
import asyncio, sys
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
async def create():
    store = PostgresStore(PostgresOptions(url=sys.argv[1]))
    await store.migrate()
    await store.aclose()
asyncio.run(create())
"""
MIB = 1 << 20


def make(url: str, folder: Path, *, commit: str, accounts: int, requests: int) -> None:
    """Write a database with the code of a commit, which is unpacked into a folder."""
    code = folder / "code"
    code.mkdir(exist_ok=True)
    archive = subprocess.run(
        ["git", "archive", commit, "src", "benchmarks"], cwd=REPOSITORY, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(code)], input=archive.stdout, check=True)
    environment = {**os.environ, "PYTHONPATH": f"{code / 'src'}:{code / 'benchmarks'}", "PYTHONDONTWRITEBYTECODE": "1"}
    sizes = ["--accounts", str(accounts), "--requests", str(requests)]
    create = CREATE_SQLITE if url.startswith("sqlite:") else CREATE_POSTGRES
    for arguments in (["-c", create, url], [str(code / "benchmarks/large.py"), *sizes, url]):
        subprocess.run([sys.executable, *arguments], env=environment, check=True)


def measure_sqlite(database: Path) -> None:
    """Migrate the database, and print what that took."""
    bytes_before = database.stat().st_size
    processor_seconds, began = time.process_time(), time.monotonic()
    store = SqliteStore(database, serving=False)
    seconds, processor_seconds = time.monotonic() - began, time.process_time() - processor_seconds
    wal_bytes = database.with_name(database.name + "-wal").stat().st_size
    print(f"SQLite {', '.join(store.migrated)}: {seconds:.0f} s, of which {processor_seconds:.0f} s CPU")
    asyncio.run(audit_and_close(store))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB", end=", ")
    print(f"WAL {wal_bytes // MIB} MiB, file {bytes_before // MIB} -> {database.stat().st_size // MIB} MiB")


async def measure_postgres(url: str) -> None:
    """Migrate the database, and print what that took."""
    store = PostgresStore(PostgresOptions(url=url))
    began = time.monotonic()
    migrated = await store.migrate()
    print(f"PostgreSQL {', '.join(migrated)}: {time.monotonic() - began:.0f} s")
    await audit_and_close(store)


async def audit_and_close(store: SqlStore) -> None:
    """Print what the audit of the migrated database finds."""
    report = await store.read(audit.audit, no_timeout=True)
    print(f"audit: {report.requests:,} requests, {report.entries:,} entries, {len(report.differences)} differences")
    await store.aclose()


def main() -> None:
    """Make a database on each chosen engine, and migrate it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", required=True, help="the last commit with the old schema")
    parser.add_argument("--accounts", type=int, default=20_000, help="[default: 20000]")
    parser.add_argument("--requests", type=int, default=1_000_000, help="[default: 1000000]")
    parser.add_argument("--only", choices=("sqlite", "postgresql"), help="one of the engines")
    options = parser.parse_args()
    sizes = {"commit": options.commit, "accounts": options.accounts, "requests": options.requests}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.only != "postgresql":
            make(f"sqlite:{folder / 'old.db'}", folder, **sizes)
            measure_sqlite(folder / "old.db")
        if options.only != "sqlite":
            with servers.postgres() as (url, _):
                make(url, folder, **sizes)
                asyncio.run(measure_postgres(url))


if __name__ == "__main__":
    main()
