"""Every recipe of the docs runs as it is written, against a real server."""

import re
from pathlib import Path

import pytest

from support.example_code import OURS, RECIPES, run
from support.gateways import ServerProcess

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent
WRITTEN = "http://127.0.0.1:8080/v1"


def recipes(page: str) -> dict[str, tuple[str, str]]:
    """The language and the code of each section, by its heading."""
    text = (ROOT / "docs" / "guide" / page).read_text()
    found = {}
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, rest = section.partition("\n")
        code = re.search(r"```(sh|python|js)\n(.*?)```", rest, re.DOTALL)
        assert code is not None, heading
        found[heading] = (code[1], code[2])
    return found


async def test_the_streaming_pages_node_snippet_streams(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "guide" / "streaming.md").read_text()
    (code,) = re.findall(r"```js\n(.*?)```", page, re.DOTALL)
    async with ServerProcess(tmp_path, "--streaming", "--data", str(tmp_path / "data"), command="demo") as demo:
        code = code.replace(WRITTEN, demo.base_url)
        api_key = demo.ready["api_key"]
        printed = await run("js", code, api_key=api_key, folder=tmp_path / "node", python=OURS / "python")
    assert "simulated model" in printed
    assert printed.endswith("charged: 65 left: 999935\n")


async def test_every_recipe_runs_as_it_is_written(tmp_path: Path) -> None:
    found = recipes("recipes.md")
    assert set(found) == {
        "curl",
        "OpenAI SDK for Python",
        "OpenAI SDK for Node",
        "LangChain",
        "LlamaIndex",
        "Vercel AI SDK",
        "LiteLLM",
        "llm",
    }
    async with ServerProcess(tmp_path, "--data", str(tmp_path / "data"), command="demo") as demo:
        said = {}
        for heading, (language, code) in found.items():
            apart = heading in {"LangChain", "LlamaIndex", "LiteLLM"}
            said[heading] = await run(
                language,
                code.replace(WRITTEN, demo.base_url),
                api_key=demo.ready["api_key"],
                folder=tmp_path / heading.replace(" ", "-"),
                python=(RECIPES if apart else OURS) / "python",
            )
    failed = {heading: text for heading, text in said.items() if "simulated model" not in text}
    assert failed == {}
