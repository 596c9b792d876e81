"""A `public_url` with a path: every page below it links only below it, whether a proxy strips the path or not."""

import html
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from starlette.routing import Mount, Route

from support.gateways import Running, running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import PASSWORD, mail_settings
from support.visitor import SAME_ORIGIN, Visitor
from tok0n.settings.rules import OWN_SEGMENTS
from tok0n.web.public.guide import GUIDE

pytestmark = pytest.mark.anyio

PREFIX = "/tok0n"
PUBLIC = "https://example.com"
ADDRESSES = re.compile(r'\s(?:href|src|action|hx-get|hx-post|data-options)="([^"]*)"')
PUBLIC_PATHS = ["/", "/docs", "/sign-in", "/sign-up", "/reset-password", "/llms.txt", "/nothing"]
PUBLIC_PATHS += [f"/docs/{page.slug}" for page in GUIDE]
PACKS = """
[packs.small]
name = "Small"
tokens = 1000
price_usd = "5"
"""


@pytest.fixture
async def below(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Running]:
    """A gateway whose customers reach it below a path."""
    more = mail_settings(mailbox) + PACKS
    overrides = {"server.public_url": f"http://Example.com:80{PREFIX}/"}
    async with running(tmp_path, upstream_url=upstream.base_url, more=more, overrides=overrides) as gateway:
        yield gateway


@pytest.fixture
async def guest(below: Running) -> AsyncIterator[Visitor]:
    async with Visitor(below.url + PREFIX) as visitor:
        yield visitor


@pytest.fixture
async def member(below: Running, guest: Visitor, mailbox: Mailbox) -> Visitor:
    """Somebody who signed up below the path, by the link that was mailed, and has made an API key."""
    del below
    await guest.post("/sign-up", {"email": "ada@example.com", "password": PASSWORD})
    link = await mailbox.take_link("ada@example.com")
    assert urlsplit(link).path.startswith(f"{PREFIX}/") or link.startswith(f"{PREFIX}/"), link
    page = urlsplit(link)._replace(scheme="", netloc="").geturl().removeprefix(PREFIX)
    assert guest.cookies.get("tok0n-sign-up", path=PREFIX), "no other path gets the cookie"
    answer = await guest.get(page)
    assert answer.headers["location"] == f"{PREFIX}/dashboard"
    made = await guest.post("/dashboard/keys", {"name": "first"})
    assert made.status_code == 200, made.text
    return guest


def is_outside(address: str, *, page: str) -> bool:
    """Whether an address on a page leads to this host, but not below the path."""
    target = urlsplit(urljoin(f"{PUBLIC}{PREFIX}{page}", address))
    if target.netloc != "example.com" or target.scheme not in {"http", "https"}:
        return False
    return target.path != PREFIX and not target.path.startswith(f"{PREFIX}/")


def problems(answer: httpx.Response, *, page: str) -> list[str]:
    addresses = [html.unescape(address) for address in ADDRESSES.findall(answer.text)]
    if "location" in answer.headers:
        addresses.append(answer.headers["location"])
    found = [f"{page}: {address}" for address in addresses if is_outside(address, page=page)]
    cookies = answer.headers.get_list("set-cookie")
    return found + [f"{page}: {cookie}" for cookie in cookies if f"; Path={PREFIX};" not in f"{cookie};"]


async def crawl(visitor: Visitor, starts: list[str], *, prefix: str, url: str) -> set[str]:
    """Open every page that can be reached from some, and find no address outside; gives the paths."""
    seen: set[str] = set()
    todo = list(starts)
    while todo:
        page = todo.pop()
        if page in seen or len(seen) > 200:
            continue
        seen.add(page)
        answer = await visitor.get(url + prefix + page)
        assert answer.status_code < 500, page
        assert problems(answer, page=page) == []
        if "text/html" not in answer.headers.get("content-type", ""):
            continue
        for address in re.findall(r'\shref="([^"]*)"', answer.text):
            target = urlsplit(urljoin(f"{PUBLIC}{PREFIX}{page}", html.unescape(address)))
            if target.netloc == "example.com" and not target.path.startswith(f"{PREFIX}/assets/"):
                todo.append(target.path.removeprefix(PREFIX) or "/")
    return seen


@pytest.mark.parametrize("prefix", [PREFIX, ""], ids=["kept", "stripped"])
async def test_no_address_on_a_public_page_leaves_the_path(below: Running, guest: Visitor, prefix: str) -> None:
    seen = await crawl(guest, PUBLIC_PATHS, prefix=prefix, url=below.url)

    assert set(PUBLIC_PATHS) <= seen


