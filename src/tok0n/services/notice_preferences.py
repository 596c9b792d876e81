"""Decide which notices an account gets. Every kind is on until the owner turns it off; security notices stay on."""

from collections.abc import Collection

from tok0n.domain.notices import OPTIONAL_KINDS, NoticeChannel, NoticeKind
from tok0n.ports.mail import Preferences


class NoticePreferences:
    """Reads and sets which kinds of notices an account gets by email."""

    def __init__(self, preferences: Preferences) -> None:
        self._preferences = preferences

    async def is_enabled(self, account_id: str, kind: NoticeKind) -> bool:
        """Whether the account gets notices of a kind."""
        if kind not in OPTIONAL_KINDS:
            return True
        return (kind, NoticeChannel.EMAIL) not in await self._preferences.turned_off(account_id)

    async def enabled_kinds(self, account_id: str) -> set[NoticeKind]:
        """Return the optional kinds that the account gets."""
        turned_off = await self._preferences.turned_off(account_id)
        return {kind for kind in OPTIONAL_KINDS if (kind, NoticeChannel.EMAIL) not in turned_off}

    async def set_enabled_kinds(self, account_id: str, kinds: Collection[NoticeKind]) -> None:
        """Turn on the optional kinds in `kinds`, and turn off the others."""
        await self._preferences.replace(
            account_id, {(kind, NoticeChannel.EMAIL): kind in kinds for kind in OPTIONAL_KINDS}
        )
