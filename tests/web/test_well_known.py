"""What browsers and crawlers ask every site for."""

import urllib.robotparser
from pathlib import Path

import pytest
from starlette.routing import Route

from support.gateways import Running, running
from support.scripted_upstream import ScriptedUpstream
from support.visitor import Visitor

pytestmark = pytest.mark.anyio

FOR_CRAWLERS = {
    *("/", "/docs", "/docs/{slug}", "/models", "/models/{model:path}"),
    *("/llms.txt", "/robots.txt", "/favicon.ico", "/assets/{name}"),
}


async def test_crawlers_may_read_public_pages_and_nothing_else(site: Running, visitor: Visitor) -> None:
    answer = await visitor.get("/robots.txt")
    rules = urllib.robotparser.RobotFileParser()
    rules.parse(answer.text.splitlines())
    paths = {route.path for route in site.routes if isinstance(route, Route)}

    assert answer.headers["content-type"].startswith("text/plain")
    assert {path for path in paths if rules.can_fetch("anybot", path)} == FOR_CRAWLERS
    assert rules.can_fetch("anybot", "/assets/tok0n.css")


async def test_rules_for_crawlers_and_the_icon_have_the_path_of_public_url(
    tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    overrides = {"server.public_url": "https://example.com/tok0n"}
    async with (
        running(tmp_path, upstream_url=upstream.base_url, overrides=overrides) as gateway,
        Visitor(gateway.url) as visitor,
    ):
        assert "Disallow: /tok0n/dashboard\n" in (await visitor.get("/tok0n/robots.txt")).text
        location = (await visitor.get("/favicon.ico")).headers["location"]
        assert location.startswith("/tok0n/assets/icon.svg?v=")
        assert (await visitor.get(location)).headers["content-type"] == "image/svg+xml"
