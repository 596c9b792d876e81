"""Buying a pack in a real browser, with the simulated Stripe of the demo: approve, decline, delay."""

from pathlib import Path

import pytest
from playwright.async_api import Browser

from support.browser import LOOKS, Look, Tab, tab
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.shop import shop
from support.users import PASSWORD, join
from support.visitor import Visitor

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_a_pack_is_declined_then_approved_then_one_is_delayed(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser, look: Look
) -> None:
    async with (
        Mailbox() as mailbox,
        shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox) as (site, _),
        tab(browser, site.url, look) as visit,
    ):
        async with Visitor(site.url) as visitor:
            await join(visitor, mailbox, ADA)
        await visit.sign_in(ADA, PASSWORD)
        await visit.go("/dashboard/buy")

        await visit.check()
        await choose(visit, "Decline: no funds")
        await visit.page.get_by_text("Your card was declined. The card doesn't have enough funds.").wait_for()
        await visit.check()

        await visit.go("/dashboard/buy")
        await visit.page.get_by_label("Quantity of Scale").fill("2")
        if look.script:
            assert "Buy Scale $200.00" in await visit.text()
        await visit.page.get_by_text("Billing details").click()
        await visit.fill(**{"billing-name": "Ada " + "Lovelace" * 11, "billing-address": "1 Row\nLondon"})
        await visit.check()
        await visit.page.get_by_label("Tax ID").press("Enter")
        await visit.page.get_by_text("Billing details saved.").wait_for()
        await visit.check()
        await choose(visit, "Expire")
        await visit.page.get_by_text("This order expired.").wait_for()
        await visit.check()

        await visit.go("/dashboard/buy")
        await choose(visit, "Approve")
        await visit.page.get_by_text("The tokens are in your account.").wait_for()
        await visit.check()
        await visit.page.get_by_role("link", name="Invoice", exact=True).click()
        await visit.page.wait_for_url("**/documents/**")
        assert "LovelaceLovelace" in await visit.text()
        assert "$5.00" in await visit.text()
        await visit.check()
        await visit.page.emulate_media(media="print")
        assert not await visit.page.get_by_role("navigation").first.is_visible()
        assert await visit.page.get_by_role("article").is_visible()
        await visit.page.emulate_media(media="screen")
        await visit.go("/dashboard")
        assert "1,000,000 tokens you can use now" in await visit.text()

        await visit.go("/dashboard/buy")
        await choose(visit, "Approve, but later")
        await visit.page.get_by_text("Payment pending.").wait_for()
        await visit.check()
        if look.script:
            await visit.page.get_by_text("The tokens are in your account.").wait_for()
            await visit.check()
            await visit.go("/dashboard")
            assert "2,000,000 tokens you can use now" in await visit.text()
        await visit.go("/dashboard/orders")
        assert await site.audit_is_clean()


async def choose(visit: Tab, label: str) -> None:
    """Buy the first pack, and press a button of the simulated Stripe."""
    await visit.page.get_by_role("button", name="Buy Starter").click()
    await visit.page.get_by_role("heading", name="Simulated payment").wait_for()
    assert "No money moves" in await visit.text()
    await visit.page.get_by_role("button", name=label, exact=True).click()
    await visit.page.wait_for_url("**/dashboard/orders/**")
