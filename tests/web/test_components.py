"""The demo's page of components, where a developer sees each of them."""

import re
from pathlib import Path

import pytest

import tok0n
from support.gateways import Running, running
from support.scripted_upstream import ScriptedUpstream
from support.visitor import Visitor
from tok0n.web.public.components import PATH

pytestmark = pytest.mark.anyio

TEMPLATES = Path(tok0n.__file__).parent / "web" / "templates"
PARTS = {"described", "error", "form_id"}
"""Macros that show nothing alone: other macros, and forms, use them."""


def test_every_component_is_on_the_page() -> None:
    macros = set(re.findall(r"{%-? macro (\w+)\(", (TEMPLATES / "components.html").read_text()))
    shown = set(re.findall(r"\bui\.(\w+)\(", (TEMPLATES / "dev_components.html").read_text()))
    assert len(macros) > 20
    assert macros - shown == PARTS


async def test_only_the_demo_has_the_page(tmp_path: Path, upstream: ScriptedUpstream, gateway: Running) -> None:
    async with Visitor(gateway.url) as visitor:
        assert (await visitor.get(PATH)).status_code == 404
    folder = tmp_path / "demo"
    folder.mkdir()
    async with (
        running(folder, upstream_url=upstream.base_url, shows_components=True) as demo,
        Visitor(demo.url) as visitor,
    ):
        answer = await visitor.get(PATH)
        assert answer.status_code == 200
        assert "<h1>Components</h1>" in answer.text
