"""Every recipe of the docs that says so runs as it is written, against a real server, and is billed exactly."""

import asyncio
import os
import platform
import re
import sys
from pathlib import Path

import msgspec
import pytest

from support.demos import Demo, running_demo
from support.gateways import environment

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent.parent
HERE = Path(__file__).parent
NODE = HERE / "node"
AGENTS = HERE / "agents" / "node_modules"
OURS = ROOT / ".venv" / "bin"
WRITTEN = "http://127.0.0.1:8080/v1"
SECONDS_MAX = 180
CODING_AGENTS = ("Codex", "Claude Code", "opencode", "Aider")
GROUPS = dict.fromkeys(("LangChain", "LlamaIndex", "LiteLLM"), "libraries") | {
    "pydantic-ai": "agents",
    "OpenAI Agents SDK": "agents",
    "Aider": "aider",
}
"""The group in tests/clients/recipes/pyproject.toml that has what a recipe imports. Others use our own environment."""

VARIABLES = {
    "ANTHROPIC_LOG": "",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "AIDER_ANALYTICS_DISABLE": "1",
    "AIDER_CHECK_UPDATE": "0",
    "AIDER_GIT": "0",
}
"""They keep a tool from calling its maker, and from asking."""


class Recipe(msgspec.Struct, kw_only=True):
    """A section of the page: its snippets, each with its language, and its settings by the file that they go into."""

    heading: str
    text: str
    snippets: list[tuple[str, str]]
    files: dict[str, str]

    @property
    def says_that_it_is_not_run(self) -> bool:
        return self.text.lstrip().startswith("Not run by our tests.")

    @property
    def cannot_run(self) -> str | None:
        """Return why this machine cannot run it."""
        if self.heading == "Aider" and sys.version_info >= (3, 13):
            return "Aider needs Python 3.12 or older"
        if self.heading == "opencode" and (sys.platform, platform.machine()) != ("linux", "x86_64"):
            return "our lock has opencode for Linux on x86-64 alone"
        return None


def recipes() -> dict[str, Recipe]:
    """Return the recipes by their headings."""
    page = (ROOT / "docs" / "guide" / "recipes.md").read_text()
    found = {}
    for section in re.split(r"^## ", page, flags=re.MULTILINE)[1:]:
        heading, _, text = section.partition("\n")
        files = re.findall(r"`([^`\n]+)`[^`]*?:\n\n```(?:toml|json|yaml)\n(.*?)```", text, re.DOTALL)
        snippets = re.findall(r"```(sh|python|js)\n(.*?)```", text, re.DOTALL)
        found[heading] = Recipe(heading=heading, text=text, snippets=snippets, files=dict(files))
    return found


class Row(msgspec.Struct, kw_only=True):
    """What the table at the top of the page says of a tool."""

    endpoints: list[str]
    is_run: bool


def table() -> dict[str, Row]:
    """Return the rows by heading."""
    page = (ROOT / "docs" / "guide" / "recipes.md").read_text()
    rows = re.findall(r"^\| \[(.+?)\]\(#.+?\) \| (.+) \| (yes|no) \|$", page, re.MULTILINE)
    return {name: Row(endpoints=endpoints.split(", "), is_run=answer == "yes") for name, endpoints, answer in rows}


def chat_and_others() -> tuple[list[Recipe], list[Recipe]]:
    """Return the snippets of SDKs and libraries that call chat, the first of their section, and all others."""
    chat, others = [], []
    for name, row in table().items():
        if row.is_run and name not in CODING_AGENTS:
            recipe = recipes()[name]
            count = 1 if "chat" in row.endpoints else 0
            chat.append(msgspec.structs.replace(recipe, snippets=recipe.snippets[:count]))
            others.append(msgspec.structs.replace(recipe, snippets=recipe.snippets[count:]))
    return [recipe for recipe in chat if recipe.snippets], [recipe for recipe in others if recipe.snippets]


