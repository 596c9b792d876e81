"""What requests cost, for pages to show. Costs follow from what an account paid for its tokens: see `domain.lots`.

Nothing is charged by them. Amounts are micro-dollars without tax.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence

import msgspec

from tok0n.domain import lots
from tok0n.domain.budgets import ResetPeriod, period_start_us
from tok0n.domain.ledger import STANDARD
from tok0n.domain.lots import NOTHING, LotEntry, Position, Spent, UsagePoint
from tok0n.ports.clock import Clock
from tok0n.ports.lots import Lots

_Point = tuple[Position | None, Mapping[str, int] | None]
"""A point in the history of a wallet, and the tokens of each key until it. None if not known."""

_BEGINNING: _Point = (Position(number=0, posted_after=0), {})

PRICE_CHANGES_MAX = 4
"""The most changes of the price at which the costs of keys are computed apart: the latest ones."""


class KeyUse(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens charged for the requests of each key, and their cost in micro-dollars.

    The costs are None if no class has a price, or if they can't be found quickly (`ports.Lots`).
    """

    tokens: dict[str, int]
    usd_micros: dict[str, int] | None


class Costs:
    """Computes the costs of one account's requests. Tokens of a class without any purchase have no price.

    `class_of_model` has the token class of each declared model.
    """

    def __init__(self, lots: Lots, clock: Clock, class_of_model: Mapping[str, str] | None = None) -> None:
        self._lots = lots
        self._clock = clock
        self._class_of_model = class_of_model or {}

    async def request_costs(self, account_id: str, request_ids: Sequence[str]) -> dict[str, int]:
        """Return the cost of each request of the account by its id.

        Omits requests that were not charged, and those of a class without any purchase.
        """
        uses = await self._lots.usage_entries(account_id, request_ids) if request_ids else {}
        if not uses:
            return {}
        priced = await self._priced(account_id)
        costs: dict[str, int] = {}
        for token_class in {token_class for token_class, _ in uses.values()} & priced.keys():
            of_class = {id_: use for id_, (name, use) in uses.items() if name == token_class}
            costs |= zip(of_class, lots.costs_of(priced[token_class], list(of_class.values())), strict=True)
        return costs

    async def spent_in_periods(self, account_id: str, *, edges_us: Sequence[int | None]) -> list[Spent] | None:
        """Return what requests spent between each two of these times. The time None is now.

        Counts only classes with a price. A reversal is subtracted at its own time, not at that of the charge. None if
        no class has a price, or if a time can't be found quickly (`ports.Lots.positions`).
        """
        edges = await self._lots.positions(account_id, before_us=edges_us)
        priced = await self._priced(account_id)
        totals = [NOTHING] * (len(edges) - 1)
        for token_class, changes in priced.items():
            positions = [position for edge in edges if (position := edge.get(token_class)) is not None]
            if len(positions) < len(edges):
                return None
            spent = itertools.pairwise(lots.spent_until(changes, positions))
            totals = [total + after - before for total, (before, after) in zip(totals, spent, strict=True)]
        return totals if priced else None

    async def spent_in_period(self, account_id: str, *, since_us: int, until_us: int | None = None) -> Spent | None:
        """Return what requests spent from `since_us` to `until_us`, or until now. See `spent_in_periods`."""
        spent = await self.spent_in_periods(account_id, edges_us=[since_us, until_us])
        return None if spent is None else spent[0]

    async def spent_this_month(self, account_id: str, *, time_zone: str) -> Spent | None:
        """Return what requests spent since the first day of this month in a time zone. See `spent_in_period`."""
        return await self.spent_in_period(account_id, since_us=self.month_start_us(time_zone))

    async def key_uses(self, account_id: str, *, since_us: int) -> tuple[KeyUse, KeyUse]:
        """Return the use of each key, in total and since a time.

        Between two changes of the price, a key's cost is its share of the cost of all requests, by its tokens. So the
        costs of all keys add up to that of the account, and a key's cost is that of its requests, except for the one
        request at each change, and for changes before the latest `PRICE_CHANGES_MAX`. Keys without charged requests
        are left out.

        `since_us` is a multiple of a quarter hour, such as the start of a day.
        """
        starts, ends = await self._lots.positions(account_id, before_us=[since_us, None])
        priced = await self._priced(account_id)
        uses = await self._price_changes(account_id, priced, ends)
        points = [None, since_us, *itertools.chain.from_iterable(uses.values())]
        tokens = dict(zip(points, await self._lots.tokens_of_keys(account_id, until=points), strict=True))
        ever, since = [], []
        for name, changes in priced.items():
            only_class = None if len(ends) == 1 else name
            start, end = (
                (positions.get(name), self._of_class(tokens[point], only_class))
                for positions, point in ((starts, since_us), (ends, None))
            )
            prices = [(use.before, self._of_class(tokens[use], only_class)) for use in uses[name]]
            ever.append(_shares(changes, [_BEGINNING, *prices, end]))
            since.append(_shares(changes, [start, *_after(start, prices), end]))
        used, used_before = (self._of_class(tokens[point], None) or {} for point in (None, since_us))
        used_since = {key_id: charged - used_before.get(key_id, 0) for key_id, charged in used.items()}
        return KeyUse(tokens=used, usd_micros=_added(ever)), KeyUse(tokens=used_since, usd_micros=_added(since))

    def month_start_us(self, time_zone: str) -> int:
        """Return the start of this month in a time zone."""
        return period_start_us(ResetPeriod.MONTH, time_zone, self._clock.now_us())

    async def _price_changes(
        self, account_id: str, priced: Mapping[str, Sequence[LotEntry]], ends: Mapping[str, Position | None]
    ) -> dict[str, list[UsagePoint]]:
        """Return the first use at each of the latest prices of each class before a point, in order."""
        changes = [
            (name, change)
            for name, entries in priced.items()
            if (end := ends.get(name)) is not None
            for change in lots.replay(entries, [end])[0].price_changes[-PRICE_CHANGES_MAX:]
        ]
        uses: dict[str, list[UsagePoint]] = {name: [] for name in priced}
        for (name, _), use in zip(changes, await self._lots.first_uses(account_id, changes), strict=True):
            end = ends[name]
            if use is not None and end is not None and use.before.number < end.number:
                uses[name].append(use)
        return uses

    def _of_class(self, tokens: Mapping[tuple[str, str], int] | None, token_class: str | None) -> dict[str, int] | None:
        """Return the tokens of each key, only for the models of a class if it is not None."""
        if tokens is None:
            return None
        of_keys: dict[str, int] = {}
        for (key_id, model), charged in tokens.items():
            if token_class is None or self._class_of_model.get(model, STANDARD) == token_class:
                of_keys[key_id] = of_keys.get(key_id, 0) + charged
        return of_keys

    async def estimate(self, account_id: str, *, token_class: str, tokens: int) -> int | None:
        """Return the cost of the next `tokens` tokens in micro-dollars, as if no other request ran.

        None if the tokens have no price, or the wallet has fewer tokens.
        """
        changes = (await self._priced(account_id)).get(token_class)
        (positions,) = await self._lots.positions(account_id, before_us=[None])
        position = positions.get(token_class)
        if changes is None or position is None:
            return None
        wallet, _ = lots.replay(changes, [position])
        estimated = wallet.estimate(tokens)
        return estimated.usd_micros if estimated.tokens == tokens else None

    async def _priced(self, account_id: str) -> dict[str, list[LotEntry]]:
        """Return the changes of the classes in which the account ever paid."""
        changes = await self._lots.lot_entries(account_id)
        return {name: rows for name, rows in changes.items() if any(row.order_usd_micros for row in rows)}


