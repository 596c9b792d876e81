"""The embedded store on SQLite, with one writer thread that does group commits, and reader threads.

Only the standard library's `sqlite3` opens the file, because two SQLite libraries in one process break its locks. A
lock file prevents a second server. The command line opens the store without the lock, in short transactions.
"""

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from tok0n.adapters.batcher import Batcher
from tok0n.adapters.sql import migrate
from tok0n.adapters.sql.sqlite import database_file
from tok0n.adapters.threads import BACKGROUND_NICENESS, lower_priority
from tok0n.domain.errors import AccountingFailed, OperatorError, Overloaded, Tok0nError

T = TypeVar("T")
Item = TypeVar("Item")
Command = Callable[[sqlite3.Connection], Any]
BatchHandler = Callable[[sqlite3.Connection, list[Item]], list[Any]]


class BatchItem(msgspec.Struct, Generic[Item], frozen=True, gc=False):
    """A command that `run_all` runs together with the other commands of its kind in a group commit."""

    run_all: BatchHandler[Item]
    item: Item


_Group = tuple[list[Command | BatchItem[Any]], asyncio.Future[list[Any]]]
"""The commands of one group commit, and the future of their results."""

SQLITE_NEEDED = (3, 37, 0)
BATCH_MAX = 512
WRITE_QUEUE_MAX = 10_000
READ_QUEUE_MAX = 1_000
READERS = 2
BUSY_TIMEOUT_SECONDS = 5.0
CHECKPOINT_PAGES = 8_000
WRITER_CACHE_KIB = 8 * 1024
"""Requests of many customers change many pages. With SQLite's default of 2 MiB, each request reads several again."""

WAL_BYTES_KEPT = 64 * 1024 * 1024
MIGRATION_CACHE_KIB = 64 * 1024
FREE_BYTES_MIN = 4 * 1024 * 1024
"""The probe fails with less free disk space, because its own small write may fit although a commit doesn't."""


