"""Run the transactions of one account one at a time, so that a burst of them holds one database connection, not all."""

import asyncio
from weakref import WeakValueDictionary


class AccountLocks:
    """A lock for each account that is in use, in this process. The database's row lock decides between processes."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, account_id: str) -> asyncio.Lock:
        """The lock of an account."""
        return self._locks.setdefault(account_id, asyncio.Lock())
