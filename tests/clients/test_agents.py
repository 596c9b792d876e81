"""Codex and Claude Code hold a conversation with a tool call through the demo, and are billed what it reports."""

import asyncio
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.gateways import ServerProcess, environment
from support.http import request

pytestmark = pytest.mark.anyio

AGENTS = Path(__file__).parent / "agents" / "node_modules" / ".bin"
SECONDS_MAX = 120
SECRET = "the file says 7f3a9c"


async def run(*command: str | Path, folder: Path, **variables: str) -> str:
    """What an agent prints, with a home folder of its own."""
    home = folder / "home"
    home.mkdir()
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env=environment({"HOME": str(home), "PATH": "/usr/local/bin:/usr/bin:/bin"} | variables),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS_MAX):
        out, failure = await process.communicate()
    assert process.returncode == 0, (out.decode(), failure.decode())
    return out.decode()


async def charged(demo: ServerProcess) -> int:
    """The tokens that the demo's account has paid."""
    headers = {"authorization": f"Bearer {demo.ready['api_key']}"}
    balance = msgspec.json.decode((await request(demo.base_url, "GET", "/v1/balance", headers=headers)).body)
    assert balance["pending"] == 0
    tokens: int = 1_000_000 - balance["posted"]
    return tokens


async def test_codex_calls_a_tool_and_is_billed_exactly(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text(SECRET)
    async with ServerProcess(tmp_path, "--streaming", "--data", str(tmp_path / "data"), command="demo") as demo:
        provider = f'{{name="Tok0n",base_url="{demo.base_url}",env_key="TOK0N_API_KEY",wire_api="responses"}}'
        out = await run(
            AGENTS / "codex",
            *("exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox"),
            *("-c", 'model_provider="tok0n"', "-c", f"model_providers.tok0n={provider}", "-m", "demo"),
            'Read the file.\n[call exec_command {"cmd":"cat f.txt"}]',
            folder=tmp_path,
            TOK0N_API_KEY=demo.ready["api_key"],
        )
        events: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
        items = [event["item"] for event in events if event["type"] == "item.completed"]
        assert [item["exit_code"] for item in items if item["type"] == "command_execution"] == [0]
        assert SECRET in items[-1]["text"]
        usage = events[-1]["usage"]
        assert await charged(demo) == usage["input_tokens"] + usage["output_tokens"]


async def test_claude_code_calls_a_tool_and_is_billed_exactly(tmp_path: Path) -> None:
    (tmp_path / "f.txt").write_text(SECRET)
    async with ServerProcess(tmp_path, "--streaming", "--data", str(tmp_path / "data"), command="demo") as demo:
        out = await run(
            AGENTS / "claude",
            *("-p", 'Read the file.\n[call Bash {"command":"cat f.txt","description":"Read the file"}]'),
            *("--model", "demo", "--output-format", "json", "--dangerously-skip-permissions"),
            folder=tmp_path,
            ANTHROPIC_BASE_URL=demo.base_url.removesuffix("/v1"),
            ANTHROPIC_AUTH_TOKEN=demo.ready["api_key"],
            ANTHROPIC_DEFAULT_HAIKU_MODEL="demo",
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            DISABLE_AUTOUPDATER="1",
            DISABLE_ERROR_REPORTING="1",
            DISABLE_TELEMETRY="1",
            IS_SANDBOX="1",
        )
        result = json.loads(out)
        assert (result["is_error"], result["num_turns"]) == (False, 2)
        assert SECRET in result["result"]
        usage = result["usage"]
        assert await charged(demo) == usage["input_tokens"] + usage["output_tokens"]
