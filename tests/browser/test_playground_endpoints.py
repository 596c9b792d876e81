"""The playground of each endpoint in a real browser, with the demo's upstream: with script and without."""

import re

import pytest
from playwright.async_api import Browser, expect

from support.browser import LOOKS, Look, tab
from support.gateways import ServerProcess

pytestmark = pytest.mark.anyio

SHOWN = {
    "Chat completions": "simulated model",
    "Embeddings": "Dimensions 1,536",
    "Responses": "simulated model",
    "Messages": "simulated model",
}
TEXT = "Hello!\nGood morning!"


@pytest.mark.parametrize("look", LOOKS, ids=str)
async def test_each_endpoint_can_be_tried_with_its_response_and_receipt(
    demo: ServerProcess, browser: Browser, look: Look
) -> None:
    async with tab(browser, demo.base_url.removesuffix("/v1"), look) as visit:
        await visit.sign_in(demo.ready["email"], demo.ready["password"])
        await visit.go("/dashboard/playground")
        shown_available = visit.page.locator("#bound [data-available]")
        available, kept = int((await shown_available.inner_text()).replace(",", "")), ""
        for title, shown in SHOWN.items():
            current = visit.page.get_by_role("navigation", name="Endpoint").locator("[aria-current]")
            if await current.inner_text() != title:  # a page that is loaded again could lose what is typed meanwhile
                await visit.page.get_by_role("link", name=title, exact=True).click()
            await expect(current).to_have_text(title)
            await expect(visit.page.locator("#user")).to_have_value(kept)
            await visit.fill(user=TEXT)
            await visit.page.get_by_role("button", name="Send", exact=True).click()
            last = visit.page.locator("article").last
            await expect(last).to_contain_text(shown)
            await last.locator("dl.bill").wait_for()
            (billed,) = re.findall(r"Billed (\d+) ", " ".join((await last.inner_text()).split()))
            available -= int(billed)
            await expect(shown_available).to_have_text(f"{available:,}")
            await visit.page.get_by_text("View code", exact=True).click()
            await visit.check()
            kept = TEXT if look.script and title == "Embeddings" else ""
