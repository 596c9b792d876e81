"""The pages that anybody may read."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from support.gateways import EMAIL, Running, running
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.domain.endpoints.chat import CHAT
from tok0n.web.public.guide import GUIDE, WRITTEN_URL, guide_of

pytestmark = pytest.mark.anyio

CANONICAL = re.compile(r'<link rel="canonical"[^>]*>')
"""Names the page's own URL in full, and loads nothing."""

PACKS = """
[packs.starter]
name = "Starter & more"
tokens = 1000000
price_usd = "5.00"
[packs.old]
name = "Not sold any more"
tokens = 10
price_usd = "1.00"
active = false
"""


@pytest.fixture
async def shop(tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox) -> AsyncIterator[Running]:
    """A gateway that sells packs, known by another name."""
    overrides = {"server.public_url": "http://llm.example", "limits.requests_per_minute_per_key": 77}
    more = PACKS + mail_settings(mailbox)
    async with running(tmp_path, upstream_url=upstream.base_url, more=more, overrides=overrides) as gateway:
        yield gateway


async def test_the_first_page_tells_packs_models_limits_and_this_servers_address(shop: Running) -> None:
    async with Visitor(shop.url) as visitor:
        answer = await visitor.get("/")
        said = " ".join(text_of(answer).split())
        assert "Starter & more $5.00 1,000,000 tokens $5.00 per million" in said
        assert "Not sold any more" not in said
        assert "77 requests per minute" in said
        assert 'base_url="http://llm.example/v1"' in said
        assert "demo" in said
        assert "set-cookie" not in answer.headers, "nobody who only looks is given a cookie"


async def test_docs_carry_this_servers_address_and_never_a_key(shop: Running, mailbox: Mailbox) -> None:
    async with Visitor(shop.url) as visitor:
        for signed_in in (False, True):
            if signed_in:
                await join(visitor, mailbox, EMAIL)
            for page in GUIDE:
                for path in (f"/docs/{page.slug}", f"/docs/{page.slug}.md"):
                    answer = await visitor.get(path)
                    assert answer.status_code == 200
                    assert WRITTEN_URL not in answer.text
                    assert not re.search(r"tk0n_\w{8}", answer.text)
            quickstart = (await visitor.get("/docs")).text
            assert "http://llm.example/v1/chat/completions" in quickstart
            assert "$TOK0N_API_KEY" in quickstart


async def test_every_link_of_a_public_page_leads_somewhere(site: Running, visitor: Visitor) -> None:
    seen: set[str] = set()
    waiting = ["/", "/docs", "/sign-in", "/sign-up", "/reset-password"]
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = await visitor.get(path)
        assert answer.status_code == 200, path
        if "text/html" not in answer.headers["content-type"]:
            continue
        for link in re.findall(r'(?:href|src|action)="([^"]+)"', CANONICAL.sub("", answer.text)):
            target = urlsplit(link)
            assert not target.netloc, f"{path} loads or links {link}"
            if target.fragment and target.path in {"", path}:
                assert f'id="{target.fragment}"' in answer.text, f"{path}: {link}"
            if target.path:
                waiting.append(target.path + (f"?{target.query}" if target.query else ""))
    assert {f"/docs/{page.slug}" for page in guide_of([CHAT])} <= seen


async def test_llms_txt_names_what_a_program_needs(site: Running, visitor: Visitor) -> None:
    answer = await visitor.get("/llms.txt")
    assert answer.headers["content-type"].startswith("text/plain")
    assert f"Base URL: {site.base_url}" in answer.text
    assert "Available models: `demo`. `stream: true` works with: none." in answer.text
    for link in re.findall(r"\((http\S+)\)", answer.text):
        assert (await visitor.get(link.removeprefix(site.url))).status_code == 200, link


async def test_assets_are_kept_for_good_by_addresses_that_change_with_them(site: Running, visitor: Visitor) -> None:
    page = (await visitor.get("/")).text
    for name in ("tok0n.css", "tok0n.js", "htmx.min.js", "icon.svg"):
        found = re.search(rf'"(/assets/{re.escape(name)}\?v=[0-9a-f]{{16}})"', page)
        assert found is not None, name
        answer = await visitor.get(found[1])
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
        assert "immutable" in answer.headers["cache-control"]
    for path in ("/assets/../app.py", "/assets/%2e%2e/app.py", "/assets/.htmx.py", "/assets/"):
        assert (await visitor.get(path)).status_code == 404, path
