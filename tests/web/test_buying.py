"""Buying packs, as a customer without script does, in front of our double of Stripe."""

import asyncio
import functools
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import sqlalchemy as sa

from support.api_keys import keys_of
from support.gateways import Running
from support.http import chat, chat_body
from support.mailbox import Mailbox
from support.pages import create_key
from support.scripted_upstream import ScriptedUpstream
from support.shop import KEY, shop
from support.users import join
from support.visitor import Visitor, text_of
from tok0n.demo.stripe_double import StripeDouble
from tok0n.domain.billing import BillingDetails
from tok0n.domain.documents import Issuer, Seller
from tok0n.services.redeem_codes import create_code

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
Shop = tuple[Running, StripeDouble]


@pytest.fixture
async def opened(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Shop]:
    async with shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox) as opened:
        yield opened


@pytest.fixture
async def buyer(opened: Shop, mailbox: Mailbox) -> AsyncIterator[Visitor]:
    async with Visitor(opened[0].url) as buyer:
        await join(buyer, mailbox, ADA)
        yield buyer


async def buy(buyer: Visitor, double: StripeDouble, pack: str = "starter") -> tuple[str, str]:
    """Order a pack; gives the path of the order and the provider's page of it."""
    answer = await buyer.post("/dashboard/buy", {"pack": pack})
    assert answer.headers["location"].startswith(f"{double.url}/pay/cs_"), text_of(answer)
    page = answer.headers["location"].rpartition("/")[2]
    order = re.findall(r"/dashboard/orders/(ord_\w+)", (await buyer.get("/dashboard/orders")).text)[0]
    return f"/dashboard/orders/{order}", page


def words_of(answer: httpx.Response) -> str:
    """The text of a page with single spaces."""
    return " ".join(text_of(answer).split())


async def posted(site: Running, double: StripeDouble) -> int:
    """What the buyer owns once everything was delivered and acted on."""
    await double.wait_until_delivered()
    assert site.sell_packs is not None
    await site.sell_packs.handle_all()
    return (await site.store.accounts.get(ADA)).balance.posted


