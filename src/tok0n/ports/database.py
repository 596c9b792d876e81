"""The database as a whole."""

from typing import Protocol


class Database(Protocol):
    """The database as a whole."""

    async def probe(self) -> None:
        """Prove that a write commits and that the schema is at head. Raises `AccountingFailed` with the reason."""
