"""The example code that pages show for each endpoint runs as it is written, against a real server."""

import html
import json
import re
from pathlib import Path

import pytest

from support.example_code import OURS, RECIPES, run
from support.gateways import ServerProcess
from support.http import request
from support.visitor import Visitor
from tok0n.domain.endpoints import ENDPOINTS

pytestmark = pytest.mark.anyio

NAMES = [endpoint.name for endpoint in ENDPOINTS if endpoint.example is not None]
PRINTED = {
    "chat": "simulated model",
    "embeddings": "1536 numbers",
    "responses": "simulated model",
    "messages": "simulated model",
}
QUOTES = 'it\'s "quoted" \\ $HOME `x` ${y} %s\nnext line'
CONVERSATION = json.dumps(
    [
        {
            "user": "Hello!",
            "assistant": QUOTES,
            "model": "demo",
            "request_id": "req_1",
            "reserved": 10,
            "charged": 5,
        }
    ]
)
LANGUAGES = {"curl": "sh", "python": "python", "node": "js"}


def codes_of(page: str) -> dict[str, str]:
    """The example code of a page, by its id."""
    found = re.findall(r'<pre class="code" id="([\w-]+)"[^>]*>(.*?)</pre>', page, re.DOTALL)
    return {name: html.unescape(code) for name, code in found}


async def billed(demo: ServerProcess, api_key: str) -> int:
    answer = await request(demo.base_url, "GET", "/v1/balance", headers={"authorization": f"Bearer {api_key}"})
    return 1_000_000 - int(answer.json["posted"])


async def test_the_snippets_of_every_page_run_as_they_are_written(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path, "--streaming", "--data", str(tmp_path / "data"), command="demo") as demo:
        async with Visitor(demo.base_url.removesuffix("/v1")) as visitor:
            landing = codes_of((await visitor.get("/")).text)
            await visitor.sign_in(demo.ready["email"], demo.ready["password"])
            key_page = codes_of((await visitor.post("/dashboard/keys", {"name": "laptop"})).text)
        assert landing["snippet"] == landing["chat-python"]
        assert set(key_page) == {f"{name}-{number}" for name in NAMES for number in (1, 2, 3)}
        (api_key,) = {found for code in key_page.values() for found in re.findall(r"tk0n_\w+", code)}
        assert set(PRINTED) == set(NAMES)
        for name in NAMES:
            for number, (kind, language) in enumerate(LANGUAGES.items(), 1):
                for page, code in (("landing", landing[f"{name}-{kind}"]), ("key", key_page[f"{name}-{number}"])):
                    python = RECIPES / "python" if "anthropic" in code else OURS / "python"
                    variable = api_key if page == "landing" else "unused"
                    before = await billed(demo, api_key)
                    folder = tmp_path / f"{page}-{name}-{kind}"
                    printed = await run(language, code, api_key=variable, folder=folder, python=python)
                    assert not printed.startswith("FAILED"), (page, name, kind, printed)
                    assert ("HTTP/1.1 200 OK" if kind == "curl" else PRINTED[name]) in printed, (page, name, kind)
                assert await billed(demo, api_key) > before, (name, kind)


async def test_the_code_of_a_conversation_in_the_playground_runs_as_it_is_written(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path, "--streaming", "--data", str(tmp_path / "data"), command="demo") as demo:
        codes: dict[str, str] = {}
        async with Visitor(demo.base_url.removesuffix("/v1")) as visitor:
            await visitor.sign_in(demo.ready["email"], demo.ready["password"])
            for name in NAMES:
                page = await visitor.get(f"/dashboard/playground?endpoint={name}")
                (key,) = re.findall(r'<option value="(key_\w+)"', page.text)
                fields = {"endpoint": name, "model": "demo", "key": key, "limit": "200", "temperature": "0.5"}
                texts = {"conversation": CONVERSATION, "user": QUOTES, "system": QUOTES}
                codes |= codes_of((await visitor.post_raw("/dashboard/playground/bound", fields | texts)).text)
        assert codes.keys() == {f"{name}-{kind}" for name in NAMES for kind in LANGUAGES}
        for code_id, code in codes.items():
            name, kind = code_id.rsplit("-", 1)
            python = RECIPES / "python" if "anthropic" in code else OURS / "python"
            key = demo.ready["api_key"]
            printed = await run(LANGUAGES[kind], code, api_key=key, folder=tmp_path / code_id, python=python)
            assert not printed.startswith("FAILED"), (code_id, printed)
            assert ("HTTP/1.1 200 OK" if kind == "curl" else PRINTED[name]) in printed, (code_id, printed)


async def test_the_default_pages_show_chat_alone_and_their_snippets_run(tmp_path: Path) -> None:
    async with ServerProcess(tmp_path, "--data", str(tmp_path / "data"), command="demo") as demo:
        async with Visitor(demo.base_url.removesuffix("/v1")) as visitor:
            landing = codes_of((await visitor.get("/")).text)
            await visitor.sign_in(demo.ready["email"], demo.ready["password"])
            key_page = codes_of((await visitor.post("/dashboard/keys", {"name": "laptop"})).text)
            playground = codes_of((await visitor.get("/dashboard/playground")).text)
            assert list(playground) == ["chat-curl", "chat-python", "chat-node"]
        assert (list(landing), list(key_page)) == (["snippet"], ["chat-1", "chat-2", "chat-3"])
        for number, (language, code) in enumerate([("python", landing["snippet"]), ("python", key_page["chat-2"])]):
            folder = tmp_path / str(number)
            key = demo.ready["api_key"]
            printed = await run(language, code, api_key=key, folder=folder, python=OURS / "python")
            assert "simulated model" in printed, printed
