"""Buying packs, as a customer without script does, in front of our double of Stripe."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from support.gateways import Running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.shop import KEY, shop
from support.users import join
from support.visitor import Visitor, text_of
from tok0n.demo.stripe_double import StripeDouble
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


async def posted(site: Running, double: StripeDouble) -> int:
    """What the buyer owns once everything was delivered and acted on."""
    await double.told()
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
    assert "purchase +1,000,000 1,000,000" in order
    assert await posted(site, double) == 1_000_000
    receipt = " ".join(text_of(await buyer.get(f"{path}/receipt")).split())
    for words in ("Example Ltd", "1 Example Street", "Tax ID GB1", ADA, "Paid $5.00"):
        assert words in receipt
    assert "Purchase" in (await buyer.get("/dashboard/statement")).text
    assert "Paid" in (await buyer.get("/dashboard/orders")).text
    assert await site.audit_is_clean()


async def test_the_page_tells_the_truth_while_the_money_is_on_its_way(opened: Shop, buyer: Visitor) -> None:
    site, double = opened
    path, page = await buy(buyer, double)
    double.pay(page, later=True)
    assert "Payment received, adding tokens" in (await buyer.get(f"{path}?paid=1")).text
    assert await posted(site, double) == 0
    double.money_came(page)
    assert await posted(site, double) == 1_000_000
    assert "Paid." in (await buyer.get(path)).text


async def test_who_comes_back_without_paying_is_told_so_and_can_still_pay(opened: Shop, buyer: Visitor) -> None:
    _, double = opened
    path, page = await buy(buyer, double)
    shown = (await buyer.get(f"{path}?paid=0")).text
    assert "You left the payment page before you paid" in shown
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
    assert "tokens frozen" in (await buyer.get(path)).text
    assert "$3.75" in (await buyer.get(f"{path}/receipt")).text


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
    assert "for sale here" in (await customer.get("/dashboard/buy")).text
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
