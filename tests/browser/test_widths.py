"""Every page fits every window: with the longest names and the largest numbers, light and dark, with script or without.

The pages come from the routes of the gateway, so a new page joins by itself.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from playwright.async_api import Browser, BrowserContext, Page

from support.browser import AXE
from support.extreme_site import ExtremeSite, extreme_site, is_private

pytestmark = pytest.mark.anyio

Scheme = Literal["light", "dark"]

WIDTHS = (320, 390, 768, 1440, 1920)
NO_SCRIPT_WIDTHS = (320, 1440)
"""Without script a page differs in a few elements."""

AXE_SCHEMES: dict[int, Scheme] = {390: "dark", 1440: "light"}
"""The widths at which axe looks at pages, with the color scheme there."""

LAYOUT = (Path(__file__).parent.parent / "support" / "layout.js").read_text()
AXE_RUN = """async () => (await axe.run(document, {preload: false, resultTypes: ["violations"]})).violations
    .map(({id, nodes}) => id + ": " + nodes.map(({html}) => html).join(" | ").slice(0, 300))"""
REMOVE_REPETITIONS = "document.querySelectorAll('tbody tr:nth-child(n + 25)').forEach((row) => row.remove())"
"""The rows of the account repeat themselves after 24 at the latest, and axe looks at each."""

INPUT_ROWS = """() => {
    const fields = [...document.querySelectorAll(".filters .field")];
    const rows = Object.groupBy(fields, (field) => field.getBoundingClientRect().top);
    const bottom = (field) => field.querySelector(".affixed, input, select").getBoundingClientRect().bottom;
    return Object.values(rows).map((row) => row.map(bottom));
}"""

SHARES = 6
"""The pages are divided among so many tests, which can run at the same time."""


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[ExtremeSite]:
    async with extreme_site(tmp_path_factory.mktemp("widths")) as site:
        yield site


async def _context(browser: Browser, *, script: bool) -> BrowserContext:
    context = await browser.new_context(java_script_enabled=script, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(30_000)
    if script:
        await context.add_init_script(path=AXE)
    return context


async def _faults(page: Page, path: str, *, script: bool) -> list[str]:
    """Return what is wrong with the open page at any width. A fault of several widths is returned once.

    The layout doesn't depend on the color scheme. axe, which checks contrasts, sees both schemes.
    """
    widths: dict[str, list[int]] = {}
    for width in WIDTHS if script else NO_SCRIPT_WIDTHS:
        await page.set_viewport_size({"width": width, "height": 900})
        faults = await page.evaluate(LAYOUT)
        if script and width in AXE_SCHEMES:
            await page.emulate_media(color_scheme=AXE_SCHEMES[width])
            faults += await page.evaluate(AXE_RUN)
        for fault in faults:
            widths.setdefault(fault, []).append(width)
    return [f"{path} at {', '.join(map(str, found))} px: {fault}" for fault, found in widths.items()]


@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("javascript", ["script", "no-script"])
async def test_every_page_fits_every_window(browser: Browser, site: ExtremeSite, javascript: str, share: int) -> None:
    script = javascript == "script"
    context = await _context(browser, script=script)
    page = await context.new_page()
    faults: list[str] = []
    for path in sorted(site.paths[share::SHARES], key=is_private):
        if is_private(path):
            await context.add_cookies([{"name": "tok0n", "value": site.cookie, "url": site.url}])
        await page.goto(site.url + path, wait_until="load")
        await page.evaluate(REMOVE_REPETITIONS)
        faults += await _faults(page, path, script=script)
    await context.close()
    assert faults == [], "\n".join(faults)


async def test_the_inputs_of_the_filters_align(browser: Browser, site: ExtremeSite) -> None:
    context = await _context(browser, script=True)
    await context.add_cookies([{"name": "tok0n", "value": site.cookie, "url": site.url}])
    page = await context.new_page()
    for path in ("/dashboard/requests?tokens_min=5000&tokens_max=10", "/dashboard/usage"):
        await page.goto(site.url + path)
        rows = await page.evaluate(INPUT_ROWS)
        assert rows, path
        assert all(max(row) - min(row) < 1.5 for row in rows), (path, rows)
    await context.close()


async def test_a_page_prints_in_light_and_without_controls(browser: Browser, site: ExtremeSite) -> None:
    context = await _context(browser, script=True)
    await context.add_cookies([{"name": "tok0n", "value": site.cookie, "url": site.url}])
    page = await context.new_page()
    (receipt, *_) = [path for path in site.paths if "/requests/req_" in path]
    await page.goto(site.url + receipt)
    await page.emulate_media(media="print", color_scheme="dark")
    assert await page.evaluate("getComputedStyle(document.body).color") == "rgb(27, 31, 35)", "the text is dark"
    controls = page.locator(".bar, .foot, .back, .copy-icon")
    assert [await control.is_visible() for control in await controls.all()] == [False] * await controls.count()
    assert await page.locator(".receipt").is_visible()
    await context.close()
