"""Passkeys, with the authenticator that Chromium has for tests."""

import json
from pathlib import Path

import pytest
from playwright.async_api import Browser

from support.browser import WIDE, Tab, tab
from support.gateways import running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
DEVICE = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}


async def test_a_passkey_signs_in_until_it_is_removed_and_cannot_be_replayed(
    tmp_path: Path, upstream: ScriptedUpstream, browser: Browser
) -> None:
    async with (
        Mailbox() as mailbox,
        running(tmp_path, upstream_url=upstream.base_url, more=mail_settings(mailbox), host="localhost") as site,
    ):
        url = site.url
        async with Visitor(site.url) as visitor:
            await join(visitor, mailbox, ADA)
        async with tab(browser, url, WIDE) as visit:
            device = await visit.page.context.new_cdp_session(visit.page)
            await device.send("WebAuthn.enable")
            await device.send("WebAuthn.addVirtualAuthenticator", {"options": DEVICE})
            await sign_in(visit)
            await visit.go("/dashboard/settings/passkeys")
            await visit.fill(passkey_name="laptop", passkey_password="wrong")
            await visit.page.get_by_role("button", name="Add passkey").click()
            await visit.page.get_by_text("Incorrect password.").wait_for()
            await visit.check()
            await visit.fill(passkey_name="laptop", passkey_password=PASSWORD)
            await visit.page.get_by_role("button", name="Add passkey").click()
            await visit.page.get_by_text("never used").wait_for()
            await visit.check()
            await visit.sign_out()
            await visit.go("/sign-in")
            async with visit.page.expect_request("**/sign-in/passkey") as sent:
                await visit.page.get_by_role("button", name="Sign in with a passkey").click()
            await visit.page.wait_for_url("**/dashboard")
            await visit.check()
            body = (await sent.value).post_data_json
            assert body is not None
            await visit.go("/dashboard/settings/passkeys")
            assert "last used" in await visit.text()

            async with Visitor(url) as thief:
                for credential in (body["credential"], "{}", "", "[]", json.dumps({"rawId": 1}), "x" * 30_000):
                    answer = await thief.post("/sign-in/passkey", {"credential": credential}, page="/sign-in")
                    assert answer.status_code == (422 if credential == body["credential"] else 400)
                    assert "tok0n" not in thief.cookies

            await visit.press("Remove laptop")
            await visit.sign_out()
            await visit.go("/sign-in")
            await visit.page.get_by_role("button", name="Sign in with a passkey").click()
            await visit.page.get_by_text("recognize this passkey").wait_for()


async def test_passkeys_are_not_offered_where_browsers_have_none(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with running(tmp_path, upstream_url=upstream.base_url) as site, Visitor(site.url) as visitor:
        assert "passkey" not in (await visitor.get("/sign-in")).text


async def sign_in(visit: Tab) -> None:
    await visit.go("/sign-in")
    await visit.fill(email=ADA, password=PASSWORD)
    await visit.press("Sign in")
    await visit.page.wait_for_url("**/dashboard")
