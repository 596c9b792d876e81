"""The docs in a real browser: search, tabs, anchors, and no table that cuts an error code, with script and without."""

import pytest
from playwright.async_api import Browser, expect

from support.browser import WIDE, Look, tab
from support.gateways import ServerProcess
from tok0n.web.public.guide import GUIDE

pytestmark = pytest.mark.anyio

LOOKS = [WIDE, Look(scheme="light", width=320, script=False)]
CUT = """() => [...document.querySelectorAll(".prose td code")]
    .filter((code) => /^\\w+$/.test(code.textContent) && code.getClientRects().length > 1)
    .map((code) => code.textContent)"""
"""The identifiers in tables that are on more than one line."""


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_every_page_leads_to_the_next_fits_its_window_and_cuts_no_identifier(
    demo: ServerProcess, browser: Browser, look: Look
) -> None:
    async with tab(browser, demo.base_url.removesuffix("/v1"), look) as visit:
        await visit.go("/docs")
        assert await visit.page.evaluate(CUT) == []
        for page in GUIDE[1:]:
            await visit.page.locator("a[rel=next]").click()
            await visit.page.wait_for_url(f"**/docs/{page.slug}")
            await visit.check()
            assert await visit.page.evaluate(CUT) == [], page.slug


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_a_reader_searches_and_reads_the_code_in_another_language(
    demo: ServerProcess, browser: Browser, look: Look
) -> None:
    async with tab(browser, demo.base_url.removesuffix("/v1"), look) as visit:
        await visit.go("/docs")
        await visit.fill(q="Claude Code")
        await visit.page.locator("#q").press("Enter")
        await visit.page.wait_for_url("**/docs/search?q=*")
        await visit.check()
        await visit.page.locator(".results a").first.click()
        await visit.page.wait_for_url("**/docs/recipes#claude-code")
        await expect(visit.page.locator("#claude-code")).to_be_in_viewport()
        await visit.go("/docs/quickstart")
        tabs = visit.page.locator(".snippet-tabs").first
        await expect(tabs.locator("pre >> visible=true")).to_contain_text("curl -i")
        await tabs.get_by_text("JavaScript", exact=True).click()
        await expect(tabs.locator("pre >> visible=true")).to_contain_text('import OpenAI from "openai"')
        if look.script:
            await tabs.locator(".copy >> visible=true").click()
            copied = await visit.page.evaluate("navigator.clipboard.readText()")
            assert "client.chat.completions.create" in copied
            await visit.go("/docs/streaming")
            await expect(visit.page.locator(".snippet-tabs pre >> visible=true").first).to_contain_text("import OpenAI")
        await visit.check()
