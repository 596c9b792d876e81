"""The docs in the app: this server's limits, search, anchors, and nothing that only an operator can use."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from support.gateways import Running, running
from support.scripted_upstream import ScriptedUpstream
from support.visitor import Visitor, text_of
from tok0n.domain.rate_limit import RateLimits
from tok0n.domain.token_classes import TokenClasses
from tok0n.settings.schema import (
    SECTIONS,
    TABLES,
    LimitsSettings,
    ModelSettings,
    ServerSettings,
    UpstreamSettings,
    fields_of,
)
from tok0n.web.public.guide import FEATURE, GUIDE, VALUE, fill, read
from tok0n.web.public.guide_rendering import render, sections_of
from tok0n.web.public.guide_search import RESULTS_MAX, highlight
from tok0n.web.public.guide_values import ServerFacts

pytestmark = pytest.mark.anyio

CHANGED: dict[str, Any] = {
    "server.public_url": "http://llm.example",
    "server.max_body_bytes": 5 * 1024**2,
    "server.body_read_seconds": 31.0,
    "server.buffered_bytes_max": 129 * 1024**2,
    "server.connections_per_client_max": 2_049,
    "server.streams_max": 5_001,
    "server.unread_bytes_max": 130 * 1024**2,
    "server.stream_hold_seconds": 11.0,
    "limits.requests_per_minute_per_key": 61,
    "limits.concurrent_requests_per_account": 11,
    "limits.upstream_requests_per_minute": 1_055,
}
PUBLIC_NAMES = {
    "endpoints",
    "format",
    "max_output_tokens",
    "token_class",
    "name",
    "models",
    "model",
    "api_key",
    "tokens",
    "auth",
    "query",
    "url",
}
"""Names of settings that are also fields of the API or ordinary words."""


def facts(**changes: Any) -> ServerFacts:
    """What a server with the default settings and one model says."""
    server, limits = ServerSettings(), LimitsSettings()
    upstream = UpstreamSettings(base_url="http://127.0.0.1:1/v1")
    model = ModelSettings(upstream="fake")
    values: dict[str, Any] = {
        "limits": RateLimits(**{name: getattr(limits, name) for name in RateLimits.__struct_fields__}),
        "body_bytes_max": server.max_body_bytes,
        "body_seconds": server.body_read_seconds,
        "buffered_bytes_max": server.buffered_bytes_max,
        "connections_per_client_max": server.connections_per_client_max,
        "streams_max": server.streams_max,
        "unread_bytes_max": server.unread_bytes_max,
        "stream_hold_seconds": server.stream_hold_seconds,
        "answer_bytes_max": [upstream.body_bytes_max],
        "timeout_seconds": [upstream.timeout_seconds],
        "stream_seconds": [upstream.stream_seconds],
        "stream_idle_seconds": [upstream.stream_idle_seconds],
        "tools_max": [model.tools_max],
        "stop_sequences_max": [model.stop_sequences_max],
        "registration": "open",
        "sells": True,
        "token_classes": TokenClasses(),
        "continuous_models": [],
        "is_streaming": False,
    }
    return ServerFacts(**values | changes)


def test_the_limits_in_the_files_are_those_of_the_default_settings() -> None:
    written = {name: text for page in GUIDE for name, text in VALUE.findall(read(page))}
    defaults = facts().limit_values
    assert {name: written[name] for name in defaults} == defaults


def test_every_marker_in_the_files_has_a_value() -> None:
    values = {**facts().values, "streaming_models": ""}
    for page in GUIDE:
        text = fill(read(page), values, {"sells"})
        assert "<!--" not in text, page.slug
    named = {name for page in GUIDE for name, _ in FEATURE.findall(read(page))}
    everything = facts(token_classes=TokenClasses({"premium": "Premium"}), continuous_models=["m"], is_streaming=True)
    assert named == everything.features


@pytest.mark.parametrize(
    ("changes", "name", "text"),
    [
        ({"tools_max": [128, 500]}, "tools", "128 to 500, depending on the model"),
        ({"tools_max": []}, "tools", "none"),
        ({"timeout_seconds": [600.0]}, "timeout", "10 min"),
        ({"timeout_seconds": [90.5, 30.0]}, "timeout", "30 s to 90.5 s, depending on the model"),
        ({"body_bytes_max": 1_500}, "body_bytes", "1,500 bytes"),
        ({"body_bytes_max": 2**30}, "body_bytes", "1 GiB"),
        ({"registration": "closed"}, "sign_up", "**Sign in.** You can't sign up here: support creates accounts."),
        (
            {"sells": False},
            "get_tokens",
            "Redeem a code on the page *Buy*. Tokens on this service are granted, not sold.",
        ),
        ({"token_classes": TokenClasses({"p": "Premium"})}, "classes", "This server has: Standard tokens, Premium."),
        ({"continuous_models": ["a", "b"]}, "continuous_models", "`a`, `b`"),
    ],
)
def test_a_value_is_what_this_server_has(changes: dict[str, Any], name: str, text: str) -> None:
    assert facts(**changes).values[name] == text


@pytest.fixture
async def other(tmp_path: Path, upstream: ScriptedUpstream) -> AsyncIterator[Visitor]:
    """A visitor of a server whose limits differ from all defaults."""
    async with (
        running(tmp_path, upstream_url=upstream.base_url, overrides=CHANGED) as gateway,
        Visitor(gateway.url) as visitor,
    ):
        yield visitor


async def test_the_docs_state_this_servers_limits(other: Visitor) -> None:
    for path in ("/docs/limits", "/docs/limits.md"):
        text = " ".join(text_of(await other.get(path)).replace("|", " ").split())
        for limit in ("5 MiB", "31 s, with", "129 MiB", "2,049", "5,001", "130 MiB", "of its own 61", "1,055"):
            assert limit in text, (path, limit)
        assert "These are the limits of this server." in text
        assert "default" not in text
        assert "<!--" not in text
    assert "at most 11 seconds" in " ".join(text_of(await other.get("/docs/streaming")).split())
    assert "Tokens on this service are granted, not sold." in text_of(await other.get("/docs/quickstart"))
    faq = text_of(await other.get("/docs/faq"))
    assert ("buy a pack" in faq, "refund" in faq) == (False, False)


async def test_customers_docs_name_no_setting(site: Running, visitor: Visitor) -> None:
    sections = [*SECTIONS.values(), *TABLES.values()]
    settings = {name for section in sections for name in fields_of(section)} - PUBLIC_NAMES
    settings |= {f"{section}.{name}" for section, struct in SECTIONS.items() for name in fields_of(struct)}
    for page in GUIDE:
        text = (await visitor.get(f"/docs/{page.slug}.md")).text
        assert set(re.findall(r"`([\w.]+)`", text)) & settings == set(), page.slug
        assert "operator" not in text.lower(), page.slug
        assert "configuration.md" not in text, page.slug


async def test_search_finds_sections_and_leads_to_them(site: Running, visitor: Visitor) -> None:
    page = await visitor.get("/docs/search?q=Insufficient_tokens")
    assert "<mark>insufficient_tokens</mark>" in page.text
    for query, link in (
        ("claude code", "/docs/recipes#claude-code"),
        ("budgets reset", "/docs/billing#limit-an-api-key"),
        ("retry-after-ms", "/docs/endpoints#headers-of-a-response"),
    ):
        page = await visitor.get(f"/docs/search?q={query}")
        links = re.findall(r'<li><a href="(/docs/[^"]+)"><span', page.text)
        assert link in links[:3], (query, links)
        path, _, anchor = link.partition("#")
        assert f'id="{anchor}"' in (await visitor.get(path)).text
    nothing = await visitor.get("/docs/search?q=zebra+tokens")
    assert "Nothing in the docs matches “zebra tokens”" in text_of(nothing)
    assert (await visitor.get("/docs/search")).status_code == 200
    many = await visitor.get("/docs/search?q=t")
    assert len(re.findall(r'<li><a href="/docs/[^"]+"><span', many.text)) == RESULTS_MAX


@pytest.mark.parametrize(
    "query", ["<script>alert(1)</script>", '"><img src=x>', "a.*(b", "</mark>", "&lt;", "x" * 10_000]
)
async def test_a_search_query_is_text(site: Running, visitor: Visitor, query: str) -> None:
    page = await visitor.get(f"/docs/search?{urlencode({'q': query})}")
    assert page.status_code == 200
    for tag in ("<script>alert", "<img", "</mark></mark>"):
        assert tag not in page.text


def test_highlighting_escapes_the_text_and_marks_each_word() -> None:
    assert highlight("a <b> B&b", ["b"]) == "a &lt;<mark>b</mark>&gt; <mark>B</mark>&amp;<mark>b</mark>"
    assert highlight("tokens token", ["token", "tokens"]) == "<mark>tokens</mark> <mark>token</mark>"


def test_code_in_several_languages_is_a_group_of_tabs() -> None:
    html = render("```sh\ncurl <x>\n```\n\n```python\nprint()\n```\n\nText\n\n```js\nalone\n```\n").html
    assert (html.count('type="radio"'), html.count("data-language"), html.count("<pre")) == (2, 2, 3)
    assert html.count(" checked") == 1
    assert "curl &lt;x&gt;" in html
    same = render("```python\na\n```\n\n```python\nb\n```\n").html
    assert 'type="radio"' not in same


def test_headings_with_the_same_text_have_different_anchors() -> None:
    text = "# T\n\n## A `b`\n\nOne.\n\n## A `b`\n\n| x |\n|---|\n| two |\n"
    assert [heading.anchor for heading in render(text).contents] == ["a-b", "a-b-2"]
    assert [(section.heading.anchor, section.text) for section in sections_of(text)] == [
        ("t", ""),
        ("a-b", "One."),
        ("a-b-2", "x two"),
    ]
    assert '<td data-label="x">two</td>' in render(text).html