async def test_a_pack_is_bought_and_everything_says_so(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    shown = await buyer.get("/dashboard/buy")
    assert "Starter $5.00 1,000,000 tokens" in " ".join(text_of(shown).split())
    assert f"form-action 'self' {double.url};" in shown.headers["content-security-policy"]
    path, page = await buy(buyer, double)
    assert "Awaiting payment" in (await buyer.get(path)).text
    assert (await buyer.get(f"{path}/receipt")).status_code == 404
    double.pay(page)
    order = " ".join(text_of(await buyer.get(f"{path}?paid=1")).split())
    assert "Paid. The tokens are in your account." in order
    assert "Purchase +1,000,000 1,000,000" in order
    assert await posted(site, double) == 1_000_000
    issued = await buyer.get(f"{path}/receipt")
    assert re.fullmatch(rf"{path}/documents/INV-\d{{4}}-000001", issued.headers["location"])
    invoice = " ".join(text_of(await buyer.get(issued.headers["location"])).split())
    for words in (
        "Invoice INV-",
        "Example Ltd",
        "1 Example Street",
        "Tax ID GB1",
        ADA,
        "Paid (USD) $5.00",
        "Test mode",
    ):
        assert words in invoice
    assert "INV-" in (await buyer.get("/dashboard/orders")).text
    assert "Purchase" in (await buyer.get("/dashboard/statement")).text
    assert "Paid" in (await buyer.get("/dashboard/orders")).text
    assert await site.audit_is_clean()


async def test_the_page_tells_the_truth_while_the_money_is_on_its_way(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    path, page = await buy(buyer, double)
    double.pay(page, later=True)
    assert "Payment pending. Your bank is still processing the payment." in words_of(await buyer.get(f"{path}?paid=1"))
    assert await posted(site, double) == 0
    double.succeed_later(page)
    assert await posted(site, double) == 1_000_000
    assert "Paid." in (await buyer.get(path)).text


async def test_who_comes_back_without_paying_is_told_so_and_can_still_pay(opened: Shop, buyer: Visitor) -> None:
    _, double = opened
    path, page = await buy(buyer, double)
    answer = await buyer.get(f"{path}?paid=0")
    assert "You left the payment page before you paid. You weren't charged." in words_of(answer)
    shown = answer.text
    assert f"/pay/{page}" in shown


async def test_a_refund_and_a_dispute_show_on_the_order(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    path, page = await buy(buyer, double)
    double.pay(page)
    await posted(site, double)
    order = await site.store.orders.get(path.rpartition("/")[2])
    assert order.payment_id is not None
    assert site.sell_packs is not None
    await site.sell_packs.refund(order.id, cents=125)
    assert await posted(site, double) == 750_000
    assert "Partially refunded" in (await buyer.get(path)).text
    double.dispute(order.payment_id, status="needs_response", cents=500)
    assert await posted(site, double) == 0
    shown = await buyer.get(path)
    assert "Its tokens are frozen" in shown.text
    (note,) = set(re.findall(rf'{path}/documents/CN-[^"]*', shown.text))
    credit = words_of(await buyer.get(note))
    assert "Refund of INV-" in credit
    assert "Refunded (USD) $1.25" in credit


async def test_nobody_sees_the_orders_of_another(opened: Shop, buyer: Visitor, mailbox: Mailbox) -> None:
    site, double = opened
    path, page = await buy(buyer, double)
    double.pay(page)
    await posted(site, double)
    async with Visitor(site.url) as stranger:
        await join(stranger, mailbox, "eve@example.com")
        for hidden in (path, f"{path}/receipt"):
            assert (await stranger.get(hidden)).status_code == 404
        assert path not in (await stranger.get("/dashboard/orders")).text


async def test_a_pack_that_is_not_sold_and_a_stripe_that_is_away_are_told(
    opened: Shop, buyer: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, double = opened
    gone = await buyer.post("/dashboard/buy", {"pack": "gone"})
    assert (gone.status_code, "no longer sold" in gone.text) == (422, True)
    path, _ = await buy(buyer, double)
    monkeypatch.setattr(double, "_secret_key", "changed")
    away = await buyer.post("/dashboard/buy", {"pack": "starter"})
    assert (away.status_code, "nothing was paid" in away.text) == (422, True)
    assert "reach Stripe right now" in (await buyer.get(path)).text


async def test_a_code_is_redeemed_however_it_is_typed_and_cannot_be_guessed_for_long(
    opened: Shop, buyer: Visitor
) -> None:
    site, _ = opened
    code = await create_code(site.store.orders, site.clock, tokens=500, uses_max=5, days=1, reason="trial")
    answer = await buyer.post(
        "/dashboard/redeem", {"code": f" {code.lower().replace('-', ' ')} "}, page="/dashboard/buy"
    )
    assert "We added 500 tokens to your account" in answer.text
    again = await buyer.post("/dashboard/redeem", {"code": code}, page="/dashboard/buy")
    assert "already redeemed this code" in again.text
    for _ in range(10):
        wrong = await buyer.post("/dashboard/redeem", {"code": "AAAA-BBBB-CCCC-DDDD"}, page="/dashboard/buy")
    assert "Too many attempts" in wrong.text
    assert (await site.store.accounts.get(ADA)).balance.posted == 500


async def test_where_nothing_is_sold_codes_can_still_be_redeemed(site: Running, customer: Visitor) -> None:
    code = await create_code(site.store.orders, site.clock, tokens=500, uses_max=1, days=None, reason="x")
    assert "Tokens on this service are granted, not sold." in (await customer.get("/dashboard/buy")).text
    answer = await customer.post("/dashboard/redeem", {"code": code}, page="/dashboard/buy")
    assert "500 tokens" in answer.text
    refused = await customer.post_raw("/webhooks/stripe", {})
    assert refused.status_code == 404


async def test_a_checkout_that_has_expired_leaves_the_list_and_its_pack_can_be_bought_again(
    opened: Shop, buyer: Visitor
) -> None:
    site, double = opened
    path, page = await buy(buyer, double)
    assert site.sell_packs is not None
    await asyncio.to_thread(expire_at_stripe, double, page)
    await posted(site, double)
    assert path not in (await buyer.get("/dashboard/orders")).text
    assert "Expired" in (await buyer.get(path)).text
    again, _ = await buy(buyer, double)
    assert again != path


def expire_at_stripe(double: StripeDouble, checkout_id: str) -> None:
    """What Stripe does after a day."""
    url = f"{double.url}/v1/checkout/sessions/{checkout_id}/expire"
    with httpx.Client(headers={"authorization": f"Bearer {KEY}"}) as client:
        assert client.post(url).json()["status"] == "expired"
        assert client.post(url).status_code == 400, "only an open one can be expired"
        assert client.post(url.replace(checkout_id, "cs_none")).json()["error"]["code"] == "resource_missing"
        assert client.get(f"{double.url}/pay/{checkout_id}").status_code == 410


async def test_a_declined_card_is_reported_with_its_reason_and_another_can_pay(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    path, page = await buy(buyer, double)
    double.decline(page, decline_code="insufficient_funds")
    answer = await buyer.get(f"{path}?paid=0")
    assert "Your card was declined. The card doesn't have enough funds. You weren't charged." in words_of(answer)
    assert "You left the payment page" not in answer.text
    assert f"/pay/{page}" in answer.text
    double.decline(page, decline_code="do_not_honor")
    assert "Your bank didn't say why." in words_of(await buyer.get(f"{path}?paid=0"))
    double.pay(page)
    assert await posted(site, double) == 1_000_000
    shown = words_of(await buyer.get(path))
    assert "Paid. The tokens are in your account." in shown
    assert "declined" not in shown


async def test_a_delayed_payment_that_fails_and_an_expired_one_are_different(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    path, page = await buy(buyer, double)
    double.pay(page, later=True)
    await posted(site, double)
    double.fail_later(page)
    assert await posted(site, double) == 0
    failed = await buyer.get(path)
    assert "Payment failed. Your bank didn't complete the payment. You weren't charged." in words_of(failed)
    assert "Buy again" in failed.text
    path, page = await buy(buyer, double)
    double.expire(page)
    await posted(site, double)
    expired = words_of(await buyer.get(path))
    assert "This order expired. The time to pay for this order has passed. You weren't charged." in expired


async def test_quantity_and_billing_details_are_on_the_order_and_its_invoice(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    billing = {"name": "Ada Lovelace", "company": "Engines Ltd", "address": "1 Row\r\nLondon", "country": "UK"}
    fields = {f"billing-{name}": value for name, value in billing.items()} | {"billing-tax_id": "GB 7"}
    answer = await buyer.post("/dashboard/buy", fields | {"pack": "starter", "quantity-starter": "3"})
    page = answer.headers["location"].rpartition("/")[2]
    assert double.sessions[page]["amount_total"] == 1_500
    again = await buyer.post("/dashboard/buy", {"pack": "starter", "quantity-starter": "3"})
    assert again.headers["location"].endswith(page), "the same pack and quantity lead to the open checkout"
    other = await buyer.post("/dashboard/buy", {"pack": "starter", "quantity-starter": "2"})
    assert not other.headers["location"].endswith(page)
    double.pay(page)
    assert await posted(site, double) == 3_000_000
    path = double.sessions[page]["success_url"].removeprefix(site.url).partition("?")[0]
    location = (await buyer.get(f"{path}/receipt")).headers["location"]
    invoice = words_of(await buyer.get(location))
    for words in ("Ada Lovelace", "Engines Ltd", "1 Row", "London", "UK", "GB 7", "3 \u00d7 $5.00", "$15.00"):
        assert words in invoice
    for quantity in ("0", "101", "many"):
        wrong = await buyer.post("/dashboard/buy", {"pack": "starter", "quantity-starter": quantity})
        assert (wrong.status_code, "whole number from 1" in wrong.text) == (422, True), quantity
    too_long = await buyer.post("/dashboard/buy", fields | {"billing-name": "x" * 101, "save": "1"})
    assert (too_long.status_code, "at most 100 characters" in too_long.text) == (422, True)
    saved = await buyer.post("/dashboard/buy", fields | {"billing-name": "Augusta", "save": "1"})
    assert saved.headers["location"] == "/dashboard/buy?saved=1#billing"
    shown = await buyer.get("/dashboard/buy?saved=1")
    assert "Billing details saved." in shown.text
    assert 'value="Augusta"' in shown.text


async def test_a_key_shows_what_its_requests_cost_ever_and_this_month(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    secret = await create_key(buyer)
    (key,) = await keys_of(site.store.accounts, ADA)
    await site.store.accounts.grant(email=ADA, tokens=1_000, reason="x", now_us=site.clock.now_us())
    assert (await chat(site.base_url, secret, chat_body())).status == 200
    for path in ("/dashboard/keys", f"/dashboard/keys/{key.id}"):
        assert "$" not in words_of(await buyer.get(path)), "granted tokens have no price"
    _, page = await buy(buyer, double, "scale")
    double.pay(page)
    await posted(site, double)
    await site.store.accounts.grant(email=ADA, tokens=-988, reason="x", now_us=site.clock.now_us())
    assert "12 $0.00 12 $0.00" in words_of(await buyer.get("/dashboard/keys"))
    assert (await chat(site.base_url, secret, chat_body())).status == 200
    assert "24 <$0.0001 24 <$0.0001" in words_of(await buyer.get("/dashboard/keys"))
    detail = words_of(await buyer.get(f"/dashboard/keys/{key.id}"))
    assert "Spent 24 tokens, <$0.0001" in detail
    assert "This month 24 tokens, <$0.0001" in detail
    usage = words_of(await buyer.get("/dashboard/usage"))
    assert "Cost <$0.0001 $2.00 per million tokens none in the period before" in usage, (
        "half of the tokens were granted"
    )
    assert "Cost" not in words_of(await buyer.get("/dashboard/usage?model=demo")), "a part of the use has no exact cost"


async def test_the_settings_change_the_billing_details_as_the_buy_page_does(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    assert 'id="billing"' in (await buyer.get("/dashboard/settings")).text
    fields = {f"billing-{name}": "" for name in BillingDetails.__struct_fields__} | {"change": "billing"}
    wrong = await buyer.post("/dashboard/settings", fields | {"billing-tax_id": "x" * 101, "billing-name": "Ada"})
    assert (wrong.status_code, "at most 100 characters" in wrong.text) == (422, True)
    assert 'value="Ada"' in wrong.text, "the form keeps what the user entered"
    assert 'id="billing-tax_id-error"' in wrong.text
    six_lines = await buyer.post("/dashboard/settings", fields | {"billing-address": "\n".join("abcdef")})
    assert (six_lines.status_code, "at most 5 lines" in six_lines.text) == (422, True)
    saved = await buyer.post("/dashboard/settings", fields | {"billing-name": " Ada ", "billing-address": "1 Row\n\nX"})
    assert (saved.status_code, saved.headers["location"]) == (303, "/dashboard/settings#billing")
    assert "Billing details saved." in (await buyer.get("/dashboard/settings")).text
    assert "Billing details saved." not in (await buyer.get("/dashboard/settings")).text
    assert 'value="Ada"' in (await buyer.get("/dashboard/buy")).text
    path, page = await buy(buyer, double)
    double.pay(page)
    await posted(site, double)
    document = await buyer.get((await buyer.get(f"{path}/receipt")).headers["location"])
    assert "Ada 1 Row X" in words_of(document)
    for shown in (document, await buyer.get("/dashboard/orders")):
        assert "/dashboard/settings#billing" in shown.text


async def test_a_document_stays_the_same_to_the_byte_when_everything_about_buyer_and_seller_changes(
    opened: Shop, buyer: Visitor
) -> None:
    site, double = opened
    path, page = await buy(buyer, double)
    double.pay(page)
    await posted(site, double)
    location = (await buyer.get(f"{path}/receipt")).headers["location"]
    before = article_of(await buyer.get(location))
    assert ADA in before
    assert site.sell_packs is not None
    site.sell_packs._issuer = Issuer(seller=Seller(name="Other Inc"), class_titles={"standard": "Other"})
    billing = {f"billing-{name}": "New" for name in BillingDetails.__struct_fields__}
    assert (await buyer.post("/dashboard/buy", billing | {"save": "1"})).status_code == 303
    for statement in (
        f"UPDATE account SET email = 'countess@example.com' WHERE email = '{ADA}'",
        "UPDATE users SET email = 'countess@example.com', time_zone = 'Asia/Kolkata' WHERE email = 'ada@example.com'",
        "UPDATE pack_order SET pack_name = 'Other', billing = NULL, quantity = 7, refunded_cents = 100, tax_cents = 1",
    ):
        await site.store.database.write(functools.partial(run, statement))
    shown = await buyer.get(location)
    assert "countess@example.com" in shown.text, "the rest of the page changes"
    assert article_of(shown) == before


def run(statement: str, tx: sa.Connection) -> None:
    tx.exec_driver_sql(statement)


def article_of(answer: httpx.Response) -> str:
    """The document on its page."""
    return answer.text[answer.text.index("<article") : answer.text.index("</article>")]


async def test_an_order_that_was_paid_before_documents_gets_one_when_it_is_viewed(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    path, page = await buy(buyer, double)
    double.pay(page)
    await posted(site, double)
    order = await site.store.orders.get(path.rpartition("/")[2])
    for statement in ("DROP TRIGGER document_is_never_deleted", "DELETE FROM document", "DELETE FROM document_series"):
        await site.store.database.write(functools.partial(run, statement))
    assert "Receipt" in (await buyer.get("/dashboard/orders")).text
    first = (await buyer.get(f"{path}/receipt")).headers["location"]
    assert (await buyer.get(f"{path}/receipt")).headers["location"] == first
    assert (await buyer.get(first)).status_code == 200
    assert order.payment.paid_cents == 500
