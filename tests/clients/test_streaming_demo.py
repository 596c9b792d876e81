"""What `tok0n demo --streaming` prints works as it is printed: curl and the official SDK stream."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from support.gateways import environment

pytestmark = pytest.mark.anyio

OURS = Path(sys.executable).parent
SECONDS_MAX = 60


async def _run(script: str, folder: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        cwd=folder,
        env=environment({"PATH": f"{OURS}:{os.environ['PATH']}"}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS_MAX):
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_the_printed_commands_stream_and_the_audit_is_clean(tmp_path: Path) -> None:
    demo = await asyncio.create_subprocess_exec(
        *(OURS / "tok0n", "demo", "--streaming", "--port", "0", "--data", tmp_path / "data"),
        cwd=tmp_path,
        env=environment(),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert demo.stdout is not None
        async with asyncio.timeout(SECONDS_MAX):
            printed = (await demo.stdout.readuntil(b"Stop with")).decode()
        exports = "\n".join(line for line in printed.splitlines() if line.startswith("export "))
        commands = printed.partition("receipt:\n")[2].partition("Check that")[0].replace("demo-slow", "demo")
        out = await _run(f"{exports}\n{commands}", tmp_path)
        await _run(printed.partition("accounted for:")[2].partition("\n")[0], tmp_path)
    finally:
        demo.terminate()
        await demo.wait()
    events, _, python = out.rpartition("data: [DONE]")
    assert events.count('"chat.completion.chunk"') > 10
    for part in (events, python):
        assert "simulated" in part
        assert "charged" in part
