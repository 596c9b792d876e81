"""The interface of SQLite and PostgreSQL to transaction functions."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")
Row = tuple[Any, ...]


class SqlStore(Protocol):
    """A database. A transaction is a synchronous function of a SQLAlchemy connection, so it can't await the network."""

    def write(self, fn: Callable[[sa.Connection], T]) -> Awaitable[T]:
        """Run `fn` in a transaction, and commit it durably. If `fn` raises, the transaction is rolled back.

        Raises `AccountingFailed` if the database fails, and `Overloaded` if too many transactions wait.
        """

    async def read(self, fn: Callable[[sa.Connection], T], *, no_timeout: bool = False) -> T:
        """Run `fn` on a read-only snapshot. Raises the errors of `write`. `no_timeout` lifts the statement timeout."""

    async def probe(self) -> None:
        """Check that a write commits and that the schema is at head. Raises `AccountingFailed` with the reason."""

    async def migrate(self) -> list[str]:
        """Migrate the schema to head while no other process migrates it. Returns the applied migrations."""

    async def aclose(self) -> None:
        """Run the queued transactions, and close every connection."""


async def execute(store: SqlStore, statement: sa.UpdateBase) -> int:
    """Run one statement as a transaction, and return the number of rows that it changed."""
    return await store.write(lambda tx: tx.execute(statement).rowcount)


def fetch(tx: sa.Connection, query: str, **values: object) -> list[Row]:
    """Return the driver's rows, without the cost of SQLAlchemy's."""
    cursor = tx.execute(sa.text(query), values).cursor
    assert cursor is not None
    return list(cursor.fetchall())


def lock_for(tx: sa.Connection, name: str) -> None:
    """Hold the lock `name` until the transaction ends. SQLite needs no lock, because it has one writer."""
    if tx.dialect.name != "sqlite":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


def force_index_scans(tx: sa.Connection) -> None:
    """Make PostgreSQL find rows by indexes until the transaction ends.

    Only a migration needs this. Every other connection starts with these settings.
    """
    if tx.dialect.name != "sqlite":
        tx.execute(_INDEX_SCANS)


def merge_joins(tx: sa.Connection) -> contextlib.AbstractContextManager[None]:
    """Make PostgreSQL join tables by reading an index of each in its order, for the queries of a block.

    For a page of rows, this takes a fraction of the CPU that an index lookup for each row would take.
    """
    return _planner(tx, _MERGE_JOINS)


def bitmap_scans(tx: sa.Connection) -> contextlib.AbstractContextManager[None]:
    """Make PostgreSQL read each page of a table once, in their order on disk, for the queries of a block.

    If there are many rows, far apart in the table, this takes a fraction of the CPU that index scans would take.
    """
    return _planner(tx, _BITMAP_SCANS)


@contextlib.contextmanager
def _planner(tx: sa.Connection, settings: sa.TextClause) -> Iterator[None]:
    """Run a block of queries with `settings`. A write in the block would be rolled back."""
    if tx.dialect.name == "sqlite":
        yield
        return
    with tx.begin_nested() as savepoint:
        tx.execute(settings)
        yield
        savepoint.rollback()  # restores the settings


def set_config(settings: Mapping[str, str], *, is_local: bool = False) -> str:
    """Return the statement that sets PostgreSQL's `settings` for the session, or only until the transaction ends."""
    scope = "true" if is_local else "false"
    return "SELECT " + ", ".join(f"set_config('{name}', '{value}', {scope})" for name, value in settings.items())


BY_INDEX = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_indexscan": "on",
    "enable_nestloop": "on",
    "enable_sort": "on",
    "max_parallel_workers_per_gather": "0",
}
"""The settings of PostgreSQL's planner that make it find rows by indexes, in one process.

Without statistics, or for a large page of rows, it may otherwise scan a whole table. Parallel workers would copy each
row, and compete with a server for the cores. A connection starts with these settings, because setting them in each
transaction would take a third of the CPU of a short one.
"""


def _for_the_transaction(**settings: str) -> sa.TextClause:
    return sa.text(set_config(settings, is_local=True))


_INDEX_SCANS = _for_the_transaction(**BY_INDEX)
_MERGE_JOINS = _for_the_transaction(enable_mergejoin="on", enable_nestloop="off", enable_sort="off")
_BITMAP_SCANS = _for_the_transaction(enable_bitmapscan="on", enable_indexscan="off", enable_sort="off", work_mem="32MB")
