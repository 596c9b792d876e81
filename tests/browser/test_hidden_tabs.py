"""A tab that nobody sees asks the server for nothing, and is up to date when it is shown again."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from support.browser import WIDE, tab
from support.gateways import EMAIL, running
from support.http import chat, chat_body
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor

pytestmark = pytest.mark.anyio


POLL_MS = 5_000
HIDE = "Object.defineProperty(document, 'hidden', {get: () => window.isHidden ?? false})"


async def show(page: Page, *, is_hidden: bool) -> None:
    await page.evaluate(
        "(hidden) => { window.isHidden = hidden; document.dispatchEvent(new Event('visibilitychange')); }", is_hidden
    )


async def test_the_live_tail_stops_in_a_hidden_tab_and_catches_up_when_it_is_shown(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser
) -> None:
    async with (
        Mailbox() as mailbox,
        running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox)) as site,
        tab(browser, site.url, WIDE) as visit,
    ):
        async with Visitor(site.url) as visitor:
            await join(visitor, mailbox, EMAIL)
        page = visit.page
        await page.clock.install()
        await page.add_init_script(HIDE)
        await visit.sign_in(EMAIL, PASSWORD)
        await visit.go("/dashboard/requests")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        async with page.expect_response("**/dashboard/requests**"):
            await page.clock.run_for(POLL_MS)
        assert len(asked) == 1, "a visible tab polls"
        await show(page, is_hidden=True)
        await page.clock.run_for(20 * POLL_MS)
        request_id = (await chat(site.base_url, site.api_key, chat_body())).headers["x-request-id"]
        await show(page, is_hidden=False)
        await expect(page.locator(f"#live a[href$='{request_id}']")).to_be_visible()
        assert len(asked) == 2, "a hidden tab asked"
