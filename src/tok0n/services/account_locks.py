"""Run the transactions of one account one at a time, so a burst of them holds only one database connection."""

import asyncio
from weakref import WeakValueDictionary


class AccountLocks:
    """One lock for each account with running transactions, within this process. Row locks serialize processes."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def lock_for(self, account_id: str) -> asyncio.Lock:
        """Return the lock of an account."""
        return self._locks.setdefault(account_id, asyncio.Lock())
