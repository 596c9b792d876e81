"""A confirmation link signs in at once in the browser that signed up, and asks for the password everywhere else."""

import asyncio
import html
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.gateways import Running, running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.adapters.clock import SystemClock
from tok0n.domain.users import LINK_LIFETIME_US

pytestmark = pytest.mark.anyio

ADA = "ada@example.com"
EVIL = "twelve loud mountains"
COOKIE = "tok0n-sign-up"


@pytest.fixture
async def eve(site: Running) -> AsyncIterator[Visitor]:
    async with Visitor(site.url) as eve:
        yield eve


async def sign_up(visitor: Visitor, mailbox: Mailbox, *, email: str = ADA, password: str = PASSWORD) -> str:
    """Sign up, and return the emailed link."""
    answer = await visitor.post("/sign-up", {"email": email, "password": password})
    assert answer.status_code == 200, answer.text
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=")
    for word in ("; HttpOnly", "; Path=/", "; SameSite=lax", "; Max-Age=86400"):
        assert word in cookie
    return await mailbox.take_link(email)


async def is_signed_in(visitor: Visitor) -> bool:
    return (await visitor.get("/dashboard")).status_code == 200


async def test_the_browser_that_signed_up_is_signed_in_by_the_link(visitor: Visitor, mailbox: Mailbox) -> None:
    answer = await visitor.get(await sign_up(visitor, mailbox))
    assert (answer.status_code, answer.headers["location"]) == (303, "/dashboard")
    assert answer.headers["cache-control"] == "no-store"
    assert await is_signed_in(visitor)
    assert COOKIE not in visitor.cookies, "the cookie is used once"


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-purpose": "prefetch;prerender"},
        {"purpose": "prefetch"},
        {"sec-fetch-dest": "image"},
        {"sec-fetch-dest": "iframe"},
    ],
)
async def test_a_prefetch_does_not_consume_the_link(
    visitor: Visitor, mailbox: Mailbox, headers: dict[str, str]
) -> None:
    link = await sign_up(visitor, mailbox)
    answer = await visitor.get(link, headers)
    assert (answer.status_code, "set-cookie" in answer.headers) == (200, False)
    assert (await visitor._http.head(link)).status_code == 200
    assert not await is_signed_in(visitor)
    assert (await visitor.get(link, {"sec-fetch-dest": "document"})).status_code == 303


async def test_a_mail_scanner_neither_signs_in_nor_consumes_the_link(
    visitor: Visitor, eve: Visitor, mailbox: Mailbox
) -> None:
    link = await sign_up(visitor, mailbox)
    for _ in range(3):
        seen = await eve.get(link)
        assert (seen.status_code, "Enter the password" in seen.text) == (200, True)
        assert (await eve._http.head(link)).status_code == 200
    assert not await is_signed_in(eve)
    assert (await visitor.get(link)).status_code == 303


async def test_whoever_signs_up_with_the_address_of_another_gets_nothing_when_its_owner_opens_the_link(
    visitor: Visitor, eve: Visitor, mailbox: Mailbox
) -> None:
    """ADR 9: the owner of the address must not open an account whose password a stranger knows."""
    link = await sign_up(eve, mailbox, password=EVIL)
    assert "Enter the password" in (await visitor.get(link)).text
    assert not await is_signed_in(visitor)
    assert "Incorrect password" in (await visitor.post("/verify", {"password": PASSWORD}, page=link)).text


async def test_a_later_sign_up_replaces_password_link_and_browser_together(
    visitor: Visitor, eve: Visitor, mailbox: Mailbox
) -> None:
    first = await sign_up(visitor, mailbox)
    second = await sign_up(eve, mailbox, password=EVIL)
    assert (await visitor.get(first)).status_code == 410
    assert (await visitor.get(second)).status_code == 200, "the newer link asks this browser for the password"
    assert not await is_signed_in(visitor)
    third = await sign_up(visitor, mailbox)
    assert (await eve.get(third)).status_code == 200
    assert not await is_signed_in(eve)
    assert (await visitor.get(third)).status_code == 303
    assert (await eve.sign_in(ADA, EVIL)).status_code == 422
    assert (await eve.sign_in(ADA, PASSWORD)).status_code == 303


async def test_racing_sign_ups_never_pair_a_link_with_the_password_of_another(site: Running, mailbox: Mailbox) -> None:
    browsers = [Visitor(site.url) for _ in range(4)]
    passwords = [f"quiet rivers number {number}" for number in range(4)]
    fields = [{"email": ADA, "password": password} for password in passwords]
    await asyncio.gather(*(browser.post("/sign-up", form) for browser, form in zip(browsers, fields, strict=True)))
    await site.sign_in.wait_until_idle()
    links = [await mailbox.take_link(ADA) for _ in browsers]
    signed_in = []
    for link in links:
        for browser, password in zip(browsers, passwords, strict=True):
            if (await browser.get(link)).status_code == 303:
                signed_in.append(password)
    (password,) = signed_in
    async with Visitor(site.url) as visitor:
        assert (await visitor.sign_in(ADA, password)).status_code == 303
    for browser in browsers:
        await browser.__aexit__(None, None, None)


async def test_the_cookie_of_another_sign_up_is_not_enough(visitor: Visitor, eve: Visitor, mailbox: Mailbox) -> None:
    link = await sign_up(visitor, mailbox)
    await sign_up(eve, mailbox, email="eve@example.com")
    assert (await eve.get(link)).status_code == 200
    assert not await is_signed_in(eve)
    for cookie in ("", "x", "x" * 5_000):
        answer = await eve.get(link, {"cookie": f"{COOKIE}={cookie}"})
        assert answer.status_code in {200, 431}


