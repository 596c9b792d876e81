"""The demo's upstream streams what it would answer whole, in the chunks and with the usage that OpenAI sends."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from support.fakes import FakeClock
from support.ledgers import open_engine
from support.limiters import make_limiter
from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.bootstrap import demo
from tok0n.cli.server import _welcome
from tok0n.demo.simulated_stream import SLOW_WORD_SECONDS, WORD_SECONDS
from tok0n.demo.simulated_upstream import MODELS, simulated_upstream
from tok0n.domain.catalogue import VERIFICATION_PROMPT
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.http.asgi import AsgiBridge
from tok0n.http.server import HttpServer, bind
from tok0n.services.verify_models import VerifyModels
from tok0n.settings import model_of

pytestmark = pytest.mark.anyio

USAGE = {"include_usage": True}
TOOLS = [{"type": "function", "function": {"name": "get_time", "parameters": {"properties": {"zone": {}}}}}]


class Simulated:
    """The server's client, and the seconds that the server was asked to pause for."""

    def __init__(self, client: httpx.AsyncClient, paused: list[float]) -> None:
        self._client = client
        self.paused = paused

    async def post(self, content: str = "What is a ledger?", **fields: Any) -> httpx.Response:
        body = {"model": "demo", "messages": [{"role": "user", "content": content}]} | fields
        return await self._client.post("/v1/chat/completions", json=body)

    async def stream(self, content: str = "What is a ledger?", **fields: Any) -> list[Any]:
        """Return the decoded chunks of a stream that ends with [DONE]."""
        response = await self.post(content, stream=True, **fields)
        assert response.headers["content-type"].startswith("text/event-stream")
        *events, done, end = response.text.split("\n\n")
        assert (done, end) == ("data: [DONE]", "")
        return [msgspec.json.decode(event.removeprefix("data: ")) for event in events]


@pytest.fixture
async def simulated() -> AsyncIterator[Simulated]:
    paused: list[float] = []

    async def pause(seconds: float) -> None:
        paused.append(seconds)

    app = simulated_upstream(api_key=None, pause=pause)
    async with (
        HttpServer(AsgiBridge(app), bind("127.0.0.1", 0), shutdown_seconds=1) as server,
        httpx.AsyncClient(base_url=server.url, trust_env=False) as client,
    ):
        yield Simulated(client, paused)


def deltas(chunks: list[Any], index: int = 0) -> list[Any]:
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]


@pytest.mark.parametrize("fields", [{}, {"n": 3}, {"max_completion_tokens": 1}, {"stop": "T"}])
async def test_a_stream_is_the_whole_answer_word_by_word(simulated: Simulated, fields: dict[str, Any]) -> None:
    whole = (await simulated.post(**fields)).json()
    chunks = await simulated.stream(stream_options=USAGE, **fields)
    for choice in whole["choices"]:
        words = [delta.get("content", "") for delta in deltas(chunks, choice["index"])]
        assert "".join(words) == choice["message"]["content"]
        assert all(len(word.split()) <= 1 for word in words)
    assert len({chunk["id"] for chunk in chunks}) == 1
    ends = [choice["finish_reason"] for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
    assert ends == [choice["finish_reason"] for choice in whole["choices"]]
    assert (chunks[-1]["choices"], chunks[-1]["usage"]) == ([], whole["usage"])
    assert all(chunk["usage"] is None for chunk in chunks[:-1])


async def test_usage_comes_only_if_it_was_asked_for(simulated: Simulated) -> None:
    chunks = await simulated.stream()
    assert all("usage" not in chunk and chunk["choices"] for chunk in chunks)


async def test_continuous_usage_grows_to_the_final_report(simulated: Simulated) -> None:
    *chunks, last = await simulated.stream(stream_options=USAGE | {"continuous_usage_stats": True})
    totals = [chunk["usage"]["total_tokens"] for chunk in chunks]
    assert totals == sorted(totals)
    assert len(totals) > 20
    assert chunks[-1]["usage"] == last["usage"]


async def test_a_tool_call_is_streamed_in_pieces(simulated: Simulated) -> None:
    whole = (await simulated.post(tools=TOOLS)).json()["choices"][0]
    chunks = await simulated.stream(tools=TOOLS)
    first, *others, end = deltas(chunks)
    (call,) = first["tool_calls"]
    pieces = [delta["tool_calls"][0]["function"]["arguments"] for delta in others]
    assert (call["type"], call["function"], end) == ("function", {"name": "get_time", "arguments": ""}, {})
    assert "".join(pieces) == whole["message"]["tool_calls"][0]["function"]["arguments"]
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_the_slow_model_takes_longer_for_each_word(simulated: Simulated) -> None:
    chunks = await simulated.stream("Hi")
    assert simulated.paused == [WORD_SECONDS] * len(chunks)
    simulated.paused.clear()
    chunks = await simulated.stream("Hi", model="demo-slow")
    assert simulated.paused == [SLOW_WORD_SECONDS] * len(chunks)


async def test_the_broken_model_breaks_its_streams_and_passes_its_verification(simulated: Simulated) -> None:
    fields: dict[str, Any] = {"model": "demo-broken", "stream_options": USAGE}
    chunks = await simulated.stream(VERIFICATION_PROMPT, max_completion_tokens=16, **fields)
    assert chunks[-1]["usage"]["total_tokens"] > 0
    assert (await simulated.post(stream=True, **fields)).status_code == 500
    assert all("usage" not in chunk for chunk in await simulated.stream(**fields))
    assert (await simulated.post(stream=True, **fields)).status_code == 429
    assert (await simulated.post(stream=True, **fields)).text.startswith("<html>")
    assert (await simulated.post(stream=True, **fields)).status_code == 503
    truncated = (await simulated.post(stream=True, **fields)).text.split("\n\n")[-2]
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(truncated.removeprefix("data: "))
    with pytest.raises(httpx.RemoteProtocolError):
        await simulated.post(stream=True, **fields)


async def test_options_of_a_stream_need_a_stream(simulated: Simulated) -> None:
    response = await simulated.post(stream_options=USAGE)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "stream_options")