def _after(start: _Point, points: Sequence[_Point]) -> list[_Point]:
    """Return the points of a wallet that follow another one."""
    first = 0 if start[0] is None else start[0].number
    return [point for point in points if point[0] is not None and point[0].number > first]


def _shares(changes: Sequence[LotEntry], points: Sequence[_Point]) -> dict[str, int] | None:
    """Return each key's share of what was spent between two points, for all points in their order.

    None if a point isn't known.
    """
    known_points = [(position, tokens) for position, tokens in points if position is not None and tokens is not None]
    if len(known_points) < len(points):
        return None
    spent = lots.spent_until(changes, [position for position, _ in known_points])
    costs: dict[str, int] = {}
    for (start, (_, before)), (end, (_, until)) in itertools.pairwise(zip(spent, known_points, strict=True)):
        used = {key_id: charged - before.get(key_id, 0) for key_id, charged in until.items()}
        total = sum(used.values())
        for key_id, charged in used.items():
            share = (end - start).usd_micros * charged // total if total else 0
            costs[key_id] = costs.get(key_id, 0) + share
    return costs


def _added(costs: Sequence[Mapping[str, int] | None]) -> dict[str, int] | None:
    """Add up the costs of all token classes. None if there are none, or if those of a class aren't known."""
    if not costs or None in costs:
        return None
    total = Counter[str]()
    for of_class in costs:
        total.update(of_class or {})
    return dict(total)
