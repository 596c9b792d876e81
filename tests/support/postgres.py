"""A real PostgreSQL for the tests: one cluster for a run, started when it is first needed, a database for each test."""

import asyncio
import atexit
import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg

from support.free_ports import free_port
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore

TEMPLATE = "tok0n_template"
CONFIGURATION = """
fsync = off
full_page_writes = off
autovacuum = off
jit = off
unix_socket_directories = ''
listen_addresses = '127.0.0.1'
max_connections = 200
"""
"""No test crashes the machine. Commits stay synchronous, because tests do crash the server."""


def _binaries() -> Path:
    """The newest PostgreSQL here: Debian's folder, or whatever is on the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        raise RuntimeError("PostgreSQL is missing. As root, `make test` installs it; else install postgresql.")
    return found[-1].parent if found else Path(str(on_path)).parent


def _user() -> str | None:
    """PostgreSQL refuses to run as root; Debian's package makes a user for it."""
    return "postgres" if os.geteuid() == 0 else None


class Cluster:
    """One server with its own folder. `restart` and friends wait until it is so."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tok0n-pg-"))
        self.port = free_port()
        self._data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        if _user() is not None:
            os.chown(self.folder, pwd.getpwnam("postgres").pw_uid, -1)
        self._run("initdb", "-D", str(self._data), "-U", "tok0n", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-N")
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(CONFIGURATION)
        self.version = int((self._data / "PG_VERSION").read_text())
        self.start()

    def url(self, database: str) -> str:
        return f"postgresql://tok0n@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        log = self.folder / "log"
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(_binaries() / "postgres"), "-D", str(self._data), "-p", str(self.port)],
                stdout=output,
                stderr=output,
                user=_user(),
                cwd=self.folder,
            )
        self._run("pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), until=log)

    def stop(self, sig: int = signal.SIGQUIT) -> None:
        """SIGQUIT ends it at once, as a crash would; SIGINT ends it in order."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(sig)
            process.wait(timeout=60)

    def signal(self, sig: int) -> None:
        assert self._process is not None
        self._process.send_signal(sig)

    def signal_all(self, sig: int) -> None:
        """Send a signal to the server and to the processes of its connections."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (pid, *map(int, children)):
            os.kill(each, sig)

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, name: str, *arguments: str, until: Path | None = None) -> None:
        command = [str(_binaries() / name), *arguments]
        while True:
            done = subprocess.run(command, capture_output=True, user=_user(), cwd=self.folder, check=False, timeout=60)
            if done.returncode == 0:
                return
            if until is None or self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"{name}: {done.stderr.decode()} {until.read_text() if until else ''}")


@functools.cache
def shared_cluster() -> Cluster:
    """The cluster that most tests use; tests that stop the server have their own."""
    cluster = Cluster()
    atexit.register(cluster.remove)
    asyncio.run(_make_template(cluster))
    return cluster


def remove_shared_cluster() -> None:
    """Stop the shared cluster and remove its files, if a test has used it."""
    if shared_cluster.cache_info().currsize:
        shared_cluster().remove()


async def _make_template(cluster: Cluster) -> None:
    await migrate(await make_database(cluster, TEMPLATE, template="template0"))


async def migrate(url: str) -> None:
    store = PostgresStore(PostgresOptions(url=url))
    await store.migrate()
    await store.aclose()


async def _execute(cluster: Cluster, statement: str) -> None:
    connection = await asyncpg.connect(cluster.url("postgres"))
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def make_database(cluster: Cluster, name: str, *, template: str = TEMPLATE) -> str:
    """A new database, at head unless another template is named; gives its URL."""
    strategy = "STRATEGY FILE_COPY" if cluster.version >= 15 else ""  # what PostgreSQL did before it had a choice
    await _execute(cluster, f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy}')
    return cluster.url(name)


async def drop_database(cluster: Cluster, name: str) -> None:
    await _execute(cluster, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@contextlib.asynccontextmanager
async def database(name: str) -> AsyncIterator[str]:
    """A database of the shared cluster for as long as the block lasts; gives its URL."""
    cluster = await asyncio.to_thread(shared_cluster)
    url = await make_database(cluster, name)
    try:
        yield url
    finally:
        await drop_database(cluster, name)
