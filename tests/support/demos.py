"""A running `tok0n demo`: what its account paid, and what its simulated upstream reported."""

import asyncio
import contextlib
import tomllib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from support.gateways import ServerProcess
from support.http import request


class Demo:
    """A demo, and what its simulated upstream reported."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self.server = server
        self.folder = folder

    async def charged(self) -> int:
        """Return what the account has paid, once no request is in progress."""
        headers = {"authorization": f"Bearer {self.server.ready['api_key']}"}
        async with asyncio.timeout(10):
            while True:
                answer = await request(self.server.base_url, "GET", "/v1/balance", headers=headers)
                balance: dict[str, int] = msgspec.json.decode(answer.body)
                if not balance["pending"]:
                    return 1_000_000 - balance["posted"]
                await asyncio.sleep(0.05)

    async def reported(self) -> int:
        """Return the tokens of all answers but those that verified the models."""
        settings = tomllib.loads((self.folder / "data" / "tok0n.toml").read_text())["upstreams"]["simulated"]
        key = Path(settings["api_key"].removeprefix("file:")).read_text().strip()
        headers = {"authorization": f"Bearer {key}"}
        answer = await request(settings["base_url"], "GET", "/v1/simulated/answers", headers=headers)
        return sum(tokens_of(found["usage"]) for found in msgspec.json.decode(answer.body)["data"])


def tokens_of(usage: dict[str, Any] | None) -> int:
    """Return the tokens of an answer, in the shape of any endpoint. An answer of count_tokens has no usage."""
    if usage is None:
        return 0
    if "total_tokens" in usage:
        return int(usage["total_tokens"])
    names = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens")
    return sum(usage.get(name) or 0 for name in names)


@contextlib.asynccontextmanager
async def running_demo(folder: Path, *arguments: str) -> AsyncIterator[Demo]:
    """Start a demo."""
    async with ServerProcess(folder, *arguments, "--data", str(folder / "data"), command="demo") as server:
        yield Demo(server, folder)