class SqliteStore:
    """The database file at `path`. Opening it migrates the schema to head.

    With `serving`, this process holds the lock file and checkpoints the WAL. `migrated` lists the migrations that
    opening the file applied.
    """

    def __init__(self, path: Path, *, serving: bool) -> None:
        """Raises `OperatorError` if another server uses the file, or if opening or migrating it fails."""
        if sqlite3.sqlite_version_info < SQLITE_NEEDED:
            raise OperatorError(f"Tok0n needs SQLite 3.37 or newer. This is SQLite {sqlite3.sqlite_version}.")
        self.path = database_file.resolve(path)
        self._lock = database_file.take_lock(self.path) if serving else None
        try:
            self._open(serving=serving)
        except BaseException as error:
            if self._lock is not None:
                self._lock.close()
            if isinstance(error, OSError | sqlite3.Error | sa.exc.SQLAlchemyError):
                raise database_file.unusable(self.path, _origin(error)) from error
            raise
        self._inode = self.path.stat().st_ino
        self._groups: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._writer = threading.Thread(target=self._write_groups, name="sqlite-writer", daemon=True)
        self._writer.start()
        self._closed = False
        self._reader_pool = ThreadPoolExecutor(
            READERS, thread_name_prefix="sqlite-reader", initializer=lower_priority, initargs=(BACKGROUND_NICENESS,)
        )
        self._hot_reader_pool = ThreadPoolExecutor(1, thread_name_prefix="sqlite-hot-reader")
        self._hot_reader: sqlite3.Connection | None = None
        self._readers = threading.local()
        self._reads_waiting = 0
        self._open_readers: list[sa.Connection] = []
        self._batcher: Batcher[Command | BatchItem[Any], Any] = Batcher(
            self._run, name="database writes", batch_max=BATCH_MAX, queue_max=WRITE_QUEUE_MAX
        )

    @property
    def waiting(self) -> Sized:
        """The commands that wait for the next group commit."""
        return self._batcher.waiting

    def submit(self, run_all: BatchHandler[Item], item: Item) -> asyncio.Future[Any]:
        """Run a hot command in the next group commit. `run_all` gets all its items of that commit at once.

        `run_all` gets the raw connection and returns one result for each item. If it raises, the group is rolled back
        and each command runs again alone, so it must return rejections instead of raising them. The queue has no limit
        for these commands.
        """
        return self._batcher.submit(BatchItem(run_all, item), bypass_limit=True)

    def write(self, fn: Callable[[sa.Connection], T]) -> asyncio.Future[T]:
        # The savepoint limits the rollback after a `Tok0nError` to this function.
        def command(connection: sqlite3.Connection) -> T | Tok0nError:
            connection.execute("SAVEPOINT fn")
            try:
                result = fn(self._tx)
            except Tok0nError as error:
                connection.execute("ROLLBACK TO fn")
                return error
            finally:
                connection.execute("RELEASE fn")
            return result

        return self._batcher.submit(command)

    async def read(self, fn: Callable[[sa.Connection], T], *, no_timeout: bool = False) -> T:
        del no_timeout  # SQLite has no statement timeout.
        self._require_open()
        if self._reads_waiting >= READ_QUEUE_MAX:
            raise Overloaded(queue="database reads")
        self._reads_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._reader_pool, self._read, fn)
        finally:
            self._reads_waiting -= 1

    async def read_hot(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        """Run one statement of the hot path on a thread of its own. Raises the errors of `read`."""
        self._require_open()
        return await asyncio.get_running_loop().run_in_executor(self._hot_reader_pool, self._read_hot, fn)

    async def probe(self) -> None:
        def check(tx: sa.Connection) -> bool:
            disk = os.statvfs(self.path)
            free = (disk.f_bavail if os.geteuid() else disk.f_bfree) * disk.f_frsize
            if disk.f_blocks and free < FREE_BYTES_MIN:  # Some file systems don't report their size.
                raise AccountingFailed(upstream_called=False, detail=f"the disk is full: {self.path}")
            # It changes nothing, but fails if nothing can be written.
            tx.execute(sa.text("UPDATE alembic_version SET version_num = version_num"))
            return migrate.is_at_head(tx)

        if not await self.write(check):
            raise AccountingFailed(upstream_called=False, detail="the schema is not at head: run tok0n migrate")

    async def migrate(self) -> list[str]:
        return self.migrated

    async def aclose(self) -> None:
        await self._batcher.wait_until_drained()
        self._closed = True
        self._groups.put(None)
        self._writer.join()
        self._reader_pool.shutdown()
        self._hot_reader_pool.shutdown()
        if self._hot_reader is not None:
            self._hot_reader.close()
        for reader in self._open_readers:
            reader.close()
        self._tx.close()
        if self._lock is not None:
            self._lock.close()

    def _open(self, *, serving: bool) -> None:
        database_file.check_left_over_wal(self.path, serving=serving)
        database_file.create(self.path)
        self._connection = _connect(self.path)
        try:
            self._connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            self._connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES if serving else 0}")
            self._tx = _core(self._connection)
            try:
                self.migrated = self._migrate()
            except BaseException:
                self._tx.close()
                raise
        except BaseException:
            self._connection.close()
            raise

    def _migrate(self) -> list[str]:
        if migrate.is_at_head(self._tx):
            return []
        if self._lock is None and not database_file.is_unlocked(self.path):
            raise OperatorError(f"A server of another version is using {self.path}. Stop it before you migrate.")
        self._connection.execute(f"PRAGMA cache_size = -{MIGRATION_CACHE_KIB}")
        # A migration may drop a table that others refer to. It checks all foreign keys itself.
        self._connection.execute("PRAGMA foreign_keys = OFF")
        try:
            with _transaction(self._connection):
                return migrate.upgrade(self._tx)
        finally:
            self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")

    async def _run(self, commands: list[Command | BatchItem[Any]]) -> list[Any]:
        self._require_open()
        committed: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._groups.put((commands, committed))
        return await committed

    def _require_open(self) -> None:
        if self._closed:
            raise AccountingFailed(upstream_called=False, detail="the database is closed")

    def _write_groups(self) -> None:
        """Run the writer thread. An executor would cost each commit two more futures and two more locks."""
        while (group := self._groups.get()) is not None:
            commands, committed = group
            committed.get_loop().call_soon_threadsafe(_resolve, committed, self._commit(commands))

    def _commit(self, commands: list[Command | BatchItem[Any]]) -> list[Any]:
        """Run all commands in one commit. After an error, each command runs alone, unless the database failed."""
        try:
            return self._commit_group(commands)
        except Exception as error:  # noqa: BLE001  any error has rolled the group back
            if len(commands) == 1 or isinstance(_origin(error), sqlite3.OperationalError):
                return [_failed(error)] * len(commands)
        results: list[Any] = []
        for command in commands:
            results.extend(self._commit([command]))
        return results

    def _commit_group(self, commands: list[Command | BatchItem[Any]]) -> list[Any]:
        if os.stat(self.path).st_ino != self._inode:  # noqa: PTH116  `Path.stat` takes longer than the system call
            raise sqlite3.OperationalError("the database file was replaced while it was open")
        connection = self._connection
        single: list[Any] = []
        items_by_handler: dict[BatchHandler[Any], list[Any]] = {}
        with _transaction(connection):
            for command in commands:
                if isinstance(command, BatchItem):
                    items_by_handler.setdefault(command.run_all, []).append(command.item)
                else:
                    single.append(command(connection))
            results = {run_all: iter(run_all(connection, items)) for run_all, items in items_by_handler.items()}
            single_results = iter(single)
            return [
                next(results[command.run_all] if isinstance(command, BatchItem) else single_results)
                for command in commands
            ]

    def _read(self, fn: Callable[[sa.Connection], T]) -> T:
        reader = getattr(self._readers, "tx", None)
        try:
            if reader is None:
                reader = self._readers.tx = _core(_connect(self.path, read_only=True))
                self._open_readers.append(reader)
            raw = reader.connection.driver_connection
            assert isinstance(raw, sqlite3.Connection)
            raw.execute("BEGIN")
            try:
                return fn(reader)
            finally:
                raw.execute("COMMIT")
        except (sqlite3.Error, sa.exc.SQLAlchemyError) as error:
            raise _failed(error) from error

    def _read_hot(self, fn: Callable[[sqlite3.Connection], T]) -> T:
        try:
            if self._hot_reader is None:
                self._hot_reader = _connect(self.path, read_only=True)
            return fn(self._hot_reader)
        except sqlite3.Error as error:
            raise _failed(error) from error


