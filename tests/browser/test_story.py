"""The whole story of a new customer, in a real browser: wide with script, and on a phone without."""

import asyncio
from pathlib import Path
from urllib.parse import urlsplit

import openai
import pytest
from playwright.async_api import Browser

from support.browser import LOOKS, WIDE, Look, Tab, tab
from support.gateways import running
from support.http import USAGE_TOTAL
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream, after
from support.users import PASSWORD, mail_settings
from tok0n.adapters.clock import SystemClock

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
GRANT = 1_000_000
POLL_MS = 10_000
"""The overview asks for its figures so often."""


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_a_new_customer_from_the_first_page_to_a_revoked_key(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser, look: Look
) -> None:
    async with (
        Mailbox() as mailbox,
        running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox)) as site,
        tab(browser, site.url, look) as visit,
    ):
        await sign_up(visit, mailbox)
        now_us = SystemClock().now_us()
        await site.store.accounts.grant(email=ADA, tokens=GRANT, reason="welcome", now_us=now_us)
        key = await make_key(visit, site.base_url)
        request_id = await call(site.base_url, key)
        await look_at_the_request(visit, request_id)
        await play(visit)
        assert (await site.store.accounts.get(ADA)).balance.posted == GRANT - 2 * USAGE_TOTAL
        await manage(visit)
        with pytest.raises(openai.AuthenticationError):
            await call(site.base_url, key)
        await settings(visit)
        await visit.sign_out()
        await visit.go("/dashboard")
        assert "/sign-in" in visit.page.url
        assert await site.audit_is_clean()


async def sign_up(visit: Tab, mailbox: Mailbox) -> None:
    await visit.go("/")
    assert "Prepaid tokens for any OpenAI SDK" in await visit.text()
    assert "demo" in await visit.text()
    await visit.follow("Sign up")
    await visit.fill(email=ADA, password="password1234")
    await visit.press("Sign up")
    assert "too easy to guess" in await visit.text()
    await visit.fill(password=PASSWORD)
    await visit.press("Sign up")
    assert "Check your email" in await visit.text()
    await visit.go(await mailbox.take_link(ADA))
    assert "Get started" in await visit.text()


async def make_key(visit: Tab, base_url: str) -> str:
    await visit.follow("Create key")
    await visit.fill(name="laptop")
    await visit.press("Create key")
    shown = await visit.text("#secret")
    assert base_url in await visit.text("#chat-1")
    if visit.look.script:
        await visit.page.get_by_role("button", name="Copy key").click()
        await visit.page.get_by_role("button", name="Copied").wait_for()
        assert await visit.page.evaluate("navigator.clipboard.readText()") == shown
    await visit.follow("Done")
    assert shown not in await visit.page.content()
    return shown


async def call(base_url: str, key: str) -> str:
    async with openai.AsyncOpenAI(base_url=base_url, api_key=key, max_retries=0) as client:
        answer = await client.chat.completions.with_raw_response.create(
            model="demo", messages=[{"role": "user", "content": "Hello!"}], max_completion_tokens=100
        )
    assert answer.headers["x-tok0n-charged"] == str(USAGE_TOTAL)
    return str(answer.headers["x-request-id"])


async def look_at_the_request(visit: Tab, request_id: str) -> None:
    await visit.go("/dashboard")
    overview = await visit.text()
    assert f"{GRANT - USAGE_TOTAL:,} tokens you can use now" in overview
    assert f"{USAGE_TOTAL} billed in total" in overview
    if visit.look.script:
        await visit.page.locator(".plot").press("ArrowLeft")
        assert f"{USAGE_TOTAL} tokens" in await visit.text(".plot .tip")
    await visit.page.locator("#requests tbody a").first.click()
    await visit.page.wait_for_url(f"**/{request_id}")
    await visit.check()
    assert f"Billed {USAGE_TOTAL} " in await visit.text() + " "
    await visit.go("/dashboard/requests")
    await visit.page.locator("summary", has_text="Filter").click()
    await visit.page.select_option("#status", "released")
    if not visit.look.script:
        await visit.press("Apply")
    await visit.page.get_by_role("heading", name="No matching requests").wait_for()
    await visit.check()
    assert "status=released" in urlsplit(visit.page.url).query
    await visit.go("/dashboard/usage")
    await visit.follow("By key")
    assert "laptop" in await visit.text(".chart")
    await visit.follow("24 hours")
    assert "Tokens per hour" in await visit.text()
    await visit.go("/dashboard/statement")
    assert await visit.text("#closing") == f"{GRANT - USAGE_TOTAL:,}"
    assert "welcome +1,000,000" in await visit.text()


