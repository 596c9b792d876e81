"""Events of the provider that come twice, late, out of order or never: credited once, and only what fits the order."""

import asyncio
import itertools
from random import Random

import msgspec
import pytest
import structlog

from support.fake_payments import FOREVER_US, Shop, disputed, event, page, refunded
from support.ledgers import NOW_US
from support.spending import reserve
from tok0n.domain.errors import NotFound, PaymentFailed
from tok0n.domain.ledger import Release
from tok0n.domain.orders import Dispute, DisputeStatus, UnpaidReason
from tok0n.domain.payments import Disputed, RefundFailed
from tok0n.services.payments import RETRY_FOR_US

pytestmark = pytest.mark.anyio

ORDERINGS = 16
"""How many of the 40,320 orderings of eight events are tried."""


async def test_a_paid_order_is_credited_once_however_often_it_is_reported(shop: Shop) -> None:
    order = await shop.order()
    paid = page(order, is_paid=True)
    shop.provider.opened[order.id] = paid
    payload = msgspec.json.encode(event("1", paid))
    stored = await asyncio.gather(*(shop.sell.receive(payload, "signed") for _ in range(100)))
    assert sum(stored) == 1
    await asyncio.gather(*(shop.sell.handle_all() for _ in range(10)), *(shop.sell.refresh(order) for _ in range(10)))
    await shop.deliver(event("2", paid, "checkout.session.async_payment_succeeded"))
    assert await shop.posted() == 1_000
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []
    assert (await shop.db.ledger.audit()).ok


@pytest.mark.parametrize("decision", [DisputeStatus.WON, DisputeStatus.LOST])
async def test_events_in_any_order_end_with_the_same_balance(shop: Shop, decision: DisputeStatus) -> None:
    ends = set()
    orderings = list(itertools.permutations(range(8)))
    for number, places in enumerate(Random(1).sample(orderings, ORDERINGS)):
        email = f"{number}@x"
        order = await shop.order(email)
        paid = page(order, is_paid=True, is_complete=True)
        shop.provider.opened[order.id] = paid
        told = [
            event(f"{number}-1", page(order, is_complete=True)),
            event(f"{number}-2", paid, "checkout.session.async_payment_succeeded"),
            event(f"{number}-3", refunded(order, 100), "charge.refunded"),
            event(f"{number}-4", refunded(order, 300), "charge.refunded"),
            event(f"{number}-5", disputed(order, DisputeStatus.OPEN), "charge.dispute.created"),
            event(f"{number}-6", disputed(order, decision), "charge.dispute.closed"),
        ]
        shop.provider.log = told
        for place in places:
            if place < len(told):
                await shop.deliver(told[place])
            elif place == len(told):
                await shop.sell.refresh(await shop.orders.get(order.id))
            else:
                await shop.sell.reconcile()
            assert (await shop.db.accounts.get(email)).balance.posted in range(1_001)
        await shop.sell.handle_all()
        ends.add(await shop.posted(email))
    assert ends == {400 if decision is DisputeStatus.WON else 0}
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []
    assert (await shop.db.ledger.audit()).ok


@pytest.mark.parametrize(
    "wrong",
    [
        {"subtotal_cents": 499},
        {"subtotal_cents": 5_000},
        {"currency": "eur"},
        {"livemode": True},
        {"order_id": None},
        {"order_id": "ord_unknown"},
        {"id": "cs_another"},
    ],
    ids=str,
)
async def test_a_payment_that_does_not_match_its_order_credits_nobody(shop: Shop, wrong: dict[str, object]) -> None:
    order = await shop.order()
    with structlog.testing.capture_logs() as lines:
        await shop.deliver(event("1", page(order, is_paid=True, **wrong)))
    assert [line["log_level"] for line in lines if line["event"] == "payment_alarm"] == ["error"]
    assert await shop.posted() == 0
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == [], "it is not tried again"


