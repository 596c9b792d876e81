"""Libraries that call responses or messages by default hold a conversation with a tool call, and are billed exactly."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from support.demos import Demo, running_demo
from support.gateways import environment

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent
NODE = Path(sys.executable).parent / "node"
SECONDS_MAX = 120
COMMANDS = {
    group: [HERE / "recipes" / ".venv" / group / "bin" / "python", "-W", "ignore", "recipes/agent_loops.py", group]
    for group in ("libraries", "agents")
} | {"node": [NODE, "node/ai_sdk_loops.mjs"]}
"""The command that runs the conversations of each group of packages."""


async def results_of(demo: Demo, *command: str | Path) -> dict[str, list[Any]]:
    """Return what the conversations print."""
    access = {"TOK0N_BASE_URL": demo.server.base_url, "TOK0N_API_KEY": demo.server.ready["api_key"]}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=HERE,
        env=environment(access | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(SECONDS_MAX):
        out, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    results: dict[str, list[Any]] = json.loads(out.splitlines()[-1])
    return results


async def test_conversations_with_a_tool_call_are_billed_as_the_libraries_count_them(tmp_path: Path) -> None:
    async with running_demo(tmp_path, "--streaming") as demo:
        before, total = await demo.reported(), 0
        for group, command in COMMANDS.items():
            results = await results_of(demo, *command)
            total += sum(result[1] for result in results.values())
            assert await demo.charged() == await demo.reported() - before == total > 0, group
            for name, (text, _, *more) in results.items():
                for answer in (text, *more):
                    assert "the sum is 3" in answer, name
