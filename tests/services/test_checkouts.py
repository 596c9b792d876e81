"""Purchases: which checkout a buyer is led to, and which one expires to make room."""

import asyncio

import msgspec
import pytest
import structlog

from support.fake_payments import PACK, Shop, event, page
from support.ledgers import NOW_US
from tok0n.domain.errors import NotFound, PaymentFailed
from tok0n.domain.forms import Submission
from tok0n.domain.orders import Order, UnpaidReason
from tok0n.domain.payments import Checkout
from tok0n.services.payments import Purchase

pytestmark = pytest.mark.anyio


async def test_no_order_succeeds_without_the_provider_or_for_an_unknown_pack(shop: Shop) -> None:
    shop.provider.is_away = True
    with pytest.raises(PaymentFailed):
        await shop.order()
    shop.provider.is_away = False
    account = await shop.db.accounts.get("a@x")
    with pytest.raises(NotFound):
        await shop.sell.buy(account_id=account.id, email="a@x", pack_id="gone")


async def buy(shop: Shop, pack_id: str, *, email: str = "a@x") -> Order:
    account = await shop.db.accounts.get(email)
    purchase = await shop.sell.buy(account_id=account.id, email=email, pack_id=pack_id)
    assert purchase.url is not None
    return await shop.orders.get(purchase.order_id)


async def six_packs(shop: Shop) -> list[Order]:
    """An account with five open orders, oldest first, in a shop that sells a sixth pack."""
    shop.sell = shop.selling(packs=[msgspec.structs.replace(PACK, id=f"p{number}") for number in range(6)])
    await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    orders = []
    for number in range(5):
        shop.clock.advance(1)
        orders.append(await buy(shop, f"p{number}"))
    return orders


async def test_a_sixth_checkout_expires_the_oldest_at_the_provider_first(shop: Shop) -> None:
    oldest, *others = await six_packs(shop)
    newest = await buy(shop, "p5")
    assert shop.provider.opened[oldest.id].outcome is UnpaidReason.EXPIRED
    assert (await shop.orders.get(oldest.id)).payment.outcome is UnpaidReason.EXPIRED
    for order in (*others, newest):
        assert shop.provider.opened[order.id].is_open
        assert (await shop.orders.get(order.id)).is_open


async def test_the_same_pack_leads_to_its_open_checkout(shop: Shop) -> None:
    orders = await six_packs(shop)
    assert [(await buy(shop, f"p{number}")).id for number in range(5)] == [order.id for order in orders]
    assert len(shop.provider.opened) == 5


async def test_a_checkout_that_was_paid_just_before_it_expires_is_credited(shop: Shop) -> None:
    oldest, *_ = await six_packs(shop)
    shop.provider.opened[oldest.id] = page(oldest, is_paid=True, is_complete=True, url=None)
    await buy(shop, "p5")
    assert await shop.posted() == PACK.tokens
    assert (await shop.orders.get(oldest.id)).payment.paid_cents == 500
    assert (await shop.db.ledger.audit()).ok


async def test_a_checkout_whose_money_is_on_its_way_is_credited_when_it_arrives(shop: Shop) -> None:
    oldest, *_ = await six_packs(shop)
    shop.provider.opened[oldest.id] = page(oldest, is_complete=True, url=None)
    await buy(shop, "p5")
    kept = await shop.orders.get(oldest.id)
    assert (kept.payment.is_complete, kept.payment.outcome) == (True, None)
    await shop.deliver(event("1", page(oldest, is_complete=True, is_paid=True)))
    assert await shop.posted() == PACK.tokens


async def test_a_checkout_that_the_provider_has_forgotten_makes_room(shop: Shop) -> None:
    oldest, *_ = await six_packs(shop)
    del shop.provider.opened[oldest.id]
    await buy(shop, "p5")
    assert (await shop.orders.get(oldest.id)).payment.outcome is UnpaidReason.EXPIRED
    await shop.deliver(event("1", page(oldest, is_complete=True, is_paid=True)))
    assert await shop.posted() == PACK.tokens, "if it was paid all the same, it is credited"


