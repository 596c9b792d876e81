"""A newcomer gets from the landing page to the first billed request in six acts, without an error on the way.

The acts: sign up, open the emailed link, get tokens, create an API key, run the code on its page, see the receipt. The
password is typed once.
"""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, Response

from support.browser import LOOKS, WIDE, Look, Tab, tab
from support.example_code import OURS, run
from support.gateways import Running, running
from support.http import USAGE_TOTAL
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream, status
from support.shop import shop
from support.users import PASSWORD, mail_settings

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
WELCOME = 50_000


@contextlib.asynccontextmanager
async def newcomer(browser: Browser, site: Running, look: Look) -> AsyncIterator[Tab]:
    """Open a window with no history. At the end, no response was an error."""
    errors: list[str] = []

    def check(response: Response) -> None:
        if response.status >= 400:
            errors.append(f"{response.status} {response.url}")

    async with tab(browser, site.url, look) as visit:
        visit.page.context.on("response", check)
        yield visit
        assert errors == []


async def sign_up(visit: Tab, mailbox: Mailbox) -> None:
    """Acts 1 and 2. The dashboard opens at once."""
    await visit.go("/")
    await visit.follow("Sign up")
    await visit.fill(email=ADA, password=PASSWORD)
    await visit.press("Sign up")
    assert "Check your email" in await visit.text()
    await visit.go(await mailbox.take_link(ADA))
    assert visit.page.url.endswith("/dashboard")
    assert await visit.page.locator("input[type=password]").count() == 0
    assert await visit.page.get_by_role("heading", name="Get started").is_visible()


async def buy(visit: Tab) -> None:
    """Act 3, in a shop."""
    await visit.follow("Buy tokens")
    await visit.page.get_by_role("button", name="Buy Starter").click()
    await visit.page.get_by_role("button", name="Approve", exact=True).click()
    await visit.page.get_by_text("The tokens are in your account.").wait_for()
    await visit.check()


async def create_key(visit: Tab) -> str:
    """Act 4. Return the Python program on the key's page."""
    await visit.go("/dashboard")
    await visit.follow("Create key")
    await visit.fill(name="laptop")
    await visit.press("Create key")
    secret = await visit.text("#secret")
    if visit.look.script:
        await visit.page.get_by_role("heading", name="Waiting for your first request").wait_for()
    code = await visit.page.locator("#chat-2").text_content() or ""
    assert secret in code
    assert "from openai import OpenAI" in code
    return code


async def send_and_see_the_receipt(visit: Tab, code: str, folder: Path) -> None:
    """Acts 5 and 6."""
    printed = await run("python", code, api_key="unused", folder=folder / "program", python=OURS / "python")
    assert printed.strip() == "Hello."
    if not visit.look.script:
        await visit.follow("View requests with this key")
        await visit.page.locator("main tbody a").first.click()
    else:
        await visit.page.get_by_role("heading", name="Your first request worked").wait_for()
        await visit.check()
        assert f"Billed {USAGE_TOTAL} " in await visit.text("#first-request")
        await visit.follow("View receipt")
    await visit.page.wait_for_load_state()
    await visit.check()
    assert f"Billed {USAGE_TOTAL} " in await visit.text() + " "


async def done(page: Page) -> int:
    return await page.locator("#checklist li.done").count()


async def wait_for_steps(page: Page, count: int) -> None:
    """Wait until the checklist of a page that nobody touches has so many completed steps."""
    await page.wait_for_function("count => document.querySelectorAll('#checklist li.done').length === count", arg=count)


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_a_newcomer_buys_tokens_and_sends_a_billed_request(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser, look: Look
) -> None:
    async with (
        Mailbox() as mailbox,
        shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox) as (site, _),
        newcomer(browser, site, look) as visit,
    ):
        await sign_up(visit, mailbox)
        overview = await visit.page.context.new_page()
        await overview.goto(site.url + "/dashboard")
        assert await done(overview) == 0
        await buy(visit)
        if look.script:
            await wait_for_steps(overview, 1)
        code = await create_key(visit)
        if look.script:
            await wait_for_steps(overview, 2)
        await send_and_see_the_receipt(visit, code, tmp_path)
        if not look.script:
            await overview.reload()
        await overview.locator("#checklist").wait_for(state="hidden")
        assert (await site.store.accounts.get(ADA)).balance.posted == 1_000_000 - USAGE_TOTAL
        assert await site.audit_is_clean()


async def test_a_newcomer_with_welcome_tokens_sends_a_billed_request(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser
) -> None:
    async with Mailbox() as mailbox:
        more = f"[accounts]\nwelcome_tokens = {WELCOME}\n" + mail_settings(mailbox)
        async with (
            running(tmp_path, upstream_url=upstream.base_url, more=more) as site,
            newcomer(browser, site, WIDE) as visit,
        ):
            await sign_up(visit, mailbox)
            assert await done(visit.page) == 1
            assert f"{WELCOME:,} tokens you can use now" in await visit.text()
            await send_and_see_the_receipt(visit, await create_key(visit), tmp_path)
            assert (await site.store.accounts.get(ADA)).balance.posted == WELCOME - USAGE_TOTAL


async def test_the_page_of_a_new_key_shows_a_rejected_request_and_then_the_receipt(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser
) -> None:
    async with (
        Mailbox() as mailbox,
        shop(tmp_path, upstream_url=upstream.base_url, mailbox=mailbox) as (site, _),
        newcomer(browser, site, WIDE) as visit,
    ):
        await sign_up(visit, mailbox)
        code = await create_key(visit)
        assert "Your account has no tokens" in await visit.text()
        printed = await run("python", code, api_key="unused", folder=tmp_path / "rejected", python=OURS / "python")
        assert f"Buy tokens: {site.url}/dashboard/buy" in printed
        await visit.page.get_by_role("heading", name="Your request was rejected").wait_for()
        await visit.check()
        assert "402 insufficient_tokens" in await visit.text("#first-request")
        await site.store.accounts.grant(email=ADA, tokens=WELCOME, reason="gift", now_us=site.clock.now_us())
        await send_and_see_the_receipt(visit, code, tmp_path)


async def test_the_page_of_a_new_key_shows_that_its_first_request_was_not_billed(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser
) -> None:
    async with Mailbox() as mailbox:
        more = f"[accounts]\nwelcome_tokens = {WELCOME}\n" + mail_settings(mailbox)
        async with (
            running(tmp_path, upstream_url=upstream.base_url, more=more) as site,
            newcomer(browser, site, WIDE) as visit,
        ):
            await sign_up(visit, mailbox)
            code = await create_key(visit)
            upstream.behaviour = status(500)
            printed = await run("python", code, api_key="unused", folder=tmp_path / "program", python=OURS / "python")
            assert printed.startswith("FAILED")
            await visit.page.get_by_role("heading", name="Your first request was not billed").wait_for()
            await visit.check()
            assert "upstream_error" in await visit.text("#first-request")
