"""The costs of requests add up exactly to the price of the tokens that they used, oldest first."""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain import lots
from tok0n.domain.ledger import EntryKind
from tok0n.domain.lots import NOTHING, LotEntry, Position, Spent, UsageEntry, costs_of, replay, spent_until

CENT = lots.MICROS_PER_CENT


class History:
    """Builds the entries of a wallet."""

    def __init__(self) -> None:
        self.posted = 0
        self.number = 0
        self.changes: list[LotEntry] = []
        self.uses: list[UsageEntry] = []

    def add(
        self,
        tokens: int,
        *,
        cents: int = 0,
        order: str | None = None,
        order_tokens: int | None = None,
        kind: EntryKind = EntryKind.PURCHASE,
        reverses: UsageEntry | None = None,
    ) -> None:
        self.posted += tokens
        self.number += 1
        self.changes.append(
            LotEntry(
                number=self.number,
                kind=kind,
                tokens=tokens,
                posted_after=self.posted,
                order_id=order or (f"ord_{self.number}" if cents else None),
                order_tokens=order_tokens or abs(tokens),
                order_usd_micros=cents * CENT,
                reverses=reverses,
            )
        )

    def use(self, tokens: int) -> UsageEntry:
        self.posted -= tokens
        self.number += 1
        use = UsageEntry(number=self.number, tokens=tokens, posted_after=self.posted)
        self.uses.append(use)
        return use

    @property
    def now(self) -> Position:
        return Position(number=self.number, posted_after=self.posted)

    @property
    def costs(self) -> list[int]:
        return costs_of(self.changes, self.uses)

    @property
    def spent(self) -> Spent:
        return spent_until(self.changes, [self.now])[0]


lots_of_tokens = st.tuples(st.integers(1, 1_000), st.integers(0, 999))
cuts = st.lists(st.integers(1, 400), max_size=30)


@given(st.lists(lots_of_tokens, min_size=1, max_size=6), cuts, st.data())
def test_the_costs_of_all_use_are_the_price_of_the_tokens_used(
    bought: Sequence[tuple[int, int]], used: Sequence[int], data: st.DataObject
) -> None:
    history, paid_micros, waiting = History(), 0, list(bought)
    for tokens in used:
        while history.posted < tokens and waiting:
            size, cents = waiting.pop(0)
            history.add(size, cents=cents)
            paid_micros += cents * CENT
        if history.posted >= tokens:
            history.use(tokens)
    if history.posted:
        history.use(history.posted)
    assert sum(history.costs) == paid_micros
    assert history.spent == Spent(tokens=sum(use.tokens for use in history.uses), usd_micros=paid_micros)
    some = data.draw(st.permutations(history.uses))[:5]
    all_costs = dict(zip((use.number for use in history.uses), history.costs, strict=True))
    assert costs_of(history.changes, some) == [all_costs[use.number] for use in some], "order and choice don't matter"


@given(lots_of_tokens, st.lists(st.integers(1, 999), min_size=1, max_size=8, unique=True))
def test_cutting_the_same_tokens_differently_costs_the_same(lot: tuple[int, int], edges: list[int]) -> None:
    tokens, cents = lot
    history = History()
    history.add(tokens, cents=cents)
    edges = [0, *sorted(edge for edge in edges if edge < tokens), tokens]
    for first, end in itertools.pairwise(edges):
        history.use(end - first)
    assert sum(history.costs) == cents * CENT
    ideal = [cents * CENT * use.tokens / tokens for use in history.uses]
    assert all(abs(cost - share) < 1 for cost, share in zip(history.costs, ideal, strict=True))


def test_the_oldest_lot_is_used_first_and_granted_tokens_cost_nothing() -> None:
    history = History()
    history.add(100, kind=EntryKind.GRANT)
    history.add(100, cents=500)
    history.add(100, cents=1_000)
    history.use(50)
    history.use(100)
    history.use(100)
    assert history.costs == [0, 250 * CENT, 250 * CENT + 500 * CENT]
    assert replay(history.changes, [history.now])[0].estimate(20) == Spent(tokens=20, usd_micros=200 * CENT)
    assert replay(history.changes, [history.now])[0].estimate(80).tokens == 50, "no more than there are"


