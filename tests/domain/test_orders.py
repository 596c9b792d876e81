"""Whatever becomes known of a payment, in whatever order and how often: the same end, and no token too many."""

import itertools
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.ledger import Balance
from tok0n.domain.orders import Applied, Dispute, DisputeStatus, OrderStatus, Payment, UnpaidReason, plan_entries

TOKENS = 1_000_001
PAID = 500
EMPTY = Balance(posted=0, pending=0)

facts = st.one_of(
    st.sampled_from([Payment(is_complete=True), Payment(is_complete=True, paid_cents=PAID)]),
    st.integers(0, 2 * PAID).map(lambda cents: Payment(refunded_cents=cents)),
    st.builds(
        lambda name, cents, status: Payment(disputes=(Dispute(id=name, cents=cents, status=status),)),
        st.sampled_from(["a", "b"]),
        st.sampled_from([PAID, 200]),
        st.sampled_from(list(DisputeStatus)),
    ),
    st.sampled_from([Payment(outcome=UnpaidReason.EXPIRED), Payment(outcome=UnpaidReason.FAILED)]),
    st.integers(0, PAID).map(lambda cents: Payment(tax_cents=cents)),
    st.sampled_from([Payment(decline_code="expired_card"), Payment(decline_code="insufficient_funds")]),
)


def known(*these: Payment) -> Payment:
    payment = Payment()
    for fact in these:
        payment = payment.merge(fact)
    return payment


@given(st.lists(facts, max_size=8), st.randoms())
def test_the_order_and_repetition_of_facts_make_no_difference(these: list[Payment], dice: Random) -> None:
    mixed = [*these, *dice.choices(these, k=3)] if these else []
    dice.shuffle(mixed)
    assert known(*mixed) == known(*these)


@given(st.lists(facts, max_size=8))
def test_nobody_gets_more_than_was_bought_or_owes_more(these: list[Payment]) -> None:
    applied = known(*these).tokens_due(TOKENS)
    assert 0 <= applied.refund + applied.dispute <= applied.purchase <= TOKENS
    assert (applied.purchase == TOKENS) == any(fact.paid_cents is not None for fact in these)


def test_what_is_taken_back_is_in_proportion_and_rounded_in_the_customers_favour() -> None:
    paid = Payment(paid_cents=300)
    for refunded, taken in ((0, 0), (1, 3), (100, 333), (299, 996), (300, 1_000), (301, 1_000)):
        assert paid.merge(Payment(refunded_cents=refunded)).tokens_due(1_000).refund == taken


def test_a_dispute_withholds_until_it_is_won_and_never_more_than_a_refund_leaves() -> None:
    def disputed(status: DisputeStatus) -> Payment:
        return Payment(paid_cents=300, disputes=(Dispute(id="d", cents=300, status=status),))

    assert disputed(DisputeStatus.OPEN).tokens_due(90) == Applied(purchase=90, dispute=90)
    assert disputed(DisputeStatus.WON).tokens_due(90) == Applied(purchase=90)
    refunded = disputed(DisputeStatus.LOST).merge(Payment(refunded_cents=100))
    assert refunded.tokens_due(90) == Applied(purchase=90, refund=30, dispute=60)


def test_an_order_that_cost_nothing_is_bought_all_the_same() -> None:
    assert Payment(paid_cents=0, refunded_cents=5).tokens_due(90) == Applied(purchase=90)


