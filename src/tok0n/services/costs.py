"""Prices for display: of requests, of the use in a period, and of the next tokens. `domain.lots` has the rules."""

from collections.abc import Sequence

from tok0n.domain import lots
from tok0n.domain.budgets import ResetPeriod, period_start_us
from tok0n.domain.lots import NOTHING, Change, Spent
from tok0n.ports.clock import Clock
from tok0n.ports.lots import Lots


class Costs:
    """Computes prices in micro-dollars. Tokens of a class without any purchase have no price."""

    def __init__(self, lots: Lots, clock: Clock) -> None:
        self._lots = lots
        self._clock = clock

    async def of_requests(self, account_id: str, request_ids: Sequence[str]) -> dict[str, int]:
        """Return the cost of each request of the account in micro-dollars.

        Omits requests that were not charged, and those of a class without any purchase.
        """
        uses = await self._lots.uses(account_id, request_ids) if request_ids else {}
        if not uses:
            return {}
        priced = await self._priced(account_id)
        costs: dict[str, int] = {}
        for token_class in {token_class for token_class, _ in uses.values()} & priced.keys():
            of_class = {id_: use for id_, (name, use) in uses.items() if name == token_class}
            costs |= zip(of_class, lots.costs_of(priced[token_class], list(of_class.values())), strict=True)
        return costs

    async def of_period(self, account_id: str, *, since_us: int, until_us: int | None = None) -> Spent | None:
        """Return the tokens with a price that requests used from `since_us` to `until_us`, or until now.

        A reversal is subtracted at its own time, not at that of the charge. None if no class has a price, or
        if the start or the end can't be found quickly (`ports.Lots.positions`).
        """
        start = await self._lots.positions(account_id, before_us=since_us)
        end = await self._lots.positions(account_id, before_us=until_us)
        priced = await self._priced(account_id)
        total = NOTHING
        for token_class, changes in priced.items():
            positions = [start.get(token_class), end.get(token_class)]
            found = [position for position in positions if position is not None]
            if len(found) < len(positions):
                return None
            before, after = lots.spent_until(changes, found)
            total += after - before
        return total if priced else None

    async def this_month(self, account_id: str, *, time_zone: str) -> Spent | None:
        """Return the use with a price since the first day of this month in a time zone. See `of_period`."""
        since_us = period_start_us(ResetPeriod.MONTH, time_zone, self._clock.now_us())
        return await self.of_period(account_id, since_us=since_us)

    async def estimate(self, account_id: str, *, token_class: str, tokens: int) -> int | None:
        """Return the cost of the next `tokens` tokens in micro-dollars, as if no other request ran.

        None if the tokens have no price, or the wallet has fewer tokens.
        """
        changes = (await self._priced(account_id)).get(token_class)
        position = (await self._lots.positions(account_id)).get(token_class)
        if changes is None or position is None:
            return None
        wallet, _ = lots.read(changes, [position])
        estimated = wallet.estimate(tokens)
        return estimated.usd_micros if estimated.tokens == tokens else None

    async def _priced(self, account_id: str) -> dict[str, list[Change]]:
        """Return the changes of the classes in which the account ever paid."""
        changes = await self._lots.changes(account_id)
        return {name: rows for name, rows in changes.items() if any(row.order_usd_micros for row in rows)}