def test_later_entries_never_change_the_cost_of_a_request() -> None:
    history = History()
    history.add(100, cents=500)
    history.use(60)
    before = history.costs
    history.add(-40, kind=EntryKind.REFUND, order="ord_1", cents=500, order_tokens=100)
    history.add(1_000, cents=1)
    history.use(1_000)
    assert history.costs[:1] == before == [300 * CENT]
    assert history.costs[1:] == [CENT]


def test_a_refund_takes_the_tokens_of_its_own_order_and_no_cost() -> None:
    history = History()
    history.add(100, cents=500, order="ord_a")
    history.add(100, cents=2_000, order="ord_b")
    history.use(10)
    history.add(-100, kind=EntryKind.REFUND, order="ord_b", cents=2_000, order_tokens=100)
    history.use(90)
    assert history.costs == [50 * CENT, 450 * CENT]
    assert history.posted == 0


def test_a_refund_of_spent_tokens_takes_the_oldest_others() -> None:
    history = History()
    history.add(100, cents=500, order="ord_a")
    history.add(100, cents=2_000, order="ord_b")
    history.use(80)
    history.add(-50, kind=EntryKind.REFUND, order="ord_a", cents=500, order_tokens=100)
    history.use(70)
    assert history.costs == [400 * CENT, 1_400 * CENT], "20 of a and 30 of b were removed"


def test_a_purchase_that_covers_a_debt_costs_only_what_is_used_of_it() -> None:
    history = History()
    history.add(100, cents=500, order="ord_a")
    history.add(-40, kind=EntryKind.ADJUSTMENT, order="ord_a", cents=500, order_tokens=100)
    history.use(60)
    assert history.costs == [300 * CENT]


def test_a_won_dispute_returns_tokens_at_the_price_of_their_order() -> None:
    history = History()
    history.add(100, cents=500, order="ord_a")
    history.add(-100, kind=EntryKind.DISPUTE, order="ord_a", cents=500)
    history.add(100, kind=EntryKind.DISPUTE, order="ord_a", cents=500)
    history.use(100)
    assert history.costs == [500 * CENT]


def test_a_reversal_returns_tokens_and_their_cost() -> None:
    history = History()
    history.add(100, cents=500)
    first = history.use(30)
    history.add(30, kind=EntryKind.ADJUSTMENT, reverses=first)
    assert history.spent == NOTHING
    history.use(100)
    assert history.costs == [150 * CENT, 500 * CENT]
    assert history.spent == Spent(tokens=100, usd_micros=500 * CENT)


def test_an_operators_removal_takes_the_oldest_tokens_at_no_cost() -> None:
    history = History()
    history.add(100, cents=500)
    history.add(100, cents=1_000)
    history.add(-100, kind=EntryKind.ADJUSTMENT)
    history.use(10)
    assert history.costs == [100 * CENT]


@pytest.mark.parametrize(("spent", "price"), [(NOTHING, None), (Spent(tokens=500_000, usd_micros=7), 14)])
def test_the_effective_price_is_that_of_a_million_tokens(spent: Spent, price: int | None) -> None:
    assert spent.usd_micros_per_million == price


def test_the_use_between_two_positions_is_the_difference_of_their_sums() -> None:
    history = History()
    history.add(100, cents=500)
    history.use(10)
    middle = history.now
    history.add(100, kind=EntryKind.GRANT)
    history.use(95)
    before, after = spent_until(history.changes, [middle, history.now])
    assert (before, after - before) == (
        Spent(tokens=10, usd_micros=50 * CENT),
        Spent(tokens=95, usd_micros=450 * CENT),
    )
