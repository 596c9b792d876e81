"""Debian's Chromium, and what every page that it opens must keep: nothing complained of, and usable by everybody."""

import contextlib
import functools
import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
from playwright.async_api import Browser, Page, async_playwright

from support.visitor import Visitor

AXE = Path(__file__).parent.parent / "clients" / "node" / "node_modules" / "axe-core" / "axe.min.js"
FONTS = Path(__file__).parent / "fonts.conf"
_QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_REFUSED = "Failed to load resource: the server responded with a status of 422 (Unprocessable Entity)"
"""A form that is refused is no error of the page."""

_AXE_RUN = """async () => {
    const isSerious = ({impact}) => impact === "serious" || impact === "critical";
    const rules = {"color-contrast": {enabled: false}};
    for (const rule of axe._audit.rules) if (!isSerious(rule)) rules[rule.id] = {enabled: false};
    const {violations} = await axe.run(document, {preload: false, resultTypes: ["violations"], rules});
    return violations.filter(isSerious)
        .map(({id, nodes}) => id + ": " + nodes.map(({html}) => html).join(" | ").slice(0, 500));
}"""
"""Contrasts take most of the time. tests/browser/test_widths.py checks those of every page and component."""

_seen_by_axe: set[tuple[int, str]] = set()
"""The widths and contents of the pages that axe has checked in this process, which takes as long as all the rest."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How a visitor's browser is."""

    scheme: str
    width: int
    script: bool

    def __str__(self) -> str:
        return f"{self.scheme}-{self.width}-{'script' if self.script else 'no-script'}"


WIDE = Look(scheme="light", width=1440, script=True)
PHONE = Look(scheme="dark", width=390, script=True)
LOOKS = [WIDE, Look(scheme="dark", width=390, script=False)]
"""For a test of what pages do. test_widths.py looks at each page in all widths, with script and without."""


class Tab:
    """One page of a browser, and what went wrong on it."""

    def __init__(self, page: Page, url: str, look: Look) -> None:
        self.page = page
        self.look = look
        self.complaints: list[str] = []
        self._url = url
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    async def sign_in(self, email: str, password: str) -> None:
        """Sign in by HTTP, because the form takes three pages. test_forms.py and test_passkeys.py test the form."""
        async with Visitor(self._url) as visitor:
            await visitor.sign_in(email, password)
            await self.page.context.add_cookies(
                [{"name": name, "value": value, "url": self._url} for name, value in visitor.cookies.items()]
            )

    async def go(self, path: str) -> None:
        """Open a page, and check it."""
        await self.page.goto(self._url + path)
        await self.check()

    async def check(self) -> None:
        """Nothing was complained of, nothing is wider than the window, and axe finds nothing serious."""
        where = f"{self.page.url} ({self.look})"
        assert not self.complaints, f"{where}: {self.complaints}"
        assert await self.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"too wide: {where}"
        if self.look.script:
            assert not (found := await self._run_axe()), f"{where}: {found}"

    async def fill(self, **fields: str) -> None:
        """Fill in fields by their ids."""
        for name, value in fields.items():
            await self.page.fill(f"#{name}", value)

    async def press(self, label: str) -> None:
        """Press a button of the page, and check what comes."""
        await self.page.locator("main").get_by_role("button", name=label, exact=True).click()
        await self.page.wait_for_load_state()
        await self.check()

    async def follow(self, label: str) -> None:
        """Follow a link of the page's own part, and check what comes."""
        await self.page.locator("main").get_by_role("link", name=label, exact=True).first.click()
        await self.page.wait_for_load_state()
        await self.check()

    async def sign_out(self) -> None:
        """Press Sign out, which a narrow window hides in the menu."""
        menu = self.page.locator("header summary")
        if await menu.is_visible():
            await menu.click()
        await self.page.locator("header").get_by_role("button", name="Sign out", exact=True).click()
        await self.page.wait_for_load_state()

    async def text(self, selector: str = "main") -> str:
        """What a part of the page says, its spaces made one."""
        return " ".join((await self.page.inner_text(selector)).split())

    async def _run_axe(self) -> Any:
        """Return what is wrong with the page. Pages that differ only in words with digits, such as ids, are one."""
        content = self.look.width, re.sub(r"\w*\d\w*", "0", await self.page.content())
        if content in _seen_by_axe:
            return []
        if not await self.page.evaluate("'axe' in window"):
            await self.page.evaluate(_axe())
        found = await self.page.evaluate(_AXE_RUN)
        _seen_by_axe.add(content)
        return found

    def _said(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"} and text != _REFUSED:
            self.complaints.append(text)


@functools.cache
def _axe() -> str:
    return AXE.read_text()


@contextlib.asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """The browser, with the fonts of fonts.conf. Raises `AssertionError` when it is missing."""
    path = shutil.which("chromium-headless-shell") or shutil.which("chromium")
    assert path is not None, "chromium-headless-shell is missing: make test installs it"
    async with async_playwright() as playwright:
        env: dict[str, str | float | bool] = {**os.environ, "FONTCONFIG_FILE": str(FONTS)}
        browser = await playwright.chromium.launch(executable_path=path, args=list(_QUIET), env=env)
        try:
            yield browser
        finally:
            await browser.close()


async def shared_browser(anyio_backend: str) -> AsyncIterator[Browser]:
    """The fixture of folders whose tests share a browser. It isn't that of all tests, because they'd share its loop."""
    async with chromium() as browser:
        yield browser


@contextlib.asynccontextmanager
async def tab(browser: Browser, url: str, look: Look) -> AsyncIterator[Tab]:
    """A new window with no history."""
    options: dict[str, Any] = {
        "viewport": {"width": look.width, "height": 900},
        "color_scheme": look.scheme,
        "java_script_enabled": look.script,
        "permissions": ["clipboard-read", "clipboard-write"] if look.script else [],
    }
    context = await browser.new_context(**options)
    context.set_default_timeout(20_000)
    try:
        yield Tab(await context.new_page(), url, look)
    finally:
        await context.close()


def figures(text: str) -> list[int]:
    """The whole numbers in a text."""
    return [int(word.replace(",", "")) for word in text.split() if word.replace(",", "").isdecimal()]