async def test_a_checkout_that_does_not_fit_its_order_makes_room_and_raises_one_alarm(shop: Shop) -> None:
    oldest, *_ = await six_packs(shop)
    shop.provider.opened[oldest.id] = page(oldest, currency="eur", url=None, outcome=UnpaidReason.EXPIRED)
    with structlog.testing.capture_logs() as lines:
        await buy(shop, "p5")
        for _ in range(3):
            await shop.sell.refresh(oldest)
    assert [line["order"] for line in lines if line["event"] == "payment_alarm"] == [oldest.id]


async def test_no_buyer_is_sent_to_a_checkout_that_does_not_fit_its_order(shop: Shop) -> None:
    first, *_ = await six_packs(shop)
    shop.provider.opened[first.id] = page(first, subtotal_cents=1)
    with structlog.testing.capture_logs() as lines:
        assert (await buy(shop, "p0")).id != first.id
    assert shop.provider.opened[first.id].outcome is UnpaidReason.EXPIRED
    assert [line["order"] for line in lines if line["event"] == "payment_alarm"] == [first.id]


async def test_a_pack_whose_checkout_has_ended_gets_a_new_order(shop: Shop) -> None:
    first, second, *_ = await six_packs(shop)
    shop.provider.opened[first.id] = page(first, outcome=UnpaidReason.EXPIRED, url=None)
    shop.provider.opened[second.id] = page(second, is_paid=True, is_complete=True, url=None)
    assert (await buy(shop, "p0")).id != first.id
    assert (await buy(shop, "p1")).id != second.id
    assert await shop.posted() == PACK.tokens


async def test_orders_without_a_checkout_are_reused_or_make_room(shop: Shop) -> None:
    account = await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    shop.provider.is_away = True
    with pytest.raises(PaymentFailed):
        await buy(shop, PACK.id)
    (orphan,) = await shop.orders.list_for_account(account.id, before=None, rows_max=10)
    shop.provider.is_away = False
    assert (await buy(shop, PACK.id)).id == orphan.id
    for number in range(5):
        other = msgspec.structs.replace(PACK, id=f"q{number}")
        await shop.orders.open(account_id=account.id, pack=other, currency="usd", now_us=NOW_US)
    shop.sell = shop.selling(packs=[msgspec.structs.replace(PACK, id="last")])
    await buy(shop, "last")
    open_orders = [
        order for order in await shop.orders.list_for_account(account.id, before=None, rows_max=10) if order.is_open
    ]
    assert len(open_orders) == 5


async def test_an_order_abandoned_while_its_checkout_is_created_sends_no_buyer_there(shop: Shop) -> None:
    account = await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    open_checkout = shop.provider.open_checkout

    async def abandoned(order: Order, **options: str) -> Checkout:
        await shop.orders.abandon(order.id)
        shop.provider.open_checkout = open_checkout  # type: ignore[method-assign]
        return await open_checkout(order, **options)

    shop.provider.open_checkout = abandoned  # type: ignore[method-assign]
    bought = await buy(shop, PACK.id)
    first = next(
        order
        for order in await shop.orders.list_for_account(account.id, before=None, rows_max=9)
        if order.id != bought.id
    )
    assert shop.provider.opened[first.id].outcome is UnpaidReason.EXPIRED
    assert shop.provider.opened[bought.id].is_open


async def test_a_form_that_led_to_an_open_order_leads_there_again_once_it_is_paid(shop: Shop) -> None:
    order = await shop.order()
    form = Submission(account_id=order.account_id, form="order", form_id="x" * 22)

    async def submit() -> Purchase:
        return await shop.sell.buy(account_id=order.account_id, email="a@x", pack_id=PACK.id, submission=form)

    assert (await submit()).order_id == order.id
    shop.provider.opened[order.id] = page(order, is_paid=True, is_complete=True, url=None)
    await shop.sell.refresh(order)
    again = await submit()
    assert (again.order_id, again.url) == (order.id, None)
    assert len(shop.provider.opened) == 1


async def test_a_burst_of_purchases_asks_the_provider_for_one_checkout(shop: Shop) -> None:
    await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    created = []
    open_checkout = shop.provider.open_checkout

    async def counted(order: Order, **options: str) -> Checkout:
        created.append(order.id)
        await asyncio.sleep(0)
        return await open_checkout(order, **options)

    shop.provider.open_checkout = counted  # type: ignore[method-assign]
    bought = await asyncio.gather(*(buy(shop, PACK.id) for _ in range(50)))
    assert created == [bought[0].id]
    assert {order.id for order in bought} == {bought[0].id}
