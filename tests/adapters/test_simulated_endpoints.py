"""Each endpoint of the demo's upstream, whole and streamed, is valid for the official SDK and for our own readers."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import msgspec
import pydantic
import pytest
from openai.types import CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent

from support.endpoint_cases import CASES, STREAMS, EndpointCase, by_name, parse_events
from support.models import make_model
from tok0n.demo.simulated.replies import tokens_of
from tok0n.demo.simulated_upstream import CONTEXT_WINDOW_TOKENS, simulated_upstream
from tok0n.domain.answers import read_answer
from tok0n.domain.endpoints.error_shapes import ANTHROPIC_TYPES
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.usage import Usage
from tok0n.http.asgi import AsgiBridge
from tok0n.http.server import HttpServer, bind

pytestmark = pytest.mark.anyio

KEY = "sk-x"
MODEL = make_model(
    "demo",
    upstream="simulated",
    upstream_model="demo",
    endpoints=("chat", "embeddings", "responses", "messages"),
    streaming_endpoints=("chat", "responses", "messages"),
)
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}
ARGUMENTS = {"city": "Graz", "days": 3}
CALL = f"[call get_weather {msgspec.json.encode(ARGUMENTS).decode()}]"
"""A user's turn with this line makes the simulated model call the tool."""

TOOLS: dict[str, list[dict[str, Any]]] = {
    "chat": [{"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}],
    "responses": [{"type": "function", "name": "get_weather", "parameters": PARAMETERS}],
    "messages": [{"name": "get_weather", "input_schema": PARAMETERS}],
}
SDK: dict[str, pydantic.TypeAdapter[Any]] = {
    "chat": pydantic.TypeAdapter(ChatCompletion),
    "embeddings": pydantic.TypeAdapter(CreateEmbeddingResponse),
    "responses": pydantic.TypeAdapter(Response),
}
"""The official types of whole answers. Anthropic's SDK is not installed here: tests/clients uses it."""

SDK_EVENTS: dict[str, pydantic.TypeAdapter[Any]] = {
    "chat": pydantic.TypeAdapter(ChatCompletionChunk),
    "responses": pydantic.TypeAdapter(ResponseStreamEvent),
}
LIMITS = {"chat": "max_completion_tokens", "responses": "max_output_tokens", "messages": "max_tokens"}


class Simulated(msgspec.Struct):
    """The server's client."""

    client: httpx.AsyncClient

    async def post(self, case: EndpointCase, body: bytes) -> httpx.Response:
        return await self.client.post(f"/v1{case.endpoint.upstream_path}", content=body)

    async def usages(self) -> list[Any]:
        """The usage that the server says it has reported."""
        data = (await self.client.get("/v1/simulated/answers")).json()["data"]
        return [record["usage"] for record in data]


@pytest.fixture
async def simulated() -> AsyncIterator[Simulated]:
    async def no_pause(_: float) -> None:
        """Stream at once."""

    app = simulated_upstream(api_key=KEY, pause=no_pause)
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        HttpServer(AsgiBridge(app), bind("127.0.0.1", 0), shutdown_seconds=1) as server,
        httpx.AsyncClient(base_url=server.url, headers=headers, trust_env=False) as client,
    ):
        yield Simulated(client)


def read(case: EndpointCase, body: bytes) -> MeteredRequest:
    return case.endpoint.read_request(body, find_model=lambda _: MODEL, is_streaming=True)


async def whole(simulated: Simulated, case: EndpointCase, text: str, **more: Any) -> tuple[Any, Usage]:
    """Return a whole answer, which the SDK and our reader accept, and its usage."""
    request = read(case, case.body(text, **more))
    got = await simulated.post(case, case.body(text, **more))
    assert got.status_code == 200, got.text
    if case.name in SDK:
        SDK[case.name].validate_json(got.content)
    usage = read_answer(case.endpoint, 200, got.content, request=request, scrub=str).usage
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens <= max(1, request.bound)
    return got.json(), usage


async def streamed(simulated: Simulated, case: EndpointCase, text: str, **more: Any) -> tuple[list[Any], Usage]:
    """Return the events of a stream, which the SDK and our reader accept, and its usage."""
    body = case.body(text, is_stream=True, **more)
    got = await simulated.post(case, body)
    assert got.headers["content-type"].startswith("text/event-stream")
    events = [event for event in parse_events(got.content) if event != "[DONE]"]
    for event in events:
        if case.name in SDK_EVENTS:
            SDK_EVENTS[case.name].validate_python(event)
    read_stream = case.endpoint.read_stream
    assert read_stream is not None
    reader = read_stream(read(case, body), event_bytes_max=2**20, scrub=str)
    reader.feed(got.content)
    assert (reader.failure, reader.has_ended) == (None, True)
    assert reader.usage is not None
    return events, reader.usage


def text_of(case: EndpointCase, answer: Any) -> str:
    """The text of a whole answer."""
    texts: dict[str, Callable[[Any], str]] = {
        "chat": lambda found: found["choices"][0]["message"]["content"],
        "responses": lambda found: found["output"][0]["content"][0]["text"],
        "messages": lambda found: found["content"][0]["text"],
    }
    return texts[case.name](answer)


def call_of(case: EndpointCase, answer: Any) -> tuple[str, Any, str]:
    """The name and arguments of the only tool call of a whole answer, and why the answer ended."""
    if case.name == "chat":
        (choice,) = answer["choices"]
        (call,) = choice["message"]["tool_calls"]
        function = call["function"]
        return function["name"], msgspec.json.decode(function["arguments"]), choice["finish_reason"]
    if case.name == "responses":
        (item,) = answer["output"]
        return item["name"], msgspec.json.decode(item["arguments"]), answer["status"]
    (block,) = answer["content"]
    return block["name"], block["input"], answer["stop_reason"]


def streamed_arguments(case: EndpointCase, events: list[Any]) -> Any:
    """The arguments of the only tool call of a stream, put together from its pieces."""
    pieces = []
    for event in events:
        if case.name == "chat":
            calls = [call for choice in event["choices"] for call in choice["delta"].get("tool_calls", [])]
            pieces += [call["function"]["arguments"] for call in calls]
        elif event["type"] == "response.function_call_arguments.delta":
            pieces.append(event["delta"])
        elif event["type"] == "content_block_delta":
            pieces.append(event["delta"]["partial_json"])
    assert len(pieces) > 1
    return msgspec.json.decode("".join(pieces))


@pytest.mark.parametrize("case", CASES, ids=by_name)
async def test_a_whole_answer_is_valid_and_its_usage_is_what_was_billed(
    simulated: Simulated, case: EndpointCase
) -> None:
    question = "What is a ledger?"
    more = {LIMITS[case.name]: 900} if case.name in LIMITS else {}
    answer, usage = await whole(simulated, case, question, **more)
    counted = usage.prompt_tokens if case.endpoint.is_billed else answer["input_tokens"]
    assert counted >= tokens_of(question)
    assert await simulated.usages() == [answer.get("usage")]
    if case.stream is not None:
        assert usage.completion_tokens == tokens_of(text_of(case, answer))
        assert f"4 words: “{question}”" in text_of(case, answer)


@pytest.mark.parametrize("case", STREAMS, ids=by_name)
@pytest.mark.parametrize("limit", [1, 5, 900])
async def test_a_stream_is_the_whole_answer_with_the_same_usage(
    simulated: Simulated, case: EndpointCase, limit: int
) -> None:
    more = {LIMITS[case.name]: limit}
    answer, usage = await whole(simulated, case, "Été", **more)
    events, streamed_usage = await streamed(simulated, case, "Été", **more)
    assert case.streaming.text(events) == text_of(case, answer)
    assert streamed_usage == usage
    assert usage.completion_tokens <= limit
    first, second = await simulated.usages()
    assert first == second


@pytest.mark.parametrize("case", STREAMS, ids=by_name)
async def test_a_tool_call_is_valid_whole_and_streamed_and_its_definition_counts(
    simulated: Simulated, case: EndpointCase
) -> None:
    tools = {"tools": TOOLS[case.name]}
    _, without = await whole(simulated, case, CALL)
    answer, usage = await whole(simulated, case, CALL, **tools)
    ends = {"chat": "tool_calls", "responses": "completed", "messages": "tool_use"}
    assert call_of(case, answer) == ("get_weather", ARGUMENTS, ends[case.name])
    events, streamed_usage = await streamed(simulated, case, CALL, **tools)
    assert streamed_arguments(case, events) == ARGUMENTS
    assert streamed_usage == usage
    assert usage.prompt_tokens - without.prompt_tokens == tokens_of(msgspec.json.encode(TOOLS[case.name]).decode())
    assert usage.completion_tokens == tokens_of("get_weather" + msgspec.json.encode(ARGUMENTS).decode())


def bad_bodies(case: EndpointCase) -> dict[str, tuple[int, bytes]]:
    """Bodies that the endpoint rejects, each with the status."""
    (prompt,) = {"messages", "input"} & set(case.fields(""))
    long = "long " * CONTEXT_WINDOW_TOKENS

    def with_prompt(value: Any) -> bytes:
        fields: dict[str, Any] = {prompt: value}
        return case.body(**fields)

    return {
        "not JSON": (400, b"{"),
        "a list": (400, b"[]"),
        "nothing": (400, b"{}"),
        "a wrong prompt": (400, with_prompt(7)),
        "an empty prompt": (400, with_prompt([])),
        "a wrong item": (400, with_prompt([[{}]])),
        "an unknown model": (404, case.body(model="other")),
        "a long prompt": (400, case.body(long)),
    }


@pytest.mark.parametrize("case", CASES, ids=by_name)
async def test_a_bad_body_or_key_gets_the_error_of_the_endpoints_own_api(
    simulated: Simulated, case: EndpointCase
) -> None:
    path = f"/v1{case.endpoint.upstream_path}"
    answers = {name: (status, await simulated.post(case, body)) for name, (status, body) in bad_bodies(case).items()}
    wrong_key = {"authorization": "Bearer sk-wrong"}
    answers["a wrong key"] = (401, await simulated.client.post(path, content=case.body(), headers=wrong_key))
    for name, (status, got) in answers.items():
        assert got.status_code == status, (name, got.text)
        error = got.json()["error"]
        assert error["message"], name
        if case.endpoint.path.startswith("/v1/messages"):
            kind = {400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error"}[status]
            assert (got.json()["type"], error.keys()) == ("error", {"type", "message"}), name
            assert error["type"] == kind, name
            assert kind in ANTHROPIC_TYPES.values()
        else:
            assert (got.json().keys(), error.keys()) == ({"error"}, {"message", "type", "param", "code"}), name
    if not case.endpoint.path.startswith("/v1/messages"):
        (prompt,) = {"messages", "input"} & set(case.fields(""))
        assert answers["a long prompt"][1].json()["error"]["param"] == prompt
