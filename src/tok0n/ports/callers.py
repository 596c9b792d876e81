"""Who calls: API keys on the path of each request."""

from collections.abc import Awaitable, Mapping
from typing import Protocol

import msgspec

from tok0n.domain.accounts import Caller


class KeyChanges(msgspec.Struct, frozen=True, kw_only=True):
    """The API keys that changed, or whose account changed. `number` is the number of the last change.

    `api_key_ids` is None if the changes are no longer known, so any key may have changed.
    """

    number: int
    api_key_ids: frozenset[str] | None


class Callers(Protocol):
    """Looks up API keys and records their use. Lookups that wait at the same time share a query."""

    def find(self, digest: bytes, *, now_us: int) -> Awaitable[Caller | None]:
        """Return the caller of the key with this digest.

        None if the key is unknown, expired or revoked, or its account closed. The caller may be disabled or suspended.
        Raises `AccountingFailed`, or `Overloaded` if too many lookups wait.
        """

    async def changes(self, *, after: int | None) -> KeyChanges:
        """Return what has changed since the change with the number `after`, or only the last number if it is None.

        A change takes effect when its transaction commits, and changes are numbered in that order.
        """

    async def mark_used(self, used_at_us: Mapping[str, int]) -> frozenset[str]:
        """Store when keys were last used, by key id. An earlier time than the stored one is ignored.

        Returns the ids of keys that other transactions had locked. Their use is not stored.
        """