async def play(visit: Tab) -> None:
    await visit.go("/dashboard/playground")
    await visit.fill(limit="50")
    if visit.look.script:
        await visit.page.locator("#user").press_sequentially("Hello!")
    else:
        await visit.fill(user="Hello!")
        await visit.press("Estimate tokens")
    bound = visit.page.locator("#bound strong")
    await bound.wait_for()
    reserved = (await bound.inner_text()).removeprefix("Reserves up to ").removesuffix(" tokens.")
    await visit.page.get_by_role("button", name="Send", exact=True).click()
    await visit.page.locator("dl.bill").first.wait_for()
    await visit.check()
    assert "Hello." in await visit.text(".answer")
    assert f"Reserved {reserved} Billed {USAGE_TOTAL}" in await visit.text(".bill")


async def manage(visit: Tab) -> None:
    await visit.go("/dashboard/keys")
    await visit.follow("laptop")
    page = visit.page.url
    await visit.fill(name="old laptop", networks="no network")
    await visit.page.get_by_label("Tokens of budget 1").fill("10000")
    await visit.page.get_by_label("Period of budget 1").select_option("per day")
    await visit.press("Save")
    assert "no is not an IP network" in await visit.text()
    await visit.fill(networks="127.0.0.0/8")
    await visit.press("Save")
    saved = await visit.text()
    assert "Saved." in saved
    assert "0 of 10,000 per day" in saved, "a new budget counts from then on"
    await visit.page.select_option("#overlap_days", "7")
    await visit.press("Create new secret")
    assert (await visit.text("#secret")).startswith("tk0n_")
    await visit.follow("Done")
    await visit.press("Disable key")
    assert "Disabled" in await visit.text()
    await visit.press("Enable key")
    assert visit.page.url.startswith(page)
    await visit.go("/dashboard/keys")
    assert "0 of 10,000 per day" in await visit.text()
    await visit.follow("old laptop")
    await visit.follow("Revoke key")
    await visit.press("Revoke key")
    assert "Revoked and expired keys (1)" in await visit.text()
    await visit.follow("activity log")
    activity = await visit.text()
    for words in ("Revoked", "Rotated", "enabled: no → yes", "name: laptop → old laptop", "budgets: none → 10,000/day"):
        assert words in activity


async def settings(visit: Tab) -> None:
    await visit.go("/dashboard/settings")
    await visit.page.fill("#time_zone", "Europe/Berlin")
    await visit.page.get_by_role("button", name="Save time zone").click()
    await visit.page.get_by_text("Time zone updated.").wait_for()
    await visit.check()
    for path in ("/dashboard/settings/second-factor", "/dashboard/settings/close", "/docs", "/docs/recipes"):
        await visit.go(path)


async def test_one_press_makes_one_call_however_often_it_is_pressed(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser
) -> None:
    answered = asyncio.Event()
    upstream.behaviour = after(answered, upstream.behaviour)
    async with (
        Mailbox() as mailbox,
        running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox)) as site,
        tab(browser, site.url, WIDE) as visit,
    ):
        await sign_up(visit, mailbox)
        await site.store.accounts.grant(email=ADA, tokens=GRANT, reason="x", now_us=SystemClock().now_us())
        await make_key(visit, site.base_url)
        await visit.go("/dashboard/playground")
        await visit.fill(user="Hello!")
        send = visit.page.locator("button[name=send]")
        for _ in range(3):
            await send.click()
        await upstream.until(lambda: len(upstream.requests) == 1)
        answered.set()
        await visit.page.locator("dl.bill").first.wait_for()
        assert len(upstream.requests) == 1


async def test_the_overview_shows_a_call_without_being_loaded_again(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser
) -> None:
    async with (
        Mailbox() as mailbox,
        running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox)) as site,
        tab(browser, site.url, WIDE) as visit,
    ):
        await sign_up(visit, mailbox)
        await site.store.accounts.grant(email=ADA, tokens=GRANT, reason="x", now_us=SystemClock().now_us())
        key = await make_key(visit, site.base_url)
        await visit.page.clock.install()
        await visit.go("/dashboard")
        for calls in (1, 2):
            await call(site.base_url, key)
            await visit.page.clock.fast_forward(POLL_MS)
            await visit.page.get_by_text(f"{GRANT - calls * USAGE_TOTAL:,}").wait_for()
            assert await visit.page.locator("#requests tbody tr").count() == calls
        await visit.check()
