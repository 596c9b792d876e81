"""The pages with two token classes and a retired one, and those of a suspended account, in a real browser."""

import re
from pathlib import Path

import pytest
from playwright.async_api import Browser

from support.browser import LOOKS, Look, tab
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.shop import shop
from support.users import PASSWORD, join
from support.visitor import Visitor
from tok0n.services.operate_accounts import OperateAccounts

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
TITLE = "Premium tokens for the largest models and long contexts"
CLASSES = f"""
[token_classes.premium]
title = "{TITLE}"
[models.big]
upstream = "fake"
upstream_model = "upstream-demo"
max_output_tokens = 1000
token_class = "premium"
[packs.pro]
name = "Pro"
tokens = 2000000
price_usd = "29.00"
token_class = "premium"
"""
PATHS = ("", "/statement", "/statement?class=premium", "/buy", "/orders", "/playground", "/settings", "/settings/close")


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_a_pack_of_a_class_is_bought_and_its_pages_fit_also_while_suspended(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser, look: Look
) -> None:
    async with (
        Mailbox() as mailbox,
        shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox, more=CLASSES) as (site, _),
        tab(browser, site.url, look) as visit,
    ):
        async with Visitor(site.url) as visitor:
            await join(visitor, mailbox, ADA)
            await visitor.post("/dashboard/keys", {"name": "laptop"})
        now_us = site.clock.now_us()
        await site.store.accounts.grant(email=ADA, tokens=5, reason="x", now_us=now_us, token_class="old")
        await visit.go("/")
        await visit.sign_in(ADA, PASSWORD)
        await visit.go("/dashboard/buy")
        await visit.page.get_by_role("button", name="Buy Pro").click()
        await visit.page.get_by_role("button", name="Approve", exact=True).click()
        await visit.page.wait_for_url("**/dashboard/orders/**")
        await visit.page.get_by_text("The tokens are in your account.").wait_for()
        await visit.check()
        assert TITLE in await visit.text()
        await visit.page.locator("main").get_by_role("link", name=re.compile("^(Invoice|Receipt)$")).first.click()
        await visit.page.wait_for_load_state()
        await visit.check()
        assert TITLE in await visit.text()
        for path in PATHS:
            await visit.go(f"/dashboard{path}")
        await visit.go("/dashboard")
        assert f"{TITLE} 2,000,000 available, 0 reserved" in await visit.text()
        operate = OperateAccounts(site.store.accounts, site.clock, corrections=site.store.corrections)
        await operate.suspend(ADA, reason="fraud")
        for path in (*PATHS, "/keys"):
            await visit.go(f"/dashboard{path}")
            assert "This account is suspended." in await visit.text()
        assert await site.audit_is_clean()