def _resolve(committed: asyncio.Future[list[Any]], results: list[Any]) -> None:
    if not committed.cancelled():
        committed.set_result(results)


def _connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open a connection in autocommit mode. This module begins and ends transactions explicitly."""
    mode = "ro" if read_only else "rwc"
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        isolation_level=None,
        check_same_thread=False,
        timeout=BUSY_TIMEOUT_SECONDS,
        cached_statements=256,
    )
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # Savepoints copy pages to temporary storage. In a file, that takes longer than the commit itself.
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
    return connection


_core_lock = threading.Lock()
_next_connection: list[sqlite3.Connection] = []
_engine = sa.create_engine("sqlite://", creator=_next_connection.pop, poolclass=NullPool)
"""One engine for the process, so that all connections share its compiled statements. It wraps `_next_connection`."""


def _core(connection: sqlite3.Connection) -> sa.Connection:
    """Wrap a connection in SQLAlchemy Core, without SQLAlchemy's transactions. Closing the wrapper closes it."""
    with _core_lock:
        _next_connection.append(connection)
        return _engine.connect().execution_options(isolation_level="AUTOCOMMIT")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _origin(error: BaseException) -> BaseException:
    return getattr(error, "orig", None) or error


def _failed(error: Exception) -> Tok0nError:
    """Convert an error of the database for the caller, without SQL parameters, which may identify accounts."""
    if isinstance(error, Tok0nError):
        return error
    origin = _origin(error)
    return AccountingFailed(upstream_called=False, detail=f"{type(origin).__name__}: {origin}")
