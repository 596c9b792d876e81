"""The official Python SDK, sync and async: what it makes of a stream, and what the stream costs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pydantic
import pytest
from openai.types.chat import ChatCompletionChunk

from support.client_streams import (
    PROMPT_TOKENS,
    REJECTED,
    STREAMS,
    TOKENS,
    TOOL,
    StreamingUpstream,
    assert_charged,
    charged_tokens,
    streaming_gateway,
    total_tokens,
)
from support.gateways import Running, running

pytestmark = pytest.mark.anyio


class City(pydantic.BaseModel):
    city: str


@pytest.fixture
async def upstream() -> AsyncIterator[StreamingUpstream]:
    async with StreamingUpstream() as upstream:
        yield upstream


@pytest.fixture
async def gateway(tmp_path: Path, upstream: StreamingUpstream) -> AsyncIterator[Running]:
    async with streaming_gateway(tmp_path, upstream) as gateway:
        yield gateway


@pytest.fixture
async def client(gateway: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client:
        yield client


@pytest.fixture(params=["sync", "async"])
def chunks_of(request: pytest.FixtureRequest, gateway: Running) -> Callable[..., Any]:
    """Streams a prompt with one of the two clients, and returns the chunks."""
    options: dict[str, Any] = {"base_url": gateway.base_url, "api_key": gateway.api_key}

    def read(prompt: str, **more: Any) -> list[ChatCompletionChunk]:
        with openai.OpenAI(**options) as client:
            return list(client.chat.completions.create(**request_of(prompt), stream=True, **more))

    async def read_in_thread(prompt: str, **more: Any) -> list[ChatCompletionChunk]:
        return await asyncio.to_thread(read, prompt, **more)

    async def read_async(prompt: str, **more: Any) -> list[ChatCompletionChunk]:
        async with openai.AsyncOpenAI(**options) as client:
            stream = await client.chat.completions.create(**request_of(prompt), stream=True, **more)
            return [chunk async for chunk in stream]

    return read_in_thread if request.param == "sync" else read_async


def request_of(prompt: str) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": prompt}]}


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


async def test_a_stream_without_options_has_the_text_and_no_usage(chunks_of: Any, gateway: Running) -> None:
    chunks = await chunks_of("text")
    assert text_of(chunks) == "Hello, wörld."
    assert {chunk.model for chunk in chunks} == {"demo"}
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert {chunk.usage for chunk in chunks} == {None}
    await assert_charged(gateway, "text")


async def test_comments_before_the_first_chunk_are_ignored(tmp_path: Path, upstream: StreamingUpstream) -> None:
    async with (
        streaming_gateway(tmp_path, upstream, hold_seconds=0.001) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client,
    ):
        stream = await client.chat.completions.create(**request_of("silent"), stream=True)
        assert text_of([chunk async for chunk in stream]) == "Hello, wörld."
        await assert_charged(gateway, "silent")


async def test_comments_between_chunks_are_ignored(chunks_of: Any, gateway: Running) -> None:
    chunks = await chunks_of("quiet")
    assert text_of(chunks) == "Hello, wörld."
    await assert_charged(gateway, "quiet")


async def test_the_last_chunk_has_the_usage_and_the_charge(chunks_of: Any, gateway: Running) -> None:
    *chunks, last = await chunks_of("text", stream_options={"include_usage": True})
    assert text_of(chunks) == "Hello, wörld."
    assert {chunk.usage for chunk in chunks} == {None}
    total = total_tokens("text")
    assert (last.choices, last.model, last.usage.total_tokens) == ([], "demo", total)
    charge = last.usage.tok0n
    assert (charge["charged"], charge["available"]) == (total, TOKENS - total)
    assert charge["reserved"] >= total
    await assert_charged(gateway, "text")


async def test_tool_calls_arrive_in_pieces(chunks_of: Any, gateway: Running) -> None:
    chunks = await chunks_of("tools", tools=[TOOL])
    calls = [call for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    assert [(call.id, call.function.name) for call in calls if call.id] == [("call_0", "add"), ("call_1", "add")]
    arguments = ["".join(call.function.arguments for call in calls if call.index == index) for index in range(2)]
    assert arguments == ['{"a": 1, "b": 2}', '{"a": 3, "b": 4}']
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    await assert_charged(gateway, "tools")


async def test_two_choices_arrive_interleaved(chunks_of: Any, gateway: Running) -> None:
    chunks = await chunks_of("two", n=2)
    assert [text_of(chunks, index) for index in range(2)] == ["ab", "cd"]
    await assert_charged(gateway, "two")


async def test_logprobs_arrive_with_their_text(chunks_of: Any, gateway: Running) -> None:
    chunks = await chunks_of("logprobs", logprobs=True)
    tokens = [chunk.choices[0].logprobs.content[0] for chunk in chunks if chunk.choices[0].logprobs]
    assert [(token.token, token.logprob) for token in tokens] == [("Hello", -0.25), (".", -0.25)]
    await assert_charged(gateway, "logprobs")


async def test_reasoning_content_arrives(chunks_of: Any, gateway: Running) -> None:
    chunks = await chunks_of("reasoning")
    pieces = [getattr(chunk.choices[0].delta, "reasoning_content", None) for chunk in chunks]
    assert "".join(piece for piece in pieces if piece) == "Let me think."
    assert text_of(chunks) == "Hello."
    await assert_charged(gateway, "reasoning")


@pytest.mark.parametrize("prompt", ["error", "cut"])
async def test_a_failure_in_the_middle_is_an_api_error_that_costs_nothing(
    prompt: str, chunks_of: Any, gateway: Running, upstream: StreamingUpstream
) -> None:
    with pytest.raises(openai.APIError) as failed:
        await chunks_of(prompt)
    assert type(failed.value) is openai.APIError
    assert (failed.value.code, failed.value.type) == ("upstream_error", "upstream_error")
    assert "not charged" in failed.value.message
    assert "upstream-demo" not in failed.value.message
    assert len(upstream.requests) == 1
    await assert_charged(gateway)


@pytest.mark.parametrize(
    ("prompt", "status", "code", "attempts"),
    [("early error", 502, "upstream_error", 3), ("too long", 400, "invalid_request", 1)],
)
async def test_an_error_before_the_content_is_a_status_as_of_a_whole_answer(
    prompt: str, status: int, code: str, attempts: int, chunks_of: Any, gateway: Running, upstream: StreamingUpstream
) -> None:
    with pytest.raises(openai.APIStatusError) as failed:
        await chunks_of(prompt)
    assert (failed.value.status_code, failed.value.code, len(upstream.requests)) == (status, code, attempts)
    await assert_charged(gateway)


async def test_the_headers_of_a_stream_have_the_reservation(client: openai.AsyncOpenAI, gateway: Running) -> None:
    options: Any = {"stream": True, "stream_options": {"include_usage": True}}
    raw = await client.chat.completions.with_raw_response.create(**request_of("text"), **options)
    *_, last = [chunk async for chunk in raw.parse()]
    assert raw.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert raw.headers["x-tok0n-reserved"] == str(last.usage.tok0n["reserved"])
    assert raw.headers["x-request-id"].startswith("req_")
    assert raw.headers["x-ratelimit-remaining-requests"] == "999999"
    await assert_charged(gateway, "text")


async def test_the_text_before_a_failure_arrives(client: openai.AsyncOpenAI, gateway: Running) -> None:
    chunks = []

    async def read() -> None:
        async for chunk in await client.chat.completions.create(**request_of("error"), stream=True):
            chunks.append(chunk)  # noqa: PERF401  the chunks before the error count

    with pytest.raises(openai.APIError):
        await read()
    assert text_of(chunks) == "Hello, "
    await assert_charged(gateway)


async def test_the_stream_helper_builds_the_whole_answer(client: openai.AsyncOpenAI, gateway: Running) -> None:
    options: Any = {"stream_options": {"include_usage": True}}
    async with client.chat.completions.stream(**request_of("text"), **options) as stream:
        events = [event async for event in stream]
        answer = await stream.get_final_completion()
    assert "".join(event.delta for event in events if event.type == "content.delta") == "Hello, wörld."
    assert "content.done" in {event.type for event in events}
    assert answer.choices[0].message.content == "Hello, wörld."
    assert answer.usage is not None
    assert answer.usage.total_tokens == total_tokens("text")
    await assert_charged(gateway, "text")


async def test_the_stream_helper_parses_tool_calls(client: openai.AsyncOpenAI, gateway: Running) -> None:
    tool: Any = {"type": "function", "function": TOOL["function"] | {"strict": True}}
    async with client.chat.completions.stream(**request_of("tools"), tools=[tool]) as stream:
        events = [event async for event in stream]
        answer = await stream.get_final_completion()
    done: list[Any] = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert [event.parsed_arguments for event in done] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert [call.id for call in answer.choices[0].message.tool_calls or []] == ["call_0", "call_1"]
    await assert_charged(gateway, "tools")


async def test_the_stream_helper_parses_a_structured_answer(client: openai.AsyncOpenAI, gateway: Running) -> None:
    async with client.chat.completions.stream(**request_of("json"), response_format=City) as stream:
        answer = await stream.get_final_completion()
    assert answer.choices[0].message.parsed == City(city="Oslo")
    await assert_charged(gateway, "json")


async def test_a_streamed_message_with_tool_calls_is_accepted_in_the_next_request(
    client: openai.AsyncOpenAI, gateway: Running
) -> None:
    request: Any = request_of("tools") | {"tools": [TOOL]}
    async with client.chat.completions.stream(**request) as stream:
        message = (await stream.get_final_completion()).choices[0].message
    results = [{"role": "tool", "tool_call_id": call.id, "content": "3"} for call in message.tool_calls or []]
    request["messages"] = [*request["messages"], message, *results]
    async with client.chat.completions.stream(**request) as stream:
        answer = await stream.get_final_completion()
    assert answer.choices[0].message.content == "Hello, wörld."
    await assert_charged(gateway, "tools", "text")


async def test_the_sync_stream_helper_reads_choices_and_logprobs(gateway: Running) -> None:
    def read() -> tuple[list[str | None], list[str]]:
        with openai.OpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client:
            with client.chat.completions.stream(**request_of("two"), n=2) as stream:
                texts = [choice.message.content for choice in stream.get_final_completion().choices]
            with client.chat.completions.stream(**request_of("logprobs"), logprobs=True) as stream:
                tokens = [
                    token.token for event in stream if event.type == "logprobs.content.delta" for token in event.content
                ]
        return texts, tokens

    assert await asyncio.to_thread(read) == (["ab", "cd"], ["Hello", "."])
    await assert_charged(gateway, "two", "logprobs")


async def test_a_stream_closed_early_is_charged_as_the_upstream_reports(
    client: openai.AsyncOpenAI, gateway: Running, upstream: StreamingUpstream
) -> None:
    stream = await client.chat.completions.create(**request_of("long"), stream=True)
    assert (await anext(stream)).choices[0].delta.role == "assistant"
    await stream.close()
    assert (await gateway.account()).balance.pending > 0
    upstream.resumed.set()
    await assert_charged(gateway, "long")


async def test_a_sync_stream_closed_early_is_charged_as_the_upstream_reports(
    gateway: Running, upstream: StreamingUpstream
) -> None:
    def read_one() -> Any:
        with (
            openai.OpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client,
            client.chat.completions.create(**request_of("long"), stream=True) as stream,
        ):
            return next(stream)

    assert (await asyncio.to_thread(read_one)).choices[0].delta.role == "assistant"
    upstream.resumed.set()
    await assert_charged(gateway, "long")


async def test_closing_a_stream_stops_the_bill_if_the_upstream_reports_continuous_usage(
    tmp_path: Path, upstream: StreamingUpstream
) -> None:
    async with (
        streaming_gateway(tmp_path, upstream, upstream_more="continuous_usage = true") as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client,
    ):
        async with await client.chat.completions.create(**request_of("continuous"), stream=True) as stream:
            for _ in range(3):
                await anext(stream)
        charged = await charged_tokens(gateway)
        await upstream.until(lambda: upstream.closed_connections == upstream.connections)
    assert PROMPT_TOKENS + 3 <= charged <= PROMPT_TOKENS + upstream.chunks_sent
    assert upstream.chunks_sent < len(STREAMS["continuous"]) // 2


async def test_one_client_streams_again_on_its_connection(client: openai.AsyncOpenAI, gateway: Running) -> None:
    for _ in range(3):
        stream = await client.chat.completions.create(**request_of("text"), stream=True)
        assert text_of([chunk async for chunk in stream]) == "Hello, wörld."
    await assert_charged(gateway, "text", "text", "text")


async def test_a_gateway_that_does_not_stream_says_so(tmp_path: Path, upstream: StreamingUpstream) -> None:
    async with (
        running(tmp_path, upstream_url=upstream.base_url) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client,
    ):
        with pytest.raises(openai.BadRequestError, match=REJECTED) as rejected:
            await client.chat.completions.create(**request_of("text"), stream=True)
        assert rejected.value.param == "stream"
        with pytest.raises(openai.BadRequestError, match=REJECTED):
            async with client.chat.completions.stream(**request_of("text")):
                pass
        await assert_charged(gateway)