async def test_tax_and_discounts_do_not_change_the_tokens_bought(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(event("1", page(order, is_paid=True, total_cents=595)))
    assert await shop.posted() == 1_000
    await shop.deliver(event("2", refunded(order, 595), "charge.refunded"))
    assert await shop.posted() == 0


async def test_an_unpaid_order_gives_no_tokens(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(
        event("1", page(order)),
        event("2", page(order, outcome=UnpaidReason.FAILED)),
        event("3", None, "customer.created"),
    )
    assert await shop.posted() == 0
    assert (await shop.orders.get(order.id)).payment.outcome == "failed"


async def test_a_dispute_waits_for_its_payment(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(event("1", disputed(order, DisputeStatus.LOST), "charge.dispute.closed"))
    assert len(await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10)) == 1
    await shop.deliver(event("2", page(order, is_paid=True)))
    await shop.sell.handle_all()
    assert await shop.posted() == 0
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []
    stray = Disputed(
        payment_id="pi_other",
        dispute=Dispute(id="dp_other", cents=5, status=DisputeStatus.OPEN),
        currency="usd",
        livemode=False,
    )
    await shop.deliver(event("3", stray, "charge.dispute.created"))
    shop.clock.advance(RETRY_FOR_US / 1_000_000)
    await shop.sell.handle_all()
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == [], "not for ever"


async def test_an_outage_of_three_days_loses_nothing(shop: Shop) -> None:
    assert await shop.sell.reconcile() == 0
    order = await shop.order()
    other = await shop.order("b@x")
    paid_at = msgspec.structs.replace(event("1", page(order, is_paid=True)), created_at_us=shop.clock.now_us())
    shop.provider.log = [event("2", refunded(order, 250), "charge.refunded"), paid_at]
    shop.clock.advance(3 * 86_400)
    await shop.deliver(
        msgspec.structs.replace(event("3", page(other, is_paid=True)), created_at_us=shop.clock.now_us())
    )
    assert await shop.sell.reconcile() == 2, "a webhook that came first does not hide what was missed before it"
    assert (await shop.posted(), await shop.posted("b@x")) == (500, 1_000)
    assert await shop.sell.reconcile() == 0


async def test_a_failed_reconciliation_skips_no_events(shop: Shop) -> None:
    order = await shop.order()
    shop.provider.log = [event("1", page(order, is_paid=True))]
    shop.provider.is_away = True
    with pytest.raises(PaymentFailed):
        await shop.sell.reconcile()
    shop.provider.is_away = False
    assert await shop.sell.reconcile() == 1


async def test_an_event_that_cannot_be_applied_delays_no_other(shop: Shop) -> None:
    shop.sell = shop.selling(handled_at_once=2)
    order = await shop.order()
    other = await shop.order("b@x")
    await shop.deliver(event("1", page(other, is_paid=True)))
    for number in range(3):
        stray = msgspec.structs.replace(disputed(order, DisputeStatus.OPEN), payment_id=f"pi_{number}")
        await shop.deliver(event(f"2{number}", stray, "charge.dispute.created"))
    await shop.deliver(event("3", disputed(other, DisputeStatus.OPEN), "charge.dispute.created"))
    same_id = Disputed(
        payment_id=f"pi_{order.id}",
        dispute=disputed(other, DisputeStatus.OPEN).dispute,
        currency="usd",
        livemode=False,
    )
    await shop.deliver(event("4", page(order)), event("5", same_id, "charge.dispute.created"))
    await shop.deliver(event("6", page(order, is_paid=True)))
    assert await shop.posted() == 1_000
    waiting = [stored.event.id for stored in await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10)]
    assert sorted(waiting) == ["evt_20", "evt_21", "evt_22"], "a dispute of another order can never be applied"


async def test_a_refund_takes_back_reserved_tokens_when_their_request_ends(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(event("1", page(order, is_paid=True)))
    key = await shop.db.accounts.create_key(
        account_id=order.account_id, name="test", digest=b"key", prefix="tk0n_", last_four="0000", now_us=NOW_US
    )
    held = await reserve(shop.db, account_id=order.account_id, key_id=key.id, tokens=600, model="demo", at_us=NOW_US)
    await shop.deliver(event("2", refunded(order, 500), "charge.refunded"))
    assert await shop.posted() == 600
    await shop.db.ledger.release(
        Release(request_id=held, code="upstream_error", dispatched=True, resolved_at_us=NOW_US)
    )
    await shop.sell.handle_all()
    assert (await shop.posted(), await shop.orders.debts(order.account_id)) == (0, {})
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []


async def test_a_refund_that_the_bank_rejected_alarms_the_operator(shop: Shop) -> None:
    order = await shop.order()
    failed = RefundFailed(payment_id=f"pi_{order.id}", cents=500)
    with structlog.testing.capture_logs() as lines:
        await shop.deliver(
            event("1", page(order, is_paid=True)),
            event("2", refunded(order, 500), "charge.refunded"),
            event("3", failed, "refund.failed"),
        )
    assert [line["payment_event"] for line in lines if line["event"] == "payment_alarm"] == ["evt_3"]
    assert await shop.posted() == 0


async def test_repeating_a_refund_refunds_once(shop: Shop) -> None:
    order = await shop.order()
    with pytest.raises(NotFound):
        await shop.sell.refund(order.id, cents=100)
    await shop.deliver(event("1", page(order, is_paid=True)))
    for _ in range(2):
        await shop.sell.refund(order.id, cents=100)
    assert len(set(shop.provider.refunds)) == 1
    await shop.deliver(event("2", refunded(order, 100), "charge.refunded"))
    await shop.sell.refund(order.id, cents=100)
    assert len(set(shop.provider.refunds)) == 2, "another hundred is another refund"
