"""The official SDK against our double of Stripe, over HTTP: what the demo and every test of payments stand on."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from support.http import request
from support.ledgers import Opened, open_engine, outcome
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql.repositories.documents import SqlDocuments
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.inbox import SqlInbox
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.stripe import StripePayments
from tok0n.demo.stripe_double import StripeDouble
from tok0n.domain.errors import CheckoutGone, PaymentFailed
from tok0n.domain.orders import Order
from tok0n.domain.packs import Pack
from tok0n.http.asgi import AsgiBridge
from tok0n.http.server import HttpServer, bind
from tok0n.services.payments import SellPacks
from tok0n.web.stripe_webhook import RejectedWebhooks, stripe_route

pytestmark = pytest.mark.anyio

KEY, SECRET = "sk_test_double", "whsec_of_the_double"
PACK = Pack(id="starter", name="Starter", tokens=1_000, price_usd_cents=500)
EMAIL = "a@example.com"


class Shop:
    """A webhook and the use cases behind it, in front of a double."""

    def __init__(
        self, db: Opened, double: StripeDouble, url: str, *, key: str = KEY, automatic_tax: bool = False
    ) -> None:
        self.db = db
        self.double = double
        self.orders = SqlOrders(db.store)
        self.inbox = SqlInbox(db.store)
        self.payments = StripePayments(
            secret_key=key,
            webhook_secret=SECRET,
            automatic_tax=automatic_tax,
            promotion_codes=False,
            api_base=url,
            events_at_once=2,
        )
        self.sell = SellPacks(
            packs={PACK.id: PACK},
            orders=self.orders,
            payments=self.payments,
            inbox=self.inbox,
            forms=SqlForms(db.store),
            clock=SystemClock(),
            url_of=lambda path: f"http://shop.example{path}",
        )
        self.refusals = RejectedWebhooks()
        self.app = Starlette(routes=[stripe_route(self.sell, self.refusals)])
        self.url = ""

    async def order(self) -> Order:
        account = await self.db.accounts.get(EMAIL)
        await self.sell.buy(account_id=account.id, email=EMAIL, pack_id=PACK.id)
        return (await self.orders.list_for_account(account.id, before=None, rows_max=1))[0]

    async def posted(self) -> int:
        """What the account owns once every webhook was delivered and acted on."""
        await self.double.wait_until_delivered()
        await self.sell.handle_all()
        return (await self.db.accounts.get(EMAIL)).balance.posted

    async def send(self, payload: bytes, signature: str | None) -> int:
        headers = {} if signature is None else {"stripe-signature": signature}
        return (await request(self.url, "POST", "/webhooks/stripe", payload, headers)).status


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    double = StripeDouble(secret_key=KEY, webhook_secret=SECRET)
    async with (
        open_engine("sqlite", tmp_path) as db,
        HttpServer(AsgiBridge(double.app), bind("127.0.0.1", 0), shutdown_seconds=5) as stripe,
    ):
        double.url = stripe.url
        await db.accounts.create(email=EMAIL, tokens=0, now_us=1)
        shop = Shop(db, double, stripe.url)
        async with HttpServer(AsgiBridge(shop.app), bind("127.0.0.1", 0), shutdown_seconds=5) as server:
            shop.url = server.url
            double.webhook_url = f"{server.url}/webhooks/stripe"
            yield shop
            await double.aclose()


def checkout_of(order: Order) -> str:
    assert order.checkout_id is not None
    return order.checkout_id


async def test_a_pack_is_bought_refunded_in_part_and_disputed(shop: Shop) -> None:
    order = await shop.order()
    shop.double.pay(checkout_of(order))
    assert await shop.posted() == 1_000
    await shop.sell.refund(order.id, cents=125)
    assert await shop.posted() == 750
    payment_id = (await shop.orders.get(order.id)).payment_id
    assert payment_id is not None
    shop.double.dispute(payment_id, status="needs_response", cents=500)
    assert await shop.posted() == 0
    shop.double.dispute(payment_id, status="won", cents=500)
    assert await shop.posted() == 750
    assert (await shop.db.ledger.audit()).ok


async def test_money_that_comes_later_gives_tokens_later(shop: Shop) -> None:
    order = await shop.order()
    shop.double.pay(checkout_of(order), later=True)
    assert await shop.posted() == 0
    shop.double.succeed_later(checkout_of(order))
    assert await shop.posted() == 1_000


async def test_money_that_does_not_come_gives_no_tokens(shop: Shop) -> None:
    order = await shop.order()
    shop.double.pay(checkout_of(order), later=True)
    shop.double.send_event("checkout.session.async_payment_failed", shop.double.sessions[checkout_of(order)])
    assert await shop.posted() == 0
    assert (await shop.orders.get(order.id)).payment.outcome == "failed"


async def test_a_buyer_who_is_back_before_the_webhook_has_the_tokens(shop: Shop) -> None:
    shop.double.webhook_url = None
    order = await shop.order()
    assert (await shop.sell.refresh(order))[0].applied.purchase == 0
    shop.double.pay(checkout_of(order))
    assert (await shop.sell.refresh(order))[0].applied.purchase == 1_000


async def test_what_webhooks_missed_is_reconciled_page_by_page(shop: Shop) -> None:
    shop.double.webhook_url = None
    for _ in range(5):
        shop.double.pay(checkout_of(await shop.order()))
    assert await shop.sell.reconcile() == 5
    assert await shop.posted() == 5_000
    assert await shop.sell.reconcile() == 0


async def test_the_same_webhook_a_hundred_times_at_once_credits_once(shop: Shop) -> None:
    shop.double.webhook_url = None
    order = await shop.order()
    shop.double.pay(checkout_of(order))
    payload = json.dumps(shop.double.events[-1]).encode()
    statuses = await asyncio.gather(*(shop.send(payload, shop.double.sign(payload)) for _ in range(100)))
    assert set(statuses) == {200}
    assert await shop.posted() == 1_000


async def test_what_is_not_signed_as_it_should_be_is_not_kept(shop: Shop) -> None:
    shop.double.webhook_url = None
    shop.double.pay(checkout_of(await shop.order()))
    payload = json.dumps(shop.double.events[-1]).encode()
    now = int(time.time())
    good = shop.double.sign(payload)
    bad = [
        None,
        "",
        "t=1",
        good.replace("v1=", "v1=0"),
        shop.double.sign(payload + b" "),
        shop.double.sign(payload, at=now - 301),
        shop.double.sign(payload, at=now + 310),
        shop.double.sign(payload, secret="whsec_of_another"),
        shop.double.sign(payload, secret=""),
        good + "0",
        "garbage",
    ]
    for signature in bad:
        assert await shop.send(payload, signature) == 400, signature
    assert await shop.send(b"\xff\xfe", shop.double.sign(b"\xff\xfe")) == 400
    assert await shop.send(b"{}", shop.double.sign(b"{}")) == 400
    assert await shop.send(b"x" * 2_000_000, good) == 413
    assert shop.refusals.count == len(bad) + 2
    assert await shop.inbox.last_reconciled_us() is None
    assert await shop.send(payload, good) == 200


async def test_refunds_at_once_never_give_back_more_than_was_paid(shop: Shop) -> None:
    order = await shop.order()
    shop.double.pay(checkout_of(order))
    await shop.posted()
    tries = [outcome(shop.sell.refund(order.id, cents=cents)) for cents in (300, 301, 302, 300)]
    results = await asyncio.gather(*tries)
    assert sorted(type(result).__name__ for result in results) in (
        ["PaymentFailed", "PaymentFailed", "PaymentFailed", "int"],
        ["PaymentFailed", "PaymentFailed", "int", "int"],
    ), "the same refund, named alike, is made once"
    assert await shop.posted() in {400, 398, 396}
    assert (await shop.orders.get(order.id)).payment.refunded_cents in {300, 301, 302}


async def test_the_checkout_of_an_order_is_the_same_until_what_it_says_changes(shop: Shop) -> None:
    order = await shop.order()
    pages = [
        await shop.payments.open_checkout(order, email=email, success_url="http://a", cancel_url="http://b")
        for email in (EMAIL, EMAIL, "b@example.com", "b@example.com")
    ]
    assert [pages.index(page) for page in pages] == [0, 0, 2, 2]


async def test_a_checkout_is_expired_only_while_it_is_open(shop: Shop) -> None:
    order = await shop.order()
    expired = await shop.payments.expire_checkout(checkout_of(order))
    assert (expired.outcome, expired.url, expired.is_open) == ("expired", None, False)
    assert await shop.payments.expire_checkout(checkout_of(order)) == expired
    other = await shop.order()
    shop.double.pay(checkout_of(other))
    assert (await shop.payments.expire_checkout(checkout_of(other))).is_paid
    with pytest.raises(CheckoutGone):
        await shop.payments.expire_checkout("cs_none")
    with pytest.raises(CheckoutGone):
        await shop.payments.checkout("cs_none")


async def test_a_key_that_stripe_refuses_is_a_failure_and_no_secret_is_told(shop: Shop) -> None:
    wrong = Shop(shop.db, shop.double, shop.double.url, key="sk_test_wrong_secret")
    with pytest.raises(PaymentFailed) as failed:
        await wrong.order()
    assert "AuthenticationError" in failed.value.detail
    assert "wrong_secret" not in failed.value.detail + failed.value.message


async def test_the_tax_that_stripe_computes_is_a_fact_of_the_payment_and_a_line_of_the_document(shop: Shop) -> None:
    shop.double.tax_percent = 19
    taxed = Shop(shop.db, shop.double, shop.double.url, automatic_tax=True)
    order = await taxed.order()
    assert shop.double.sessions[checkout_of(order)]["amount_total"] == 595
    shop.double.pay(checkout_of(order))
    assert await taxed.posted() == 1_000
    payment = (await shop.orders.get(order.id)).payment
    assert (payment.paid_cents, payment.tax_cents) == (595, 95)
    documents = SqlDocuments(shop.db.store)
    (receipt,) = await documents.list_for_order(account_id=order.account_id, order_id=order.id)
    assert [(amount.label, amount.cents) for amount in receipt.amounts] == [("Tax", 95)]


async def test_the_reason_of_a_declined_card_is_read_from_the_expanded_payment_intent(shop: Shop) -> None:
    order = await shop.order()
    assert (await shop.payments.checkout(checkout_of(order))).decline_code is None
    shop.double.decline(checkout_of(order), decline_code="insufficient_funds")
    checkout = await shop.payments.checkout(checkout_of(order))
    assert (checkout.decline_code, checkout.is_open) == ("insufficient_funds", True)
    assert await shop.posted() == 0, "the event payment_intent.payment_failed says the same"
    assert (await shop.orders.get(order.id)).payment.decline_code == "insufficient_funds"
    shop.double.pay(checkout_of(order))
    assert await shop.posted() == 1_000
    assert (await shop.payments.checkout(checkout_of(order))).decline_code is None


async def test_a_failed_payment_of_another_application_is_ignored(shop: Shop) -> None:
    intent = {"object": "payment_intent", "id": "pi_x", "metadata": {}, "last_payment_error": {"code": "card_declined"}}
    shop.double.send_event("payment_intent.payment_failed", intent | {"currency": "usd", "livemode": False})
    assert await shop.posted() == 0
    assert await shop.inbox.unhandled(now_us=2**62, rows_max=9) == []
