"""Forms in a real browser: after an error, Back and Reload show the form, and the invalid field has focus."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from support.browser import WIDE, Look, Tab, tab
from support.gateways import Running, running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
WITHOUT_SCRIPT = Look(scheme="light", width=1440, script=False)


@pytest.fixture
async def site(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    async with (
        Mailbox() as mailbox,
        running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox)) as site,
    ):
        async with Visitor(site.url) as visitor:
            await join(visitor, mailbox, ADA)
        yield site


async def is_focused(visit: Tab, field: str) -> bool:
    return bool(await visit.page.evaluate("id => document.activeElement.id === id", field))


async def leave_and_return(visit: Tab) -> None:
    """Open another page, and go back."""
    await visit.page.goto(visit.page.url.partition("/dashboard")[0].partition("/sign")[0] + "/docs")
    answer = await visit.page.go_back()
    assert answer is None or answer.status == 200, "chrome-error:// has no answer"
    await visit.check()


async def test_back_shows_a_refused_sign_up_again(site: Running, browser: Browser) -> None:
    async with tab(browser, site.url, WIDE) as visit:
        await visit.go("/sign-up")
        for password in ("password1234", "1234567890"):
            await visit.fill(email="bob@example.com", password=password)
            await visit.press("Sign up")
            assert "too easy to guess" in await visit.text()
            assert await is_focused(visit, "password")
        await leave_and_return(visit)
        assert visit.page.url.endswith("/sign-up")
        assert await visit.page.get_by_role("heading", name="Sign up").is_visible()
        await visit.page.reload()
        await visit.check()
        assert "too easy to guess" not in await visit.text(), "Reload does not send the form again"


async def test_back_shows_refused_forms_of_the_dashboard_again(site: Running, browser: Browser) -> None:
    async with tab(browser, site.url, WIDE) as visit:
        await visit.sign_in(ADA, PASSWORD)
        await visit.go("/dashboard/keys")
        await visit.fill(name=" ")
        await visit.press("Create key")
        assert await is_focused(visit, "name")
        await leave_and_return(visit)
        assert visit.page.url.endswith("/dashboard/keys")
        await visit.go("/dashboard/buy")
        await visit.fill(code="NOT-A-CODE")
        await visit.press("Redeem code")
        assert await is_focused(visit, "code")
        await leave_and_return(visit)
        assert visit.page.url.endswith("/dashboard/buy"), "the form's path has no page of its own"
        await visit.go("/dashboard/settings")
        details = visit.page.locator("details", has_text="Change email")
        await details.locator("summary").click()
        await visit.fill(email="new@example.com", email_password="wrong password")
        await details.get_by_role("button").click()
        await visit.page.get_by_text("Incorrect password.").wait_for()
        assert await is_focused(visit, "email_password")
        await leave_and_return(visit)


async def test_a_message_after_a_form_is_not_sent_again_by_reload(site: Running, browser: Browser) -> None:
    async with tab(browser, site.url, WIDE) as visit:
        await visit.go("/reset-password")
        await visit.fill(email=ADA)
        await visit.page.locator("main button").click()
        await visit.page.get_by_role("heading", name="Check your email").wait_for()
        await visit.page.reload()
        assert await visit.page.locator("#email").is_visible()


async def test_a_form_is_sent_once_however_often_its_button_is_clicked(site: Running, browser: Browser) -> None:
    async with tab(browser, site.url, WIDE) as visit:
        sent: list[str] = []
        visit.page.on("request", lambda request: sent.append(request.url) if request.method == "POST" else None)
        await visit.go("/sign-in")
        await visit.fill(email=ADA, password=PASSWORD)
        await visit.page.evaluate("for (let i = 0; i < 5; i++) document.querySelector('main form button').click()")
        await visit.page.wait_for_url("**/dashboard")
        assert len(sent) == 1


async def test_forms_work_without_script(site: Running, browser: Browser) -> None:
    async with tab(browser, site.url, WITHOUT_SCRIPT) as visit:
        await visit.go("/sign-up")
        await visit.fill(email="bob@example.com", password="password1234")
        await visit.press("Sign up")
        assert "too easy to guess" in await visit.text()
        await visit.fill(password=PASSWORD)
        await visit.press("Sign up")
        assert "Check your email" in await visit.text()
        await visit.go("/sign-in")
        await visit.fill(email=ADA, password=PASSWORD)
        await visit.press("Sign in")
        assert visit.page.url.endswith("/dashboard")


async def test_the_browsers_time_zone_is_used_at_sign_up_and_offered_once_to_others(
    site: Running, browser: Browser
) -> None:
    async with await browser.new_context(timezone_id="Asia/Tokyo") as context:
        page = await context.new_page()
        await page.goto(site.url + "/sign-up")
        assert await page.locator("input[name=time_zone]").input_value() == "Asia/Tokyo"
        await page.goto(site.url + "/sign-in")
        await page.fill("#email", ADA)
        await page.fill("#password", PASSWORD)
        await page.locator("main form button").first.click()
        await page.get_by_text("Your browser is in Asia/Tokyo.").wait_for()
        await page.get_by_role("button", name="Use my time zone").click()
        await page.get_by_text("last 48 hours, Asia/Tokyo").wait_for()
        assert await page.locator("[data-time-zone-offer]").count() == 0
    user = await site.store.users.find(ADA)
    assert user is not None
    assert user.time_zone == "Asia/Tokyo"


async def test_a_browser_in_utc_gets_no_offer(site: Running, browser: Browser) -> None:
    async with await browser.new_context(timezone_id="UTC") as context:
        page = await context.new_page()
        await page.goto(site.url + "/sign-in")
        await page.fill("#email", ADA)
        await page.fill("#password", PASSWORD)
        await page.locator("main form button").first.click()
        await page.wait_for_url("**/dashboard")
        await page.wait_for_load_state()
        assert await page.locator("[data-time-zone-offer]").is_hidden()
