"""Every page fits every window: with the longest names and the largest numbers, light and dark, with script or without.

The pages come from the routes of the gateway, so a new page joins by itself. With `TOK0N_SCREENSHOTS=folder` the tests
save a picture of each page at 390 and 1440 px, light and dark.
"""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from playwright.async_api import Browser, BrowserContext, Page

from support import awkward
from support.browser import AXE
from support.gateways import Running
from support.mailbox import Mailbox
from support.pages import paths
from support.scripted_upstream import ScriptedUpstream
from support.shop import shop
from support.users import join
from support.visitor import Visitor

pytestmark = pytest.mark.anyio

WIDTHS = (320, 390, 768, 1440, 1920)
PICTURES = os.environ.get("TOK0N_SCREENSHOTS")
PICTURE_WIDTHS = (390, 1440)
EMAIL = "a.person.with.a.very.long.email.address@subdomain.example.com"
LAYOUT = (Path(__file__).parent.parent / "support" / "layout.js").read_text()
AXE_RUN = """async () => (await axe.run(document, {resultTypes: ["violations"], rules: {"target-size": {enabled: true}}}))
    .violations.map(({id, nodes}) => id + ": " + nodes.map(({html}) => html).join(" | ").slice(0, 300))"""
QUERIES = ("/dashboard/requests?status=settled&last=30d", "/dashboard/usage?last=30d&by=key", "/no-such-page")
"""Paths beside those of the routes."""

AWAY = ("/dashboard/settings/export",)
"""Paths that answer with a file."""


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """A gateway full of awkward data, the paths of its pages, and the cookie of the user who owns the data."""

    url: str
    private: list[str]
    public: list[str]
    cookie: str


@pytest.fixture(scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory, anyio_backend: str) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("widths")
    async with (
        ScriptedUpstream() as upstream,
        Mailbox() as mailbox,
        shop(folder, upstream_url=upstream.base_url, mailbox=mailbox, more=awkward.SETTINGS) as (running, _),
        Visitor(running.url) as visitor,
    ):
        await join(visitor, mailbox, EMAIL)
        data = awkward.fill(folder / "tok0n.db", email=EMAIL, now_us=running.clock.now_us())
        private, public = _pages(running, data)
        cookie = next(value for name, value in visitor.cookies.items() if name.endswith("tok0n"))
        yield Site(url=running.url, private=private, public=public, cookie=cookie)


def _pages(running: Running, data: awkward.Awkward) -> tuple[list[str], list[str]]:
    """Return the paths of the pages that need an account, and of the others."""
    found = paths(running, method="GET", key=data.key, request=data.request, order=data.order)
    pages = [path for path in dict.fromkeys([*found, *QUERIES]) if "." not in path.rpartition("/")[2]]
    private = [path for path in pages if path.startswith("/dashboard")]
    return private, [path for path in pages if path not in private]


async def _context(browser: Browser, site: Site, *, script: bool, signed_in: bool) -> BrowserContext:
    context = await browser.new_context(java_script_enabled=script, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(30_000)
    if signed_in:
        await context.add_cookies([{"name": "tok0n", "value": site.cookie, "url": site.url}])
    return context


async def _faults(page: Page, path: str, *, script: bool) -> list[str]:
    """What is wrong with the page that is open, at every width, light and dark."""
    faults = []
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 900})
        faults += [f"{path} at {width} px: {fault}" for fault in await page.evaluate(LAYOUT)]
        for scheme in ("light", "dark"):
            if script and width in PICTURE_WIDTHS:
                await page.emulate_media(color_scheme="light" if scheme == "light" else "dark")
                if PICTURES:
                    name = path.strip("/").replace("/", "_").replace("?", "_") or "landing"
                    picture = Path(PICTURES) / f"{name}-{width}-{scheme}.png"
                    await page.screenshot(path=picture, full_page=True)
        if script and width in PICTURE_WIDTHS:
            await page.emulate_media(color_scheme="dark" if width == PICTURE_WIDTHS[0] else "light")
            faults += [f"{path} at {width} px: {fault}" for fault in await page.evaluate(AXE_RUN)]
    return faults


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
@pytest.mark.parametrize("signed_in", [True, False], ids=["signed-in", "signed-out"])
async def test_every_page_fits_every_window(browser: Browser, site: Site, script: bool, signed_in: bool) -> None:
    context = await _context(browser, site, script=script, signed_in=signed_in)
    faults: list[str] = []
    for path in site.private if signed_in else site.public:
        page = await context.new_page()
        await page.goto(site.url + path, wait_until="load")
        if script:
            await page.evaluate(AXE.read_text())
        faults += await _faults(page, path, script=script)
        await page.close()
    await context.close()
    assert faults == [], "\n".join(faults)