def test_the_streaming_demo_switches_streaming_on_and_prints_how_to_stream(tmp_path: Path) -> None:
    ready = demo.Demo(base_url="http://x/v1", api_key="k", dashboard_url="d", email="e", password="p")
    for streaming in (False, True):
        path, settings = demo._settings(tmp_path, port=1, streaming=streaming, upstream_url="http://127.0.0.1:2")
        assert settings.server.streaming is streaming
        printed = _welcome(ready, path, streaming=streaming)
        requests = [msgspec.json.decode(body) for body in re.findall(r"-d '(.*?)'", printed, re.DOTALL)]
        assert [request.get("stream") for request in requests] == [None, True][: 1 + streaming]
        for snippet in re.findall(r"<<'END'\n(.*?)END\n", printed, re.DOTALL):
            compile(snippet, "snippet", "exec")


@pytest.mark.parametrize("continuous_usage", [False, True])
async def test_the_demos_models_pass_the_verification_of_streams(tmp_path: Path, *, continuous_usage: bool) -> None:
    _, settings = demo._settings(tmp_path, port=1, streaming=True, upstream_url="http://127.0.0.1:2")
    clock = FakeClock()
    app = simulated_upstream(api_key=None, pause=_no_pause)
    async with (
        HttpServer(AsgiBridge(app), bind("127.0.0.1", 0), shutdown_seconds=1) as server,
        open_engine("sqlite", tmp_path) as db,
    ):
        upstream = HttpUpstream(name="s", base_url=f"{server.url}/v1", api_key=None, timeout_seconds=5.0)
        verify_models = VerifyModels(
            endpoints=ENDPOINTS,
            stream_endpoints=["chat", "responses", "messages"],
            models=db.models,
            upstreams={"simulated": upstream},
            limiter=make_limiter(clock, upstream=100),
            clock=clock,
            timeout_seconds=5.0,
        )
        for model_id in ("demo", "demo-slow") if continuous_usage else MODELS:
            model = model_of(model_id, settings)
            route = msgspec.structs.replace(model.routes[0], continuous_usage=continuous_usage)
            state = await verify_models.verify(msgspec.structs.replace(model, routes=(route,)))
            assert (state.passed, state.verified_endpoints) == (True, model.endpoints)
            assert {name: stream.detail for name, stream in state.streams.items() if not stream.verified} == {}
            assert set(state.streams) == {"chat", "responses", "messages"}
            assert state.streams["chat"].continuous_usage_stats is continuous_usage
        await upstream.aclose()


async def _no_pause(_: float) -> None:
    """Stream at once."""