@given(st.permutations([Payment(paid_cents=PAID), Payment(refunded_cents=100), Payment(refunded_cents=250)]))
def test_entries_add_up_to_what_is_due_whatever_came_first(these: list[Payment]) -> None:
    payment, applied, posted, debt = Payment(), Applied(), 0, 0
    for fact in these:
        payment = payment.merge(fact)
        due = payment.tokens_due(TOKENS)
        plan = plan_entries(applied, due, balance=Balance(posted=posted, pending=0), debt=debt)
        posted += sum(entry.amount for entry in plan.entries)
        assert plan.applied == due
        applied, debt = due, plan.debt
    assert (posted, debt) == (TOKENS - TOKENS // 2, 0)


def test_what_was_spent_becomes_a_debt_that_the_next_purchase_covers_first() -> None:
    bought, refunded = Applied(purchase=100), Applied(purchase=100, refund=100)
    plan = plan_entries(bought, refunded, balance=Balance(posted=30, pending=0), debt=0)
    assert ([entry.amount for entry in plan.entries], plan.debt) == ([-30], 70)
    again = plan_entries(Applied(), Applied(purchase=50), balance=EMPTY, debt=plan.debt)
    assert ([entry.amount for entry in again.entries], again.debt) == ([50, -50], 20)
    more = plan_entries(Applied(), Applied(purchase=50), balance=EMPTY, debt=again.debt)
    assert ([entry.amount for entry in more.entries], more.debt) == ([50, -20], 0)


def test_what_calls_in_flight_have_reserved_is_taken_when_they_have_ended() -> None:
    bought, gone = Applied(purchase=100), Applied(purchase=100, refund=60, dispute=40)
    plan = plan_entries(bought, gone, balance=Balance(posted=50, pending=30), debt=0)
    assert [entry.amount for entry in plan.entries] == [-20]
    assert (plan.applied, plan.debt) == (Applied(purchase=100, refund=30, dispute=40), 50)
    spent_ten = Balance(posted=20, pending=0)
    rest = plan_entries(plan.applied, gone, balance=spent_ten, debt=plan.debt)
    assert [entry.amount for entry in rest.entries] == [-20]
    assert (rest.applied, rest.debt) == (gone, 60)


def test_every_life_of_an_order_ends_alike_however_it_is_told() -> None:
    dispute = Dispute(id="d", cents=PAID, status=DisputeStatus.OPEN)
    told = [
        Payment(paid_cents=PAID),
        Payment(outcome=UnpaidReason.EXPIRED),
        Payment(refunded_cents=100),
        Payment(disputes=(dispute,)),
        Payment(disputes=(msgspec.structs.replace(dispute, status=DisputeStatus.WON),)),
    ]
    ends = {
        (payment.tokens_due(TOKENS).refund, payment.tokens_due(TOKENS).dispute)
        for payment in (known(*these) for these in itertools.permutations(told))
    }
    assert ends == {(TOKENS // 5, 0)}


@pytest.mark.parametrize(
    ("payment", "status"),
    [
        (Payment(), OrderStatus.AWAITING_PAYMENT),
        (Payment(is_complete=True), OrderStatus.PROCESSING),
        (Payment(outcome=UnpaidReason.EXPIRED), OrderStatus.EXPIRED),
        (Payment(outcome=UnpaidReason.FAILED), OrderStatus.FAILED),
        (Payment(paid_cents=PAID, outcome=UnpaidReason.EXPIRED), OrderStatus.PAID),
        (Payment(paid_cents=PAID, refunded_cents=1), OrderStatus.PARTIALLY_REFUNDED),
        (Payment(paid_cents=PAID, refunded_cents=PAID), OrderStatus.REFUNDED),
        (Payment(paid_cents=PAID, disputes=(Dispute(id="a", cents=1, status=DisputeStatus.WON),)), OrderStatus.PAID),
        (
            Payment(
                paid_cents=PAID,
                refunded_cents=1,
                disputes=(
                    Dispute(id="a", cents=1, status=DisputeStatus.LOST),
                    Dispute(id="b", cents=1, status=DisputeStatus.OPEN),
                ),
            ),
            OrderStatus.DISPUTED,
        ),
        (
            Payment(paid_cents=PAID, disputes=(Dispute(id="a", cents=1, status=DisputeStatus.LOST),)),
            OrderStatus.DISPUTE_LOST,
        ),
    ],
)
def test_the_status_of_an_order_follows_from_its_payment(payment: Payment, status: OrderStatus) -> None:
    assert payment.status is status
    assert status.is_pending == (payment.paid_cents is None and payment.outcome is None)


@given(st.lists(facts, max_size=8))
def test_never_more_can_be_refunded_than_was_paid(these: list[Payment]) -> None:
    payment = known(*these)
    assert 0 <= payment.refundable_cents <= (payment.paid_cents or 0)
