"""The database as a whole."""

from typing import Protocol


class Database(Protocol):
    """The database as a whole."""

    async def probe(self) -> None:
        """Check that a write commits and that the schema is current. Raises `AccountingFailed` with the reason."""
