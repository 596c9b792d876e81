"""What the transaction functions run on: SQLite or PostgreSQL, the same to them."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import sqlalchemy as sa

T = TypeVar("T")


class SqlStore(Protocol):
    """A database. A transaction is a plain function of a SQLAlchemy connection: it cannot wait for the network."""

    def write(self, fn: Callable[[sa.Connection], T]) -> Awaitable[T]:
        """Run a transaction function durably. If it raises, everything that it did is rolled back.

        Raises `AccountingFailed` when the database fails, `Overloaded` when too many wait.
        """

    async def read(self, fn: Callable[[sa.Connection], T], *, unhurried: bool = False) -> T:
        """Run a function on a read-only snapshot. Raises as `write` does.

        `unhurried` lifts the statement timeout.
        """

    async def probe(self) -> None:
        """Prove that a write commits and that the schema is at head. Raises `AccountingFailed` with the reason."""

    async def migrate(self) -> list[str]:
        """Bring the schema to head, alone; gives the revisions applied."""

    async def aclose(self) -> None:
        """Finish what is queued, and close every connection."""


def lock_for(tx: sa.Connection, what: str) -> None:
    """Let only one transaction at a time do `what`, until it ends. SQLite has one writer anyway."""
    if tx.dialect.name == "postgresql":
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(what, 0))))
