"""Lots: the price of used tokens, derived from the entries of one wallet. For display only; never admits a request.

A purchase adds a lot of tokens with the price paid for it. Grants, codes and the operator's additions add lots that
cost nothing. Requests use the oldest lots first, so the cost of a request is its share of the price of the lots that it
used. Entries are append-only, so a later entry never changes the cost of an earlier request.

The other entries:

- A refund, a dispute, or the cover of a debt removes tokens of the order's own lots, newest first, then of the oldest
  other lots. Removed tokens were not used, so their price is not part of any cost.
- A dispute that the seller wins adds a new lot with the order's price per token.
- A reversal adds a new lot whose price is the cost of the reversed request, and takes that cost off the sum.
- The operator's removals take the oldest lots first, at no cost to the customer.

A lot's price is split exactly: the first `n` of its tokens cost `price * n // tokens`. So the costs of the requests
that use up a lot add up to its price.

Amounts are tokens and micro-dollars (1,000,000 of them are one dollar).
"""

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from fractions import Fraction

import msgspec

from tok0n.domain.ledger import EntryKind

MICROS_PER_CENT = 10_000
TOKENS_PER_PRICE = 1_000_000
"""Prices are stated for this many tokens."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """A point in a wallet's history: right after its entry `number`, which left `posted_after` tokens."""

    number: int
    posted_after: int


class UsageEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The usage entry of a request. `tokens` is positive."""

    number: int
    tokens: int
    posted_after: int

    @property
    def before(self) -> Position:
        """The point right before the entry."""
        return Position(number=self.number - 1, posted_after=self.posted_after + self.tokens)

    @property
    def after(self) -> Position:
        """The point right after the entry."""
        return Position(number=self.number, posted_after=self.posted_after)


class PriceChange(msgspec.Struct, frozen=True, kw_only=True):
    """A point in a wallet's history after which requests use tokens of another price.

    It is among the usage entries that follow the entry `after_number` (0: the first entries). Those that leave at least
    `posted` tokens have the old price.
    """

    after_number: int
    posted: int


class UsagePoint(msgspec.Struct, frozen=True, kw_only=True):
    """The point right before a usage entry, whose row and time are these."""

    row_id: int
    at_us: int
    before: Position


class LotEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A wallet's entry that is not for usage. `tokens` is negative if the entry removes tokens.

    An entry of an order has its id, its tokens, and the price paid for all of them without tax. A reversal has the use
    that it gives back.
    """

    number: int
    kind: EntryKind
    tokens: int
    posted_after: int
    order_id: str | None = None
    order_tokens: int = 0
    order_usd_micros: int = 0
    reverses: UsageEntry | None = None


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens that requests used, and their cost."""

    tokens: int = 0
    usd_micros: int = 0

    @property
    def usd_micros_per_million(self) -> int | None:
        """The effective price of a million tokens, rounded. None without tokens."""
        return None if self.tokens <= 0 else round(self.usd_micros * TOKENS_PER_PRICE / self.tokens)

    def __add__(self, other: "Spent") -> "Spent":
        return Spent(tokens=self.tokens + other.tokens, usd_micros=self.usd_micros + other.usd_micros)

    def __sub__(self, other: "Spent") -> "Spent":
        return Spent(tokens=self.tokens - other.tokens, usd_micros=self.usd_micros - other.usd_micros)


NOTHING = Spent()


class _Lot:
    """The tokens of a lot from `first` (inclusive) to `end` (exclusive) that are neither used nor removed."""

    def __init__(self, *, order_id: str | None, tokens: int, usd_micros: int) -> None:
        self.order_id = order_id
        self.first = 0
        self.end = tokens
        self.price = Fraction(usd_micros, tokens)
        self._tokens = tokens
        self._usd_micros = usd_micros

    def use(self, tokens_max: int) -> Spent:
        """Use up to `tokens_max` tokens."""
        spent = self.cost_of_next(tokens_max)
        self.first += spent.tokens
        return spent

    def cost_of_next(self, tokens_max: int) -> Spent:
        until = min(self.end, self.first + tokens_max)
        cost = self._price_until(until) - self._price_until(self.first)
        return Spent(tokens=until - self.first, usd_micros=cost)

    def remove_last(self, tokens_max: int) -> int:
        removed = min(tokens_max, self.end - self.first)
        self.end -= removed
        return removed

    def _price_until(self, tokens: int) -> int:
        return self._usd_micros * tokens // self._tokens


class WalletLots:
    """The lots of a wallet while its entries are read in their order."""

    def __init__(self) -> None:
        self._lots: deque[_Lot] = deque()
        self._posted = 0
        self._costs: dict[int, int] = {}
        self._number = 0
        self._price: Fraction | None = None
        self.spent = NOTHING
        self.price_changes: list[PriceChange] = []

    def move_to(self, position: Position) -> Spent:
        """Use the tokens that requests used until `position`, and return all use so far."""
        self._use(self._posted - position.posted_after)
        return self.spent

    def record_cost(self, use: UsageEntry) -> None:
        """Remember the cost of a request, for its reversal."""
        before = self.move_to(use.before)
        self._costs[use.number] = (self.move_to(use.after) - before).usd_micros

    def apply(self, change: LotEntry) -> None:
        """Apply an entry that is not for usage."""
        self._use(self._posted - (change.posted_after - change.tokens))
        if change.tokens > 0:
            self._add(change)
        else:
            self._remove(-change.tokens, order_id=change.order_id)
        self._posted = change.posted_after
        self._number = change.number

    def estimate(self, tokens: int) -> Spent:
        """Return the cost of the next `tokens` tokens, or of the remaining ones if there are fewer."""
        estimated = NOTHING
        for lot in self._lots:
            if estimated.tokens == tokens:
                break
            estimated += lot.cost_of_next(tokens - estimated.tokens)
        return estimated

    def _use(self, tokens: int) -> None:
        self._record_prices(tokens)
        self.spent += self._take(tokens)
        self._posted -= max(0, tokens)

    def _record_prices(self, tokens: int) -> None:
        """Record where the use of the next `tokens` tokens changes its price."""
        posted = self._posted
        for lot in self._lots:
            if tokens <= 0:
                break
            if self._price not in {None, lot.price}:
                self.price_changes.append(PriceChange(after_number=self._number, posted=posted))
            self._price = lot.price
            used = min(tokens, lot.end - lot.first)
            posted, tokens = posted - used, tokens - used

    def _take(self, tokens: int) -> Spent:
        taken = NOTHING
        while self._lots and taken.tokens < tokens:
            taken += self._lots[0].use(tokens - taken.tokens)
            if self._lots[0].first == self._lots[0].end:
                self._lots.popleft()
        return taken

    def _add(self, change: LotEntry) -> None:
        price = 0
        if change.reverses is not None:
            price = self._costs.get(change.reverses.number, 0)
            self.spent -= Spent(tokens=change.tokens, usd_micros=price)
        elif change.order_id is not None and change.order_tokens:
            price = change.order_usd_micros * change.tokens // change.order_tokens
        self._lots.append(_Lot(order_id=change.order_id, tokens=change.tokens, usd_micros=price))

    def _remove(self, tokens: int, *, order_id: str | None) -> None:
        if order_id is not None:
            for lot in reversed(self._lots):
                if lot.order_id == order_id:
                    tokens -= lot.remove_last(tokens)
            self._lots = deque(lot for lot in self._lots if lot.first < lot.end)
        self._take(tokens)


def spent_until(changes: Iterable[LotEntry], positions: Sequence[Position]) -> list[Spent]:
    """Return the use of a wallet until each position. `changes` are all of its entries that aren't usage, in order."""
    return replay(changes, positions)[1]