@pytest.mark.parametrize("prefix", [PREFIX, ""], ids=["kept", "stripped"])
async def test_no_address_on_a_private_page_leaves_the_path(below: Running, member: Visitor, prefix: str) -> None:
    cookies = dict(member.cookies)
    assert set(cookies) >= {"tok0n"}
    member.cookies.clear()
    member.cookies.update(cookies)  # a proxy that strips the path passes the browser's cookies on
    starts = ["/dashboard"]
    paths = (route.path for route in below.routes if isinstance(route, Route))
    starts += [path for path in paths if "{" not in path and path != "/sign-out"]

    seen = await crawl(member, starts, prefix=prefix, url=below.url)

    assert any(re.fullmatch("/dashboard/keys/.+/revoke", path) for path in seen)
    assert any(path.startswith("/dashboard/settings/") for path in seen)


async def test_redirects_forms_and_cookies_stay_below_the_path(below: Running, guest: Visitor) -> None:
    away = await guest.get("/dashboard/keys?x=1")
    assert away.headers["location"] == f"{PREFIX}/sign-in?next=/dashboard/keys%3Fx%3D1"
    shown = await guest.get("/sign-in?next=/dashboard/keys")
    assert 'name="next" value="/dashboard/keys"' in shown.text
    assert problems(shown, page="/sign-in") == []
    options = await guest.post_raw("/sign-in/passkey/options", {})
    assert "; Path=/tok0n;" in options.headers["set-cookie"]
    assert (await guest.get("/sign-in")).status_code == (await guest.get(f"{below.url}/sign-in")).status_code == 200
    assert (await guest.get(f"{below.url}{PREFIX}x/sign-in")).status_code == 404


async def test_signing_out_takes_the_cookie_of_the_path_away(member: Visitor) -> None:
    answer = await member.post("/sign-out", page="/dashboard")

    assert answer.headers["location"] == f"{PREFIX}/"
    assert "; Path=/tok0n" in answer.headers["set-cookie"]
    assert (await member.get("/dashboard")).headers["location"].startswith(f"{PREFIX}/sign-in")


async def test_the_api_answers_with_and_without_the_path(below: Running) -> None:
    headers = {"authorization": f"Bearer {below.api_key}"}
    body = {"model": "demo", "messages": [{"role": "user", "content": "hi"}]}
    async with httpx.AsyncClient(base_url=below.url, headers=headers) as http:
        for prefix in (PREFIX, ""):
            answer = await http.post(f"{prefix}/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            assert (await http.get(f"{prefix}/v1/models")).status_code == 200
            assert (await http.get(f"{prefix}/v1/nothing")).json()["error"]["code"]
            assert (await http.get(f"{prefix}/healthz")).status_code == 200
            document = json.loads((await http.get(f"{prefix}/openapi.json")).text)
            assert document["servers"] == [{"url": PREFIX}]
            assert "http://example.com/tok0n/v1" in (await http.get(f"{prefix}/llms.txt")).text
            assert "http://example.com/tok0n/v1" in (await http.get(f"{prefix}/docs/quickstart.md")).text


@pytest.mark.parametrize(
    ("public_url", "name", "path"),
    [
        ("https://example.com", "__Host-tok0n-passkey", "/"),
        ("https://example.com/tok0n", "__Secure-tok0n-passkey", "/tok0n"),
        ("HTTPS://Example.com:443/a/b/", "__Secure-tok0n-passkey", "/a/b"),
        ("http://example.com", "tok0n-passkey", "/"),
        ("http://example.com/tok0n", "tok0n-passkey", "/tok0n"),
    ],
)
async def test_cookies_have_the_prefix_that_their_path_allows(
    tmp_path: Path, upstream: ScriptedUpstream, public_url: str, name: str, path: str
) -> None:
    overrides = {"server.public_url": public_url}
    async with (
        running(tmp_path, upstream_url=upstream.base_url, overrides=overrides) as gateway,
        httpx.AsyncClient() as http,
    ):
        options = await http.post(f"{gateway.url}/sign-in/passkey/options", headers=SAME_ORIGIN)
        cookie = options.headers["set-cookie"]

    assert cookie.startswith(f"{name}=")
    assert f"; Path={path};" in f"{cookie};"
    assert ("; Secure" in cookie) == public_url.lower().startswith("https")


async def test_no_path_of_ours_can_be_the_path_of_public_url(below: Running) -> None:
    served = {route.path.split("/")[1] for route in below.routes if isinstance(route, Route | Mount)}

    assert served - {""} <= OWN_SEGMENTS
    assert {"v1", "healthz", "readyz", "openapi.json"} <= OWN_SEGMENTS
