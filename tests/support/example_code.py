"""Run example code of the docs and pages as a reader would, with the official SDKs."""

import asyncio
import os
from pathlib import Path

from support.gateways import environment

ROOT = Path(__file__).parent.parent.parent
NODE = ROOT / "tests" / "clients" / "node"
RECIPES = ROOT / "tests" / "clients" / "recipes" / ".venv" / "libraries" / "bin"
OURS = ROOT / ".venv" / "bin"
SECONDS_MAX = 120


async def run(language: str, code: str, *, api_key: str, folder: Path, python: Path) -> str:
    """What it prints, or why it failed."""
    commands = {
        "sh": ["bash", "-euo", "pipefail", "-c", code],
        "python": [str(python), "-W", "ignore", "-c", code],
        "js": [str(OURS / "node"), "--input-type=module", "--eval", code],
    }
    folder.mkdir()
    process = await asyncio.create_subprocess_exec(
        *commands[language],
        cwd=NODE if language == "js" else folder,
        env=environment(
            {
                "TOK0N_API_KEY": api_key,
                "PATH": f"{OURS}:{os.environ['PATH']}",
                "LLM_USER_PATH": str(folder),
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "DO_NOT_TRACK": "1",
            }
        ),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS_MAX):
        out, _ = await process.communicate()
    return out.decode() if process.returncode == 0 else f"FAILED: {out.decode()}"
