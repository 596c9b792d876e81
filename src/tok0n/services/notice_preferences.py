"""Decide which notices an account gets. Every kind is on until the owner turns it off; security notices stay on."""

from collections.abc import Collection

from tok0n.domain.notices import OPTIONAL_KINDS, Channel, NoticeKind
from tok0n.ports.mail import Preferences


class NoticePreferences:
    """Reads and sets which kinds of notices an account gets by a channel."""

    def __init__(self, preferences: Preferences) -> None:
        self._preferences = preferences

    async def wants(self, account_id: str, kind: NoticeKind, channel: Channel = Channel.EMAIL) -> bool:
        """Whether the account gets notices of a kind."""
        if kind not in OPTIONAL_KINDS:
            return True
        return (kind, channel) not in await self._preferences.turned_off(account_id)

    async def wanted(self, account_id: str, channel: Channel = Channel.EMAIL) -> set[NoticeKind]:
        """Return the optional kinds that the account gets."""
        turned_off = await self._preferences.turned_off(account_id)
        return {kind for kind in OPTIONAL_KINDS if (kind, channel) not in turned_off}

    async def set_wanted(
        self, account_id: str, wanted: Collection[NoticeKind], channel: Channel = Channel.EMAIL
    ) -> None:
        """Turn on the optional kinds in `wanted`, and turn off the others."""
        await self._preferences.replace(account_id, {(kind, channel): kind in wanted for kind in OPTIONAL_KINDS})
