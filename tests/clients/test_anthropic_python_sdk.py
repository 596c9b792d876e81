"""Anthropic's official SDK for Python against a running server: answers, streams, counts, and each error's class."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from support.anthropic_api import as_anthropic
from support.anthropic_sdk import read_table
from support.gateways import ServerProcess, environment, prepared
from support.scripted_upstream import ScriptedUpstream, status

pytestmark = pytest.mark.anyio

RECIPES = Path(__file__).parent / "recipes"
MORE = 'endpoints = ["messages"]\n[server]\nstreaming = true\n'


async def test_answers_streams_counts_and_errors_are_what_the_sdk_expects(tmp_path: Path) -> None:
    good, failing = tmp_path / "good", tmp_path / "failing"
    good.mkdir()
    failing.mkdir()
    async with ScriptedUpstream() as upstream, ScriptedUpstream(status(500)) as broken:
        reported: list[int] = []
        upstream.behaviour = as_anthropic(upstream, reported)
        _, api_key = await prepared(good, upstream_url=upstream.base_url, more=MORE, tokens=100_000)
        _, other_key = await prepared(failing, upstream_url=broken.base_url, more=MORE)
        async with ServerProcess(good) as server, ServerProcess(failing) as other:
            results = await run(api_key, server.base_url, other.base_url, other_key)
            assert results["created"] == ["demo", "Hello there.", 5]
            assert results["beta"] == results["bearer"] == "Hello there."
            assert results["stream"] == ["demo", "Hello there.", 5, "end_turn"]
            assert results["count"] == 8
            assert results["errors"] == {
                "wrong key": ["AuthenticationError", 401, "authentication_error", True],
                "invalid": ["BadRequestError", 400, "invalid_request_error", True],
                "over the limit": ["BadRequestError", 400, "invalid_request_error", True],
                "unknown model": ["BadRequestError", 400, "invalid_request_error", True],
                "balance": ["PaymentRequiredError", 402, "billing_error", True],
                "upstream": ["InternalServerError", 502, "api_error", True],
            }
    charged = [request for request in upstream.requests if b"/count_tokens" not in request.partition(b"\r\n")[0]]
    assert len(charged) == 4


async def run(api_key: str, good: str, failing: str, other_key: str) -> dict[str, Any]:
    """What the script prints."""
    process = await asyncio.create_subprocess_exec(
        str(RECIPES / ".venv" / "libraries" / "bin" / "python"),
        "-W",
        "ignore",
        str(RECIPES / "messages.py"),
        good.removesuffix("/v1"),
        failing.removesuffix("/v1"),
        env=environment({"TOK0N_API_KEY": api_key, "OTHER_KEY": other_key, "PATH": os.environ["PATH"]}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        out, failure = await process.communicate()
    assert process.returncode == 0, failure.decode()
    results: dict[str, Any] = json.loads(out)
    return results


async def test_the_table_of_documented_fields_is_that_of_this_sdk() -> None:
    process = await asyncio.create_subprocess_exec(
        str(RECIPES / ".venv" / "libraries" / "bin" / "python"),
        "-c",
        "import json, support.anthropic_sdk as sdk; print(json.dumps(sdk.make_table()))",
        cwd=Path(__file__).parent.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate()
    assert json.loads(out) == read_table(), "run `python -m support.anthropic_sdk`, and decide about the new fields"
