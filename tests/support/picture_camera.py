"""Opens the pages of shots in a browser, and takes a picture of each look."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from playwright.async_api import Browser, BrowserContext, FloatRect, Page

from support.extreme_site import ExtremeSite
from support.picture_accounts import Accounts
from support.picture_shots import Shot

HEIGHT_MAX = 2_400
"""The greatest height of a picture in pixels. The rows of a long list look alike. `WHOLE` has the pages without it."""

WHOLE = {"dev-components", "dashboard-settings"}

USER_AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
MASK = (Path(__file__).parent / "picture_mask.js").read_text()
NO_POLLS = "document.addEventListener('every', (event) => event.stopImmediatePropagation(), true)"
"""htmx dispatches `every` to the elements that poll: a page doesn't change between two pictures."""

SEND_FORM = """({fields, button}) => {
    const form = document.querySelector(`main [name="${Object.keys(fields)[0]}"]`).form;
    form.noValidate = true;
    const field = (name) => [...form.elements].find((element) => element.name === name);
    for (const [name, value] of Object.entries(fields)) field(name).value = value;
    form.requestSubmit(button ? form.querySelector(button) : undefined);
}"""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """How a page is looked at."""

    width: int
    scheme: Literal["light", "dark"] = "light"
    media: Literal["screen", "print"] = "screen"

    def __str__(self) -> str:
        return f"{self.width}-{self.scheme if self.media == 'screen' else self.media}"


def looks_of(shot: Shot) -> Iterator[Look]:
    """Return the looks of a shot. A printed page is as wide as A4."""
    if shot.is_printed:
        yield Look(width=794, media="print")
        return
    for width in (320, 390, 1440) if shot.name == "dev-components" else (390, 1440):
        yield Look(width=width)
        yield Look(width=width, scheme="dark")


class Camera:
    """A window of the browser."""

    def __init__(self, site: ExtremeSite, accounts: Accounts, context: BrowserContext, page: Page) -> None:
        self._site = site
        self._accounts = accounts
        self._context = context
        self._page = page

    async def open(self, shot: Shot) -> None:
        """Open the page of a shot, and send its form."""
        await self._context.clear_cookies()
        if shot.user:
            cookie = self._accounts.cookies[shot.user]
            await self._context.add_cookies([{"name": "tok0n", "value": cookie, "url": self._site.url}])
        await self._page.set_viewport_size({"width": 1440, "height": 900})
        await self._page.emulate_media(media="screen", color_scheme="light")
        if shot.is_foreign:
            await self._open_from_another_site(shot)
        elif shot.failure is not None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(self._site.running.store.users, "get", _raising(shot.failure))
                answer = await self._page.goto(self._site.url + shot.path)
            assert answer is not None
            assert answer.status >= 500
        else:
            await self._page.goto(self._site.url + shot.path)
        if shot.fields is not None:
            await self._send_form(shot)
        # A script of the page may replace its URL before it is complete, which Playwright takes for a navigation.
        await self._page.wait_for_function("document.readyState === 'complete'")
        await self._page.locator(shot.awaits).first.wait_for()
        await self._page.evaluate(MASK)

    async def take(self, shot: Shot) -> AsyncIterator[tuple[str, bytes]]:
        """Take the pictures of the open page, each with its name."""
        for look in looks_of(shot):
            await self._page.set_viewport_size({"width": look.width, "height": 900})
            await self._page.emulate_media(media=look.media, color_scheme=look.scheme)
            height = await self._page.evaluate("document.documentElement.scrollHeight")
            if shot.name not in WHOLE:
                height = min(height, HEIGHT_MAX)
            clip: FloatRect = {"x": 0, "y": 0, "width": look.width, "height": height}
            png = await self._page.screenshot(full_page=True, clip=clip, animations="disabled", caret="hide")
            yield f"{shot.name}-{look}", png

    async def _open_from_another_site(self, shot: Shot) -> None:
        """Send a form from a page of another origin, which the server rejects."""
        await self._page.goto("about:blank")
        form = f'<form method="post" action="{self._site.url}{shot.path}"><button>Go</button></form>'
        await self._page.set_content(form)
        async with self._page.expect_navigation() as navigation:
            await self._page.evaluate("document.forms[0].submit()")
        assert (await navigation.value).status == 403

    async def _send_form(self, shot: Shot) -> None:
        arguments = {"fields": shot.fields, "button": shot.button}
        if shot.is_script:
            await self._page.evaluate(SEND_FORM, arguments)
            return
        async with self._page.expect_navigation():
            await self._page.evaluate(SEND_FORM, arguments)


def _raising(error: Exception) -> object:
    async def fail(*_: object) -> None:
        raise error

    return fail


@contextlib.asynccontextmanager
async def camera(browser: Browser, site: ExtremeSite, accounts: Accounts) -> AsyncIterator[Camera]:
    """Open a window with the same time zone, language and version on every machine."""
    context = await browser.new_context(
        user_agent=USER_AGENT, timezone_id="UTC", locale="en-US", reduced_motion="reduce"
    )
    context.set_default_timeout(30_000)
    await context.add_init_script(NO_POLLS)
    try:
        yield Camera(site, accounts, context, await context.new_page())
    finally:
        await context.close()
