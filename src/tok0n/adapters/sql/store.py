"""The interface of SQLite and PostgreSQL to transaction functions."""

from collections.abc import Awaitable, Callable
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

    Without statistics, or for a large page of rows, it may scan a whole table.
    """
    if tx.dialect.name != "sqlite":
        tx.execute(_OFF)


_SCANS = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin")
_OFF = sa.text("SELECT " + ", ".join(f"set_config('{name}', 'off', true)" for name in _SCANS))
