"""The entries of wallets that the prices of used tokens are derived from."""

from collections.abc import Sequence
from typing import Protocol

from tok0n.domain.lots import LotEntry, Position, PriceChange, UsageEntry, UsagePoint


class Lots(Protocol):
    """Reads the wallets of one account. Entries are append-only, so results of separate calls fit together."""

    async def lot_entries(self, account_id: str) -> dict[str, list[LotEntry]]:
        """Return the entries of each token class that aren't usage, in the order of their numbers."""

    async def usage_entries(self, account_id: str, request_ids: Sequence[str]) -> dict[str, tuple[str, UsageEntry]]:
        """Return the token class and the usage entry of each request of the account that was charged."""

    async def positions(self, account_id: str, *, before_us: Sequence[int | None]) -> list[dict[str, Position | None]]:
        """For each time, return each wallet's position before the account's first entry at or after that time.

        The time None is now. A wallet has no position (None) if its nearest entries are more than 10,000 entries of
        other classes away. Entries of processes whose clocks differ may be out of order by that difference.
        """

    async def first_uses(self, account_id: str, changes: Sequence[tuple[str, PriceChange]]) -> list[UsagePoint | None]:
        """For each token class and change of its price, return the first usage entry after the change.

        None if there is none, or if too many entries of other classes precede it (see `positions`).
        """

    async def tokens_of_keys(
        self, account_id: str, *, until: Sequence[UsagePoint | int | None]
    ) -> list[dict[tuple[str, str], int] | None]:
        """Return the tokens charged to each key for each model until each point.

        A point is right before an entry, a time in microseconds (a multiple of a quarter hour), or now (None). The
        tokens are None if too many entries precede an entry in its quarter hour.
        """
