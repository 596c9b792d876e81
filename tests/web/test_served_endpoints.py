"""Pages, docs, /llms.txt and the OpenAPI document name the endpoints of this server, and no others."""

import ast
import html
import json
import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route

from support.gateways import EMAIL, Running, running
from support.http import request
from support.mailbox import Mailbox
from support.scripted_upstream import ScriptedUpstream
from support.users import join, mail_settings
from support.visitor import Visitor, text_of
from tok0n.domain.endpoints import BY_NAME, ENDPOINTS
from tok0n.web.public.guide import GUIDE, WRITTEN_BASE_URL, WRITTEN_MODEL, GuidePage, read
from tok0n.web.rendering.snippets import make_snippets

pytestmark = pytest.mark.anyio

SHOWN = [endpoint for endpoint in ENDPOINTS if endpoint.example is not None]
DECLARED = [
    ("chat",),
    ("embeddings",),
    ("messages",),
    ("chat", "responses"),
    ("chat", "embeddings", "responses", "messages"),
]
MODEL = "demo"
OTHER = """\
[models.other]
upstream = "fake"
endpoints = ["chat", "messages"]
max_output_tokens = 100
default_output_tokens = 100
"""


def paths_of(names: tuple[str, ...]) -> set[str]:
    """The paths of endpoints by their names in the settings."""
    return {endpoint.path for endpoint in ENDPOINTS if endpoint.listed_name in names}


def settings_of(names: tuple[str, ...], more: str = "") -> str:
    return f"endpoints = {json.dumps(names)}\n{more}"


def named_in(text: str) -> set[str]:
    """The paths of endpoints that a text names."""
    every = {endpoint.path for endpoint in ENDPOINTS}
    return every & set(re.findall(r"POST (/v1/[\w/]+)", html.unescape(re.sub(r"<[^>]+>", " ", text))))


@pytest.mark.parametrize("names", DECLARED, ids="+".join)
async def test_the_openapi_document_offers_the_paths_that_exist(
    tmp_path: Path, upstream: ScriptedUpstream, names: tuple[str, ...]
) -> None:
    """Every server has the path of chat: without models, the error then says that the model is unknown."""
    async with running(tmp_path, upstream_url=upstream.base_url, more=settings_of(names)) as gateway:
        document: Any = (await request(gateway.base_url, "GET", "/openapi.json")).json
        existing = set()
        for endpoint in ENDPOINTS:
            headers = {"authorization": f"Bearer {gateway.api_key}"}
            answer = await request(gateway.base_url, "POST", endpoint.path, b"{}", headers)
            assert answer.status in (400, 404), endpoint.path
            if answer.status == 400:
                existing.add(endpoint.path)
        assert existing == paths_of(names) | {BY_NAME["chat"].path}
        assert existing == {path for path, item in document["paths"].items() if "post" in item}
        model = document["components"]["schemas"]["Model"]
        (listed,) = (await request(gateway.base_url, "GET", "/v1/models")).json["data"]
        assert set(listed) == set(model["required"]) == set(model["properties"])
        if names != ("chat",):
            assert listed["endpoints"] == list(names)
            assert set(listed["endpoints"]) <= set(model["properties"]["endpoints"]["items"]["enum"])


@pytest.mark.parametrize("names", DECLARED, ids="+".join)
async def test_public_pages_name_the_endpoints_of_this_server_and_no_others(
    tmp_path: Path, upstream: ScriptedUpstream, names: tuple[str, ...]
) -> None:
    served = paths_of(names)
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=settings_of(names)) as gateway,
        Visitor(gateway.url) as visitor,
    ):
        landing = (await visitor.get("/")).text
        llms = (await visitor.get("/llms.txt")).text
        if names == ("chat",):
            assert (named_in(landing), named_in(llms)) == ({BY_NAME["chat"].path}, set()), "the example of a receipt"
            assert "Chat completions only." in llms
        else:
            assert named_in(landing) == served & {endpoint.path for endpoint in SHOWN}
            assert named_in(llms) == served
            assert "Chat completions only" not in llms
        sdks = {"OpenAI": {"chat", "embeddings", "responses"}, "Anthropic": {"messages"}}
        vendors = [vendor for vendor, theirs in sdks.items() if theirs & set(names)]
        assert f"<h1>Prepaid tokens for any {' or '.join(vendors)} SDK</h1>" in landing
        assert f"A prepaid, {'- and '.join(vendors)}-compatible LLM gateway." in llms
        docs = (await visitor.get("/docs/endpoints")).text
        rows = set(re.findall(r"<td[^>]*><code>POST (/v1/[\w/]+)</code></td>", docs))
        assert rows == served | {BY_NAME["chat"].path}
        pages = [page.slug for page in GUIDE if not page.endpoint or page.endpoint in {*names, "chat"}]
        assert re.findall(r'<li><a href="/docs/(\w+)"', docs) == pages
        assert re.findall(r"/docs/(\w+)\.md", llms) == pages


@pytest.mark.parametrize("names", DECLARED, ids="+".join)
async def test_docs_use_a_model_that_serves_the_endpoint_or_say_that_none_does(
    tmp_path: Path, upstream: ScriptedUpstream, names: tuple[str, ...]
) -> None:
    more = settings_of(names, OTHER)
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=more) as gateway,
        Visitor(gateway.url) as visitor,
    ):
        await disable(gateway, "other")
        for page in GUIDE:
            for path in (f"/docs/{page.slug}", f"/docs/{page.slug}.md"):
                answer = await visitor.get(path)
                assert answer.status_code == 200
                has_notice = "No model of this server serves" in text_of(answer)
                assert has_notice == (bool(page.endpoint) and page.endpoint not in names), path
                if has_notice:
                    assert named_in(answer.text) >= paths_of(names), path


