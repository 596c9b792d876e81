"""A chart in a real browser: one tab stop, values by keyboard, mouse and touch, and text that doesn't shrink."""

import pytest
from playwright.async_api import Browser, expect

from support.browser import PHONE, WIDE, Look, tab
from support.gateways import ServerProcess

pytestmark = pytest.mark.anyio

FOCUSABLE = "(plot) => [plot, ...plot.querySelectorAll('*')].filter((e) => e.tabIndex >= 0).length"
TEXT_SIZES = "(plot) => [...plot.querySelectorAll('text')].map((t) => t.getBoundingClientRect().height).filter(Boolean)"
OVERFLOWS = "(plot) => plot.querySelector('.tip').getBoundingClientRect().right > innerWidth"


@pytest.mark.parametrize("look", [WIDE, PHONE], ids=str)
async def test_a_chart_has_one_tab_stop_and_reads_each_bar(demo: ServerProcess, browser: Browser, look: Look) -> None:
    async with tab(browser, demo.base_url.removesuffix("/v1"), look) as visit:
        await visit.go("/dev/components")
        plot, tip = visit.page.locator(".plot").first, visit.page.locator(".plot .tip").first
        assert await plot.evaluate(FOCUSABLE) == 1
        assert min(await plot.evaluate(TEXT_SIZES)) >= 11
        assert await tip.get_attribute("role") == "status"
        await plot.press("ArrowLeft")
        await expect(tip).to_contain_text("so far")
        last = await tip.text_content()
        await plot.press("ArrowLeft")
        assert await tip.text_content() != last
        await plot.press("End")
        assert await tip.text_content() == last
        await plot.press("Escape")
        await expect(tip).to_be_hidden()
        box = await plot.bounding_box()
        assert box is not None
        for part in (0.3, 0.6, 0.99):
            await visit.page.mouse.move(box["x"] + part * box["width"], box["y"] + 60)
            await expect(tip).to_contain_text("tokens")
            assert not await plot.evaluate(OVERFLOWS)


async def test_a_bar_of_latencies_has_milliseconds_and_no_total(demo: ServerProcess, browser: Browser) -> None:
    async with tab(browser, demo.base_url.removesuffix("/v1"), WIDE) as visit:
        await visit.go("/dev/components")
        chart = visit.page.locator("section[aria-labelledby=latency-chart]")
        plot, tip = chart.locator(".plot"), chart.locator(".plot .tip")
        await plot.press("End")
        (median,) = await chart.locator(".bar").last.evaluate_all("(bars) => [bars[0].dataset.values.split(' ')[0]]")
        await expect(tip).to_contain_text(f"p50 {median} ms")
        await expect(tip).not_to_contain_text("Total")
        await plot.press("Home")
        await expect(tip).not_to_contain_text("ms")


async def test_without_script_the_table_has_all_values(demo: ServerProcess, browser: Browser) -> None:
    look = Look(scheme="light", width=320, script=False)
    async with tab(browser, demo.base_url.removesuffix("/v1"), look) as visit:
        await visit.go("/dev/components")
        rows = visit.page.locator("section[aria-labelledby=chart] tbody tr")
        assert await rows.count() == await visit.page.locator("section[aria-labelledby=chart] .bar").count()
