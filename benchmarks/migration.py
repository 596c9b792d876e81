"""Measure the migration of an embedded database that an older commit wrote.

    python benchmarks/migration.py --commit COMMIT --accounts 20000 --requests 1000000

Fills a database with the `benchmarks/large.py` of the commit, gives every second API key a budget, and opens it with
this code, which migrates and audits it.
"""

import argparse
import asyncio
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tok0n.adapters.sql import audit
from tok0n.adapters.sql.sqlite.store import SqliteStore

REPOSITORY = Path(__file__).parent.parent
CREATE = """
import asyncio, sys
from pathlib import Path
from tok0n.adapters.sql.sqlite.store import SqliteStore
asyncio.run(SqliteStore(Path(sys.argv[1]), serving=False).aclose())
"""
GIVE_BUDGETS = """
UPDATE api_key SET budget = 1000000000000000, spent = (
    SELECT coalesce(sum(charged), 0) FROM usage_hour AS u
    WHERE u.account_id = api_key.account_id AND u.api_key_id = api_key.id
) WHERE id IN (
    SELECT id FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM api_key) AS n WHERE number % 2 = 0
)
"""
MIB = 1 << 20


def make(database: Path, code: Path, *, commit: str, accounts: int, requests: int) -> None:
    """Write a database with the code of a commit, which is unpacked into the folder `code`."""
    archive = subprocess.run(
        ["git", "archive", commit, "src", "benchmarks"], cwd=REPOSITORY, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(code)], input=archive.stdout, check=True)
    environment = {**os.environ, "PYTHONPATH": f"{code / 'src'}:{code / 'benchmarks'}", "PYTHONDONTWRITEBYTECODE": "1"}
    sizes = ["--accounts", str(accounts), "--requests", str(requests)]
    for arguments in (["-c", CREATE, str(database)], [str(code / "benchmarks/large.py"), *sizes, f"sqlite:{database}"]):
        subprocess.run([sys.executable, *arguments], env=environment, check=True)
    connection = sqlite3.connect(database)
    connection.execute(GIVE_BUDGETS)
    connection.commit()
    connection.close()


def measure(database: Path) -> None:
    """Migrate the database, and print what that took."""
    bytes_before = database.stat().st_size
    processor_seconds, began = time.process_time(), time.monotonic()
    store = SqliteStore(database, serving=False)
    seconds, processor_seconds = time.monotonic() - began, time.process_time() - processor_seconds
    wal_bytes = database.with_name(database.name + "-wal").stat().st_size
    report = asyncio.run(_audit_and_close(store))
    print(f"{', '.join(store.migrated)}: {seconds:.0f} s, of which {processor_seconds:.0f} s CPU")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB", end=", ")
    print(f"WAL {wal_bytes // MIB} MiB, file {bytes_before // MIB} -> {database.stat().st_size // MIB} MiB")
    print(f"audit: {report.requests:,} requests, {report.entries:,} entries, {len(report.differences)} differences")


async def _audit_and_close(store: SqliteStore) -> audit.AuditReport:
    report = await store.read(audit.audit)
    await store.aclose()
    return report


def main() -> None:
    """Make a database in a temporary folder, and migrate it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", required=True, help="the last commit with the old schema")
    parser.add_argument("--accounts", type=int, default=20_000, help="[default: 20000]")
    parser.add_argument("--requests", type=int, default=1_000_000, help="[default: 1000000]")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        code, database = Path(folder) / "code", Path(folder) / "old.db"
        code.mkdir()
        make(database, code, commit=options.commit, accounts=options.accounts, requests=options.requests)
        measure(database)


if __name__ == "__main__":
    main()