def costs_of(changes: Iterable[LotEntry], uses: Sequence[UsageEntry]) -> list[int]:
    """Return the cost of each request, in micro-dollars."""
    ends = list(itertools.chain.from_iterable((use.before, use.after) for use in uses))
    spent = spent_until(changes, ends)
    return [(after - before).usd_micros for before, after in zip(spent[::2], spent[1::2], strict=True)]


def replay(changes: Iterable[LotEntry], positions: Sequence[Position]) -> tuple[WalletLots, list[Spent]]:
    """Read a wallet's history until its last change or position. Returns its state then, and the use at each position.

    A change right at a position comes before it.
    """
    changes = list(changes)
    steps: list[tuple[int, int, LotEntry | UsageEntry | Position, int]] = [(c.number, 0, c, 0) for c in changes]
    steps += [(c.reverses.number, 1, c.reverses, 0) for c in changes if c.reverses is not None]
    steps += [(position.number, 2, position, index) for index, position in enumerate(positions)]
    wallet = WalletLots()
    spent = [NOTHING] * len(positions)
    for _, _, step, index in sorted(steps, key=lambda step: step[:2]):
        match step:
            case LotEntry():
                wallet.apply(step)
            case UsageEntry():
                wallet.record_cost(step)
            case Position():
                spent[index] = wallet.move_to(step)
    return wallet, spent