async def test_a_link_does_not_work_after_a_day(
    site: Running, visitor: Visitor, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await sign_up(visitor, mailbox)
    later_us = SystemClock().now_us() + LINK_LIFETIME_US
    with monkeypatch.context() as patched:
        patched.setattr(type(site.clock), "now_us", lambda _: later_us)
        assert (await visitor.get(link)).status_code == 410
    assert not await is_signed_in(visitor)


async def test_a_link_works_once(visitor: Visitor, mailbox: Mailbox) -> None:
    link = await sign_up(visitor, mailbox)
    cookie = visitor.cookies[COOKIE]
    assert (await visitor.get(link)).status_code == 303
    again = await visitor.get(link)
    assert (again.status_code, "You're signed in" in html.unescape(again.text)) == (410, True)
    visitor.cookies.clear()
    answer = await visitor.get(link, {"cookie": f"{COOKIE}={cookie}"})
    assert (answer.status_code, "set-cookie" in answer.headers) == (410, False)


async def test_a_cookie_of_the_plain_path_does_not_work_under_a_prefix_with_https(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    overrides = {"server.public_url": "https://tok0n.example/below"}
    more = mail_settings(mailbox)
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=more, overrides=overrides) as site,
        Visitor(site.url) as visitor,
    ):
        answer = await visitor.post("/below/sign-up", {"email": ADA, "password": PASSWORD})
        cookie = answer.headers["set-cookie"]
        assert cookie.startswith(f"__Secure-{COOKIE}=")
        assert "; Path=/below;" in cookie
        assert "; Secure" in cookie
        secret = cookie.partition("=")[2].partition(";")[0]
        mail = (await mailbox.take(ADA)).get_content()
        path = "/below/verify?link=" + mail.partition("/below/verify?link=")[2].split()[0]
        for name in (COOKIE, f"__Host-{COOKIE}", f"__Secure-{COOKIE}-2"):
            assert (await visitor.get(path, {"cookie": f"{name}={secret}"})).status_code == 200
        assert (await visitor.get(path, {"cookie": f"__Secure-{COOKIE}={secret}"})).status_code == 303


@pytest.mark.parametrize(
    ("reported", "stored"),
    [("Europe/Berlin", "Europe/Berlin"), ("Asia/Kolkata", "Asia/Kolkata"), ("Mars/Base", "UTC"), ("", "UTC")],
)
async def test_the_time_zone_comes_from_the_browser_that_signs_up(
    site: Running, visitor: Visitor, mailbox: Mailbox, reported: str, stored: str
) -> None:
    await visitor.post("/sign-up", {"email": ADA, "password": PASSWORD, "time_zone": reported})
    await visitor.get(await mailbox.take_link(ADA))
    user = await site.store.users.find(ADA)
    assert user is not None
    assert user.time_zone == stored


async def test_an_invited_user_gets_the_time_zone_of_the_browser(site: Running, visitor: Visitor) -> None:
    link = await site.sign_in.invite(ADA)
    fields = {"password": PASSWORD, "time_zone": "Asia/Kolkata"}
    assert (await visitor.post("/invitation", fields, page=link.partition("8080")[2] or link)).status_code == 303
    user = await site.store.users.find(ADA)
    assert user is not None
    assert user.time_zone == "Asia/Kolkata"


@pytest.mark.parametrize(
    ("path", "next_step", "label"),
    [
        ("/verify", "/sign-in", "Sign in"),
        ("/new-password", "/reset-password", "Request a new link"),
        ("/invitation", "/sign-in", "Sign in"),
        ("/set-up", "/sign-in", "Sign in"),
        ("/new-address", "/dashboard/settings", "Go to settings"),
    ],
)
async def test_a_link_that_no_longer_works_says_so_before_anything_is_typed(
    visitor: Visitor, path: str, next_step: str, label: str
) -> None:
    for link in ("?link=used", ""):
        answer = await visitor.get(path + link)
        assert answer.status_code == 410
        assert "This link no longer works" in answer.text
        assert "<form" not in answer.text.partition("<main")[2]
        assert f'href="{next_step}">{label}<' in answer.text


async def test_without_email_no_page_says_that_one_was_sent(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with running(tmp_path, upstream_url=upstream.base_url) as site, Visitor(site.url) as visitor:
        pages = [
            await visitor.post("/sign-up", {"email": ADA, "password": PASSWORD}),
            await visitor.post("/reset-password", {"email": ADA}),
            await visitor.get("/verify?link=used"),
            await visitor.get("/new-password?link=used"),
        ]
        await site.sign_in.wait_until_idle()
        pages.append(await visitor.sign_in(ADA, PASSWORD))
        for page in pages:
            text = text_of(page)
            assert "support" in text
            assert "We sent" not in text
            assert "new link." not in text.replace("Contact support to get a new link.", "")


async def test_welcome_tokens_are_granted_once_for_an_address(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    more = "[accounts]\nwelcome_tokens = 5000\nwelcome_grants_per_day = 2\n" + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more) as site:
        balances = []
        for name in ("ada", "bob", "eve"):
            async with Visitor(site.url) as visitor:
                await join(visitor, mailbox, f"{name}@example.com")
                balances.append((await site.store.accounts.get(f"{name}@example.com")).balance.posted)
                if name == "ada":
                    statement = text_of(await visitor.get("/dashboard/statement"))
                    assert "welcome tokens" in statement
        assert balances == [5_000, 5_000, 0]
        assert await site.audit_is_clean()
