"""The official Node SDK and the Vercel AI SDK: what they make of a stream, and what the stream costs."""

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from support.client_streams import (
    REJECTED,
    TOKENS,
    StreamingUpstream,
    assert_charged,
    results_of,
    streaming_gateway,
    total_tokens,
)
from support.gateways import Running, running

pytestmark = pytest.mark.anyio

HERE = Path(__file__).parent / "node"
NODE = Path(sys.executable).parent / "node"


@pytest.fixture
async def upstream() -> AsyncIterator[StreamingUpstream]:
    async with StreamingUpstream() as upstream:
        yield upstream


@pytest.fixture
async def gateway(tmp_path: Path, upstream: StreamingUpstream) -> AsyncIterator[Running]:
    async with streaming_gateway(tmp_path, upstream) as gateway:
        yield gateway


async def test_the_node_sdk_reads_every_stream_as_it_is_meant(gateway: Running, upstream: StreamingUpstream) -> None:
    results = await results_of(gateway, NODE, HERE / "streams.mjs")
    upstream.resumed.set()  # the client of "long" has left
    text = {"texts": ["Hello, wörld."], "reasoning": "", "finish": "stop", "model": "demo", "usage": None}
    total = total_tokens("text")
    usage = results["usage"].pop("usage")
    assert results.pop("usage") == {name: value for name, value in text.items() if name != "usage"}
    assert usage["total_tokens"] == usage["tok0n"]["charged"] == total
    assert usage["tok0n"]["available"] == TOKENS - 2 * total
    failed = {"exception": "APIError", "code": "upstream_error", "param": None, "type": "upstream_error"}
    for name in ("error", "cut", "helper error"):
        assert "You were not charged." in results[name].pop("message"), name
    assert '"Hello"' in results["late"]
    assert "You were not charged." in results.pop("late"), "a client that reads late learns of the failure"
    assert results == {
        "text": text,
        "quiet": text,
        "two": text | {"texts": ["ab", "cd"]},
        "reasoning": text | {"texts": ["Hello."], "reasoning": "Let me think."},
        "logprobs": [["Hello", -0.25], [".", -0.25]],
        "tools": [["call_0", "add", '{"a": 1, "b": 2}'], ["call_1", "add", '{"a": 3, "b": 4}']],
        "loop": "Hello, wörld.",
        "helper": {"content": "Hello, wörld.", "deltas": ["Hello", ", ", "wörld", "."], "total": total},
        "error": failed,
        "cut": failed,
        "helper error": failed,
        "abort": "assistant",
    }
    await assert_charged(gateway, *["text"] * 4, *["tools"] * 2, "quiet", "two", "reasoning", "logprobs", "long")


async def test_the_vercel_ai_sdk_reads_every_stream_as_it_is_meant(
    gateway: Running, upstream: StreamingUpstream
) -> None:
    results = await results_of(gateway, NODE, HERE / "ai_sdk.mjs")
    upstream.resumed.set()  # the client of "long" has left
    failed = results.pop("error")
    assert (failed["text"], failed["finish"]) == ("Hello, ", None)
    assert failed["error"]["message"].endswith("You were not charged.")
    calls = [["call_0", "add", {"a": 1, "b": 2}], ["call_1", "add", {"a": 3, "b": 4}]]
    nothing: dict[str, Any] = {"text": "", "reasoning": "", "calls": [], "finish": "stop", "error": None}
    text, reasoning, tools = map(total_tokens, ("text", "reasoning", "tools"))
    assert results == {
        "text": nothing | {"text": "Hello, wörld.", "total": text},
        "quiet": nothing | {"text": "Hello, wörld.", "total": total_tokens("quiet")},
        "reasoning": nothing | {"text": "Hello.", "reasoning": "Let me think.", "total": reasoning},
        "tools": nothing | {"calls": calls, "finish": "tool-calls", "total": tools},
        "loop": nothing | {"calls": calls, "text": "Hello, wörld.", "total": tools + text},
        "abort": "abort",
    }
    await assert_charged(gateway, "text", "quiet", "reasoning", "tools", "tools", "text", "long")


async def test_a_gateway_that_does_not_stream_says_so(tmp_path: Path, upstream: StreamingUpstream) -> None:
    async with running(tmp_path, upstream_url=upstream.base_url) as gateway:
        results = await results_of(gateway, NODE, HERE / "streams.mjs", "rejected")
        vercel = (await results_of(gateway, NODE, HERE / "ai_sdk.mjs", "rejected"))["text"]["error"]
        await assert_charged(gateway)
    for result in results.values():
        assert (result["exception"], result["status"], result["param"]) == ("BadRequestError", 400, "stream")
        assert REJECTED in result["message"]
    assert vercel["status"] == 400
    assert REJECTED in vercel["message"]
