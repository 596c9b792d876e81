"""Double clicks and *Back* in a real browser, with script and without: one thing is created, and its result is seen."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pyotp
import pytest
from playwright.async_api import Browser

from support.api_keys import keys_of
from support.browser import LOOKS, Look, Tab, tab
from support.gateways import Running
from support.http import USAGE_TOTAL
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream, after
from support.shop import shop
from support.users import PASSWORD, join
from support.visitor import Visitor
from tok0n.demo.stripe_double import StripeDouble
from tok0n.domain import api_key

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
GRANT = 100_000
Opened = tuple[Running, StripeDouble, Browser]


@pytest.fixture
async def opened(tmp_path: Path, upstream: ScriptedUpstream, browser: Browser) -> AsyncIterator[Opened]:
    async with (
        Mailbox() as mailbox,
        shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox) as (site, double),
    ):
        async with Visitor(site.url) as visitor:
            await join(visitor, mailbox, ADA)
        await site.store.accounts.grant(email=ADA, tokens=GRANT, reason="x", now_us=site.clock.now_us())
        yield site, double, browser


async def double_click(visit: Tab, label: str) -> None:
    """Press a button twice, as fast as a mouse can."""
    await visit.page.locator("main").get_by_role("button", name=label, exact=True).dblclick(no_wait_after=True)


async def one_key_that_works(site: Running, secret: str) -> None:
    (key,) = await keys_of(site.store.accounts, ADA)
    caller = await site.store.callers.find(api_key.digest(secret), now_us=site.clock.now_us())
    assert caller is not None
    assert caller.api_key_id == key.id


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_a_double_click_creates_one_key_and_its_secret_is_visible(opened: Opened, look: Look) -> None:
    site, _, browser = opened
    async with tab(browser, site.url, look) as visit:
        await visit.sign_in(ADA, PASSWORD)
        await visit.go("/dashboard/keys")
        await visit.fill(name="laptop")
        await double_click(visit, "Create key")
        await visit.page.locator("#secret").wait_for()
        await visit.page.wait_for_load_state()
        await visit.check()
        await one_key_that_works(site, await visit.text("#secret"))


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_the_page_of_a_created_key_shows_it_after_a_reload_and_after_back(opened: Opened, look: Look) -> None:
    site, _, browser = opened
    async with tab(browser, site.url, look) as visit:
        await visit.sign_in(ADA, PASSWORD)
        await visit.go("/dashboard/keys")
        await visit.fill(name="laptop")
        await visit.press("Create key")
        secret = await visit.text("#secret")
        await visit.page.reload()
        assert await visit.text("#secret") == secret
        await visit.check()
        await visit.go("/dashboard")
        await visit.page.go_back()
        assert await visit.text("#secret") == secret, "*Back* needs no form data that the browser has dropped"
        await visit.check()
        await one_key_that_works(site, secret)
        await visit.page.go_back()
        await visit.fill(name="phone")
        await visit.press("Create key")
        assert await visit.text("#secret") != secret, "a form that is shown anew creates another key"
        assert len(await keys_of(site.store.accounts, ADA)) == 2


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_the_page_of_recovery_codes_shows_them_after_a_reload_and_after_back(opened: Opened, look: Look) -> None:
    site, _, browser = opened
    async with tab(browser, site.url, look) as visit:
        await visit.sign_in(ADA, PASSWORD)
        await visit.go("/dashboard/settings/second-factor")
        await visit.fill(code=pyotp.TOTP(await visit.text(".secret")).now(), password=PASSWORD)
        await visit.press("Turn on")
        codes = await visit.text("#codes")
        assert len(codes.split()) == 10
        await visit.page.reload()
        assert await visit.text("#codes") == codes
        await visit.follow("I've saved them")
        await visit.page.go_back()
        assert await visit.text("#codes") == codes, "*Back* needs no form data that the browser has dropped"
        await visit.check()


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_a_double_click_on_buy_leads_to_one_checkout(opened: Opened, look: Look) -> None:
    site, double, browser = opened
    async with tab(browser, site.url, look) as visit:
        await visit.sign_in(ADA, PASSWORD)
        await visit.go("/dashboard/buy")
        await double_click(visit, "Buy Starter $5.00" if look.script else "Buy Starter")
        await visit.page.get_by_role("heading", name="Simulated payment").wait_for()
        (session,) = double.sessions.values()
        await visit.page.wait_for_url(session["url"])
        await visit.go("/dashboard/buy")
        await visit.page.get_by_role("button", name="Buy Starter").click()
        await visit.page.wait_for_url(session["url"])
        assert len(double.sessions) == 1


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_a_double_click_in_the_playground_is_charged_once_and_its_answer_is_seen(
    opened: Opened, look: Look, upstream: ScriptedUpstream
) -> None:
    site, _, browser = opened
    may_answer = asyncio.Event()
    upstream.behaviour = after(may_answer, upstream.behaviour)
    async with tab(browser, site.url, look) as visit:
        await visit.sign_in(ADA, PASSWORD)
        await visit.go("/dashboard/keys")
        await visit.fill(name="laptop")
        await visit.press("Create key")
        await visit.go("/dashboard/playground")
        await visit.fill(user="Hello!", limit="50")
        await double_click(visit, "Send")
        await upstream.until(lambda: bool(upstream.requests))
        may_answer.set()
        await visit.page.locator("dl.bill").first.wait_for()
        await visit.check()
        assert "Hello." in await visit.text(".answer")
        assert len(upstream.requests) == 1
        assert (await site.store.accounts.get(ADA)).balance.posted == GRANT - USAGE_TOTAL
        await visit.fill(user="Hello again!")
        await visit.page.get_by_role("button", name="Send", exact=True).click()
        await upstream.until(lambda: len(upstream.requests) == 2)