def path_of(recipe: Recipe, folder: Path) -> str:
    """Return the PATH on which a recipe finds its tool, which goes by the name that its maker gives it."""
    tools = folder / "bin"
    tools.mkdir()
    (tools / "opencode").symlink_to(AGENTS / "opencode-linux-x64" / "bin" / "opencode")
    group = HERE / "recipes" / ".venv" / GROUPS.get(recipe.heading, "libraries") / "bin"
    named = [tools, AGENTS / ".bin", OURS, *([group] if recipe.heading == "Aider" else [])]
    return os.pathsep.join([*map(str, named), os.environ["PATH"]])


async def run(recipe: Recipe, language: str, code: str, *, folder: Path, variables: dict[str, str]) -> str:
    """Return what a snippet prints, or why it failed."""
    group = GROUPS.get(recipe.heading)
    python = OURS / "python" if group is None else HERE / "recipes" / ".venv" / group / "bin" / "python"
    commands = {
        "sh": ["bash", "-euo", "pipefail", "-c", code],
        "python": [str(python), "-W", "ignore", "-c", code],
        "js": [str(OURS / "node"), "--input-type=module", "--eval", code],
    }
    process = await asyncio.create_subprocess_exec(
        *commands[language],
        cwd=NODE if language == "js" else folder,
        env=environment(VARIABLES | variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(SECONDS_MAX):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return out.decode() if process.returncode == 0 else f"FAILED: {out.decode()}"


async def run_recipe(demo: Demo, recipe: Recipe) -> list[str]:
    """Return what each snippet of a recipe prints, once its settings are in their files below a home of its own."""
    folder = demo.folder / re.sub(r"\W", "-", recipe.heading)
    folder.mkdir()
    for name, text in recipe.files.items():
        path = folder / name.removeprefix("~/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.replace(WRITTEN, demo.server.base_url))
    variables = {
        "HOME": str(folder),
        "LLM_USER_PATH": str(folder),
        "PATH": path_of(recipe, folder),
        "TOK0N_API_KEY": demo.server.ready["api_key"],
    }
    return [
        await run(recipe, language, code.replace(WRITTEN, demo.server.base_url), folder=folder, variables=variables)
        for language, code in recipe.snippets
    ]


def test_the_table_says_of_each_recipe_whether_it_is_run() -> None:
    found, rows = recipes(), table()
    assert list(rows) == list(found), "the table lists the recipes in their order"
    for name, recipe in found.items():
        assert recipe.says_that_it_is_not_run != rows[name].is_run, name
        assert recipe.snippets or not rows[name].is_run, name


async def check(demo: Demo, found: list[Recipe]) -> None:
    """Run recipes. Every snippet shows the model's answer, and is charged what the upstream reported."""
    before, charged = await demo.reported(), 0
    for recipe in found:
        for printed in await run_recipe(demo, recipe):
            assert "simulated model" in printed, f"{recipe.heading}: {printed}"
        paid = await demo.charged()
        assert (paid, paid > charged) == (await demo.reported() - before, True), recipe.heading
        charged = paid


async def test_the_recipes_that_call_chat_run_without_streaming(tmp_path: Path) -> None:
    async with running_demo(tmp_path) as demo:
        await check(demo, chat_and_others()[0])


async def test_the_recipes_of_other_endpoints_run_as_they_are_written(tmp_path: Path) -> None:
    async with running_demo(tmp_path, "--streaming") as demo:
        await check(demo, chat_and_others()[1])


async def test_the_recipes_of_coding_agents_run_as_they_are_written(tmp_path: Path) -> None:
    assert all(table()[name].is_run for name in CODING_AGENTS)
    async with running_demo(tmp_path, "--streaming") as demo:
        await check(demo, [recipes()[name] for name in CODING_AGENTS if not recipes()[name].cannot_run])


async def test_the_streaming_pages_node_snippet_streams(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "guide" / "streaming.md").read_text()
    snippets = re.findall(r"```(js)\n(.*?)```", page, re.DOTALL)
    async with running_demo(tmp_path, "--streaming") as demo:
        (printed,) = await run_recipe(demo, Recipe(heading="streaming", text=page, snippets=snippets, files={}))
    assert "simulated model" in printed
    assert printed.endswith("charged: 65 left: 999935\n")
