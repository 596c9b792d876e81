"""Find out up to which id the ledger entries are final.

On PostgreSQL, an entry may commit after one with a higher id. A transaction locks the table before it takes an id, so
once every transaction that was writing when an id was the highest has ended, no entry up to that id can appear.
"""

import sqlalchemy as sa

_NEWEST = sa.text("SELECT coalesce(max(id), 0) FROM ledger_entry")
_WRITERS = sa.text(
    "SELECT virtualtransaction FROM pg_locks"
    " WHERE relation = 'ledger_entry'::regclass AND mode = 'RowExclusiveLock'"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class FinalEntries:
    """Follows the ids of a growing ledger. `final_id` is an id up to which no further entry can appear."""

    def __init__(self) -> None:
        self.final_id = 0
        self._newest: int | None = None
        self._writers: set[str] = set()

    def look(self, tx: sa.Connection) -> bool:
        """Return whether the newest id of this look, or of the first one that returned False, is the final one now.

        Each look needs a transaction of its own.
        """
        if self._newest is None:
            self._newest = int(tx.scalar(_NEWEST) or 0)
            self._writers = _writers(tx)
        elif self._writers:
            self._writers &= _writers(tx)
        if self._writers:
            return False
        self.final_id, self._newest = self._newest, None
        return True


def _writers(tx: sa.Connection) -> set[str]:
    """Return the transactions that are writing entries. SQLite has no concurrent ones."""
    return set() if tx.dialect.name == "sqlite" else set(tx.scalars(_WRITERS))
