"""The ledger on SQLite: reservations, settlements and releases in group commits. SQL statements make all decisions.

Commands of one commit that change the same wallet share a statement if the result is the same. If the group doesn't
fit the balance, or a use exceeds its reservation, commands run one by one. `domain/ledger_rules.py` has the rules.
"""

from asyncio import Future

from tok0n.adapters.batcher import RESERVATIONS_WAITING_MAX
from tok0n.adapters.sql.shared_ledger import SharedLedger
from tok0n.adapters.sql.sqlite import reserving, settling
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.domain.errors import Overloaded
from tok0n.domain.ledger import Balance, NewReservation, Receipt, Release, Settlement


class SqliteLedger(SharedLedger):
    """The `Ledger` port on SQLite."""

    _store: SqliteStore

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store)
        self._waiting = store.waiting

    def has_room(self) -> bool:
        return len(self._waiting) < RESERVATIONS_WAITING_MAX

    def reserve(self, reservation: NewReservation) -> Future[Balance]:
        if not self.has_room():
            raise Overloaded(queue="reservations")
        return self._store.submit(reserving.reserve_all, reservation)

    def settle(self, settlement: Settlement) -> Future[Receipt]:
        return self._store.submit(settling.settle_all, settlement)

    def release(self, release: Release) -> Future[None]:
        return self._store.submit(settling.release_all, release)