async def disable(gateway: Running, model_id: str) -> None:
    """Disable a model in the database, and wait until the server has read it."""
    await gateway.store.models.set_enabled(model=model_id, enabled=False)
    async with httpx.AsyncClient() as http:
        while model_id in (await http.get(f"{gateway.base_url}/models")).text:
            pass


async def test_docs_put_each_endpoints_own_model_into_its_examples(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    more = settings_of(("chat",), '[models."vec-3"]\nupstream = "fake"\nendpoints = ["embeddings"]\n')
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=more) as gateway,
        Visitor(gateway.url) as visitor,
    ):
        embeddings = (await visitor.get("/docs/embeddings.md")).text
        assert '"model": "vec-3"' in embeddings
        assert 'model="vec-3"' in embeddings
        assert not re.search(r"\bdemo\b", embeddings)
        assert '"model": "demo"' in (await visitor.get("/docs/quickstart.md")).text


@pytest.mark.parametrize("names", DECLARED, ids="+".join)
async def test_the_page_of_a_new_key_has_snippets_for_each_endpoint_that_the_key_may_call(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox, names: tuple[str, ...]
) -> None:
    more = settings_of(names, mail_settings(mailbox))
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=more) as gateway,
        Visitor(gateway.url) as visitor,
    ):
        await join(visitor, mailbox, EMAIL)
        page = await visitor.post("/dashboard/keys", {"name": "k", "models": MODEL})
        ids = re.findall(r'<pre class="code" id="([\w-]+)"', page.text)
        shown = [endpoint.name for endpoint in SHOWN if endpoint.name in names]
        assert ids == [f"{name}-{number}" for name in shown for number in (1, 2, 3)]
        assert page.text.count(" open>") == (len(shown) > 1)


async def test_the_snippets_of_a_key_use_only_models_that_it_may_call(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    more = settings_of(("embeddings",), OTHER + mail_settings(mailbox))
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=more) as gateway,
        Visitor(gateway.url) as visitor,
    ):
        await join(visitor, mailbox, EMAIL)
        for models, shown in (
            ({}, ["chat", "embeddings", "messages"]),
            ({"models": MODEL}, ["embeddings"]),
            ({"models": "other"}, ["chat", "messages"]),
        ):
            page = await visitor.post("/dashboard/keys", {"name": "k"} | models)
            assert re.findall(r'id="(\w+)-1"', page.text) == shown
            code = "".join(re.findall(r'<pre class="code" id="\w+-.*?</pre>', page.text, re.DOTALL))
            assert (MODEL in code, "other" in code) == ("embeddings" in shown, "chat" in shown)


@pytest.mark.parametrize("endpoint", SHOWN, ids=[endpoint.name for endpoint in SHOWN])
@given(model=st.text(min_size=1).filter(str.isprintable))
def test_snippets_call_the_endpoint_with_any_model(endpoint: Any, model: str) -> None:
    snippets = make_snippets(endpoint, "https://example.com/tok0n/v1", model=model)
    command = shlex.split(snippets.curl.replace("\\\n", ""))
    assert command[:3] == ["curl", "-i", f"https://example.com/tok0n{endpoint.path}"]
    body = command[-1].encode()
    assert json.loads(body)["model"] == model
    program = ast.walk(ast.parse(snippets.python))
    constants = {node.value for node in program if isinstance(node, ast.Constant)}
    assert {model, "https://example.com/tok0n" + ("" if snippets.sdk == "Anthropic" else "/v1")} <= constants
    assert f"model: {json.dumps(model, ensure_ascii=False)}," in snippets.node


@pytest.mark.parametrize("page", [page for page in GUIDE if page.endpoint and not page.streams], ids=lambda it: it.slug)
def test_the_docs_of_an_endpoint_have_its_node_program(page: GuidePage) -> None:
    """The program of the pages, which tests/clients/test_snippets.py runs. Chat's docs have programs of their own."""
    (endpoint,) = (endpoint for endpoint in SHOWN if endpoint.name == page.endpoint)
    program = make_snippets(endpoint, WRITTEN_BASE_URL, model=WRITTEN_MODEL).node
    assert (f"```js\n{program}\n```" in read(page)) == (page.endpoint != "chat")


async def test_a_server_without_listed_models_still_has_its_pages(
    tmp_path: Path, upstream: ScriptedUpstream, mailbox: Mailbox
) -> None:
    more = settings_of(("embeddings",), mail_settings(mailbox))
    async with (
        running(tmp_path, upstream_url=upstream.base_url, more=more) as gateway,
        Visitor(gateway.url) as visitor,
    ):
        await join(visitor, mailbox, EMAIL)
        await disable(gateway, MODEL)
        for route in gateway.routes:
            if isinstance(route, Route) and route.path in {"/", "/llms.txt", "/docs", "/dashboard/playground"}:
                assert (await visitor.get(route.path)).status_code == 200, route.path
        assert "Available models: none." in (await visitor.get("/llms.txt")).text
        assert "No models are available right now" in (await visitor.get("/dashboard/playground")).text
        key = await visitor.post("/dashboard/keys", {"name": "k"})
        assert 'id="chat-1"' in key.text
        assert "MODEL" in key.text
