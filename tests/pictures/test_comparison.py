"""The comparison of pictures finds small changes of a page, and none where nothing changed."""

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page

from support.gateways import running
from support.pictures import STRICT_LEVEL_MAX, PictureTools, open_tools
from support.scripted_upstream import ScriptedUpstream

pytestmark = pytest.mark.anyio

STYLES = {
    "smaller corners": ":root { --radius: 3px }",
    "rounder buttons": ".button { border-radius: 12px }",
    "a wider chip": ".chip { padding-inline: 0.5rem }",
    "another accent": ":root { --accent: light-dark(#0b6b7f, #5fd3ae) }",
    "another color of errors": ":root { --bad: light-dark(#8a2670, #ff9d91) }",
    "another shade of the main button": ".button.main { background: #0b8b53 }",
    "paler small text": ":root { --quiet: light-dark(#6a737c, #9aa4ae) }",
    "darker lines": ":root { --line: light-dark(#d2d2cf, #2a2f34) }",
    "a darker page": ":root { --page: #f6f6f4 }",
    "larger text": "body { font-size: 0.95rem }",
    "bold chips": ".chip { font-weight: 700 }",
    "amounts that are not bold": ".amount { font-weight: 400 }",
    "links without underlines": "main a { text-decoration: none }",
    "a thinner border": ".notice { border-left-width: 1px }",
    "no shadows": ".card, .button { box-shadow: none }",
    "no icon to copy": ".copy-icon { visibility: hidden }",
    "higher rows": ".data td { padding-block: 0.7rem }",
    "a card moved by 1 px": ".card { position: relative; left: 1px }",
}
SCRIPTS = {
    "another word": "document.querySelector('.chip').textContent = 'Charged'",
    "another digit": "document.querySelector('.data tbody .number').textContent = '1,234'",
    "a missing button": "document.querySelector('.button.main').remove()",
    "a checkbox that is off": "document.querySelector('main input[type=checkbox]').checked = false",
}
ADD_STYLE = """(css) => {
    const style = new CSSStyleSheet();
    style.replaceSync(css);
    document.adoptedStyleSheets = [style];
}"""


@pytest.fixture(scope="module")
async def components(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[Page]:
    folder = tmp_path_factory.mktemp("comparison")
    async with (
        ScriptedUpstream() as upstream,
        running(folder, upstream_url=upstream.base_url, shows_components=True) as site,
    ):
        page = await browser.new_page(viewport={"width": 1440, "height": 900})
        await page.goto(f"{site.url}/dev/components")
        yield page
        await page.close()


@pytest.fixture(scope="module")
async def tools(browser: Browser) -> AsyncIterator[PictureTools]:
    page = await browser.new_page()
    yield await open_tools(page)
    await page.close()


@pytest.fixture(scope="module")
async def reference(components: Page, tools: PictureTools) -> bytes:
    return await tools.shrink(await _take(components))


async def _take(page: Page) -> bytes:
    return await page.screenshot(full_page=True, animations="disabled", caret="hide")


@pytest.mark.parametrize("css", STYLES.values(), ids=STYLES.keys())
async def test_a_changed_style_is_found(components: Page, tools: PictureTools, reference: bytes, css: str) -> None:
    await components.evaluate(ADD_STYLE, css)
    actual = await tools.shrink(await _take(components))
    assert (await tools.compare(expected=reference, actual=actual)).reasons(level_max=STRICT_LEVEL_MAX)


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
async def test_changed_content_is_found(components: Page, tools: PictureTools, reference: bytes, script: str) -> None:
    await components.reload()
    await components.evaluate(script)
    actual = await tools.shrink(await _take(components))
    await components.reload()
    assert (await tools.compare(expected=reference, actual=actual)).reasons(level_max=STRICT_LEVEL_MAX)


async def test_the_same_page_is_no_difference(components: Page, tools: PictureTools, reference: bytes) -> None:
    await components.reload()
    actual = await tools.shrink(await _take(components))
    difference = await tools.compare(expected=reference, actual=actual)
    assert (difference.reasons(level_max=0), difference.block_level) == ([], 0)
