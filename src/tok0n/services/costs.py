"""Prices for display: of requests, of the use in a period, and of the next tokens. `domain.lots` has the rules."""

import itertools
from collections.abc import Mapping, Sequence

from tok0n.domain import lots
from tok0n.domain.budgets import ResetPeriod, period_start_us
from tok0n.domain.ledger import STANDARD
from tok0n.domain.lots import NOTHING, Change, Position, Spent, UseEntry
from tok0n.ports.clock import Clock
from tok0n.ports.lots import Lots

PRICE_CHANGES_MAX = 4
"""The most changes of the price at which the costs of keys are computed apart: the latest ones."""


class Costs:
    """Computes prices in micro-dollars. Tokens of a class without any purchase have no price.

    `class_of_model` has the token class of each declared model.
    """

    def __init__(self, lots: Lots, clock: Clock, class_of_model: Mapping[str, str] | None = None) -> None:
        self._lots = lots
        self._clock = clock
        self._class_of_model = class_of_model or {}

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
        return await self.of_period(account_id, since_us=self.month_start_us(time_zone))

    async def of_keys(self, account_id: str, *, since_us: int | None = None) -> dict[str, int] | None:
        """Return the cost of each key's requests since a time, or of all.

        Between two changes of the price, a key's cost is its share of the cost of all requests, by its tokens. So the
        costs of all keys add up to that of the account, and a key's cost is that of its requests, except for the one
        request at each change, and for changes before the latest `PRICE_CHANGES_MAX`. Keys without charged requests
        are left out. None if no class has a price, or if the costs can't be found quickly (`ports.Lots`).

        `since_us` is a multiple of a quarter hour, such as the start of a day.
        """
        starts = {} if since_us is None else await self._lots.positions(account_id, before_us=since_us)
        ends = await self._lots.positions(account_id)
        costs: dict[str, int] = {}
        priced = await self._priced(account_id)
        for token_class, changes in priced.items():
            start = Position(number=0, posted_after=0) if since_us is None else starts.get(token_class)
            end = ends.get(token_class)
            if start is None or end is None:
                return None
            uses = await self._price_changes(account_id, token_class, changes, start=start, end=end)
            _, spent = lots.read(changes, [start, *(use.before for use in uses), end])
            only_class = None if len(ends) == 1 else token_class
            tokens = [
                await self._tokens(account_id, only_class, since_us=since_us, until=until) for until in (*uses, None)
            ]
            if not _add_shares(costs, spent, tokens):
                return None
        return costs if priced else None

    def month_start_us(self, time_zone: str) -> int:
        """Return the start of this month in a time zone."""
        return period_start_us(ResetPeriod.MONTH, time_zone, self._clock.now_us())

    async def _price_changes(
        self, account_id: str, token_class: str, changes: Sequence[Change], *, start: Position, end: Position
    ) -> list[UseEntry]:
        """Return the first use at each of the latest prices, between two points, in order."""
        wallet, _ = lots.read(changes, [start, end])
        later = [
            each
            for each in wallet.price_changes
            if each.after_number >= start.number or each.posted < start.posted_after
        ]
        found = []
        for change in later[-PRICE_CHANGES_MAX:]:
            use = await self._lots.first_use_after(account_id, change, token_class=token_class)
            if use is not None and start.number < use.before.number < end.number:
                found.append(use)
        return found

    async def _tokens(
        self, account_id: str, token_class: str | None, *, since_us: int | None, until: UseEntry | None
    ) -> dict[str, int] | None:
        """Return the tokens of each key until an entry, only for the models of a class if it is not None."""
        found = await self._lots.tokens_of_keys(account_id, since_us=since_us, until=until)
        if found is None:
            return None
        tokens: dict[str, int] = {}
        for (key_id, model), charged in found.items():
            if token_class is None or self._class_of_model.get(model, STANDARD) == token_class:
                tokens[key_id] = tokens.get(key_id, 0) + charged
        return tokens

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


def _add_shares(costs: dict[str, int], spent: Sequence[Spent], tokens: Sequence[Mapping[str, int] | None]) -> bool:
    """Add each key's share of what was spent between two points. `tokens` are those of each key until the end of each.

    Returns whether the tokens are known.
    """
    before: Mapping[str, int] = {}
    for (start, end), until in zip(itertools.pairwise(spent), tokens, strict=True):
        if until is None:
            return False
        used = {key_id: charged - before.get(key_id, 0) for key_id, charged in until.items()}
        total = sum(used.values())
        for key_id, charged in used.items():
            share = (end - start).usd_micros * charged // total if total else 0
            costs[key_id] = costs.get(key_id, 0) + share
        before = until
    return True
