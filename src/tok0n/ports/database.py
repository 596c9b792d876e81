"""The database as a whole, and the lease of this process in it."""

from typing import Protocol


class Database(Protocol):
    """The database as a whole."""

    async def probe(self) -> None:
        """Check that a write commits and that the schema is current. Raises `AccountingFailed` with the reason."""


class Lease(Protocol):
    """Shows other processes that this one is alive. Only a process whose lease is alive can reserve tokens.

    The database's clock decides. All methods raise `AccountingFailed` if the database fails.
    """

    async def renew(self) -> None:
        """Make the lease end 15 s from now, even if it had ended."""

    async def probe(self) -> None:
        """Raise `AccountingFailed` if the lease has ended."""

    async def expire_abandoned(self, *, now_us: int) -> int:
        """Expire the reservations of processes whose lease ended at least 10 s ago. Returns how many.

        Does nothing unless this process has renewed its own lease for 30 s without a gap over 20 s, so that an outage
        of the database expires nothing. `now_us` becomes the time at which the reservations ended.
        """

    async def end(self) -> None:
        """End the lease. Call it after the last settlement."""
