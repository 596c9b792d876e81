"""The tools of the recipes, which stream: what they make of a stream, and what the stream costs."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.client_streams import (
    REJECTED,
    StreamingUpstream,
    assert_charged,
    results_of,
    run_client,
    streaming_gateway,
    total_tokens,
)
from support.gateways import Running, running

pytestmark = pytest.mark.anyio

RECIPES = Path(__file__).parent / "recipes"
PYTHON = RECIPES / ".venv" / "libraries" / "bin" / "python"
LLM = Path(sys.executable).parent / "llm"
LOCAL = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}


@pytest.fixture
async def upstream() -> AsyncIterator[StreamingUpstream]:
    async with StreamingUpstream() as upstream:
        yield upstream


@pytest.fixture
async def gateway(tmp_path: Path, upstream: StreamingUpstream) -> AsyncIterator[Running]:
    async with streaming_gateway(tmp_path, upstream) as gateway:
        yield gateway


async def test_langchain_llama_index_and_litellm_read_streams_as_they_are_meant(
    tmp_path: Path, upstream: StreamingUpstream, gateway: Running
) -> None:
    folder = tmp_path / "whole"
    folder.mkdir()
    async with running(folder, upstream_url=upstream.base_url) as whole:
        access = {"TOK0N_WHOLE_BASE_URL": whole.base_url, "TOK0N_WHOLE_API_KEY": whole.api_key}
        results = await results_of(gateway, PYTHON, "-W", "ignore", RECIPES / "streams.py", env=LOCAL | access)
        await assert_charged(whole)
    assert len(results) == 6
    for name, result in results.items():
        assert result["text"]["text"] == result["quiet"]["text"] == "Hello, wörld.", name
        assert "You were not charged." in result["error"]["message"], name
        assert result["rejected"]["exception"].endswith("RequestError"), name
        assert REJECTED in result["rejected"]["message"], name
    calls = [["call_0", "add", {"a": 1, "b": 2}], ["call_1", "add", {"a": 3, "b": 4}]]
    for name in ("LangChain", "LiteLLM", "LiteLLM, async"):
        assert results[name]["text"]["total"] == total_tokens("text"), name
        assert (results[name]["tools"]["calls"], results[name]["tools"]["total"]) == (calls, total_tokens("tools")), (
            name
        )
    for name in ("LangChain", "LiteLLM"):
        assert results[name]["loop"]["text"] == "Hello, wörld.", name
    reasoning = results["LiteLLM"]["reasoning"]
    assert (reasoning["reasoning"], reasoning["text"]) == ("Let me think.", "Hello.")
    await assert_charged(
        gateway, *["text", "quiet"] * len(results), *["tools"] * 3, *["tools", "text"] * 2, "reasoning"
    )


async def llm(gateway: Running, *arguments: str) -> tuple[int, str]:
    """Run the `llm` tool with the model of the recipe, which streams by default."""
    folder = gateway.folder / "llm"
    folder.mkdir(exist_ok=True)
    (folder / "keys.json").write_text(json.dumps({"tok0n": gateway.api_key}))
    (folder / "extra-openai-models.yaml").write_text(
        f"- model_id: tok0n\n  model_name: demo\n  api_base: {gateway.base_url}\n  api_key_name: tok0n\n"
        "  supports_tools: true\n"
    )
    return await run_client(gateway, LLM, *arguments, env={"LLM_USER_PATH": str(folder)})


async def test_the_llm_tool_streams(gateway: Running) -> None:
    for prompt in ("quiet", "text"):
        assert await llm(gateway, "-m", "tok0n", prompt) == (0, "Hello, wörld.\n")
    code, logged = await llm(gateway, "logs", "-n", "1", "--json")
    assert code == 0, logged
    usage = json.loads(logged)[0]
    assert usage["input_tokens"] + usage["output_tokens"] == total_tokens("text")
    code, added = await llm(gateway, "--functions", "def add(a: int, b: int): return a + b", "-m", "tok0n", "tools")
    assert (code, "Hello, wörld." in added) == (0, True), added
    code, failed = await llm(gateway, "-m", "tok0n", "error")
    assert (code, "You were not charged." in failed) == (1, True), failed
    await assert_charged(gateway, "quiet", "text", "tools", "text")


async def test_the_llm_tool_says_that_a_gateway_does_not_stream(tmp_path: Path, upstream: StreamingUpstream) -> None:
    async with running(tmp_path, upstream_url=upstream.base_url) as gateway:
        code, rejected = await llm(gateway, "-m", "tok0n", "text")
        assert (code, REJECTED in rejected) == (1, True), rejected
        await assert_charged(gateway)
