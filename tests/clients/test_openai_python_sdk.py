"""The official Python SDK: its answers, its exception classes, and how often it tries."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from support.api_keys import budget, create_key
from support.gateways import EMAIL, Running, running
from support.scripted_upstream import FAULTS, Behaviour, ScriptedUpstream, hang, ok, status
from tok0n.domain.accounts import KeyLimits
from tok0n.domain.budgets import ResetPeriod

pytestmark = pytest.mark.anyio

MESSAGES: list[openai.types.chat.ChatCompletionMessageParam] = [{"role": "user", "content": "Hello"}]


@pytest.fixture
async def client(gateway: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client:
        yield client


async def test_it_gets_its_answer_and_the_receipt(client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(
        model="demo", messages=MESSAGES, max_completion_tokens=50
    )
    answer = raw.parse()
    assert answer.choices[0].message.content == "Hello."
    assert answer.model == "demo"
    assert answer.usage is not None
    assert raw.headers["x-tok0n-charged"] == str(answer.usage.total_tokens)
    assert answer._request_id == raw.headers["x-request-id"]


TOOL: openai.types.chat.ChatCompletionToolParam = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
CALLS = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"upstream-demo","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":null,"tool_calls":[{"id":"call_1","type":"function","function":{"name":"add",'
    b'"arguments":"{}"}}],"refusal":null,"annotations":[],"audio":null,"reasoning_content":"r","reasoning":"r"},'
    b'"logprobs":null,"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}'
)


async def test_a_tool_loop_that_appends_the_message_as_it_came_gets_its_second_answer(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream, gateway: Running
) -> None:
    upstream.behaviour = ok(CALLS)
    messages = [*MESSAGES]
    for _ in range(2):
        answer = await client.chat.completions.create(model="demo", messages=messages, tools=[TOOL])
        message = answer.choices[0].message
        assert message.tool_calls is not None
        messages.append(message)  # type: ignore[arg-type]
        messages.append({"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "5"})
    upstream.behaviour = ok()
    answer = await client.chat.completions.create(model="demo", messages=messages, tools=[TOOL])
    assert answer.choices[0].message.content == "Hello."
    assert (await gateway.account()).balance.posted == 1_000_000 - 3 * 12


async def test_a_rejection_of_the_upstream_is_tried_once(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream
) -> None:
    upstream.behaviour = status(400, b'{"error":{"message":"Too long.","type":"Bad Request","param":null,"code":400}}')
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="demo", messages=MESSAGES)
    assert (refused.value.code, refused.value.body["message"]) == ("invalid_request", "Too long.")  # type: ignore[index]
    assert len(upstream.requests) == 1


async def test_it_lists_and_gets_the_models(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["demo"]
    model = await client.models.retrieve("demo")
    assert (model.object, model.owned_by) == ("model", "tok0n")
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("gpt-x")


async def test_a_bad_request_is_tried_once(client: openai.AsyncOpenAI, upstream: ScriptedUpstream) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="demo", messages=MESSAGES, temperature=3)
    assert (refused.value.param, refused.value.code, refused.value.type) == (
        "temperature",
        "invalid_request",
        "invalid_request_error",
    )
    assert upstream.requests == []


async def test_streaming_is_refused_in_words(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="demo", messages=MESSAGES, stream=True)
    assert refused.value.param == "stream"


async def test_a_wrong_key_is_an_authentication_error(gateway: Running) -> None:
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key="sk-wrong") as client:
        with pytest.raises(openai.AuthenticationError) as refused:
            await client.chat.completions.create(model="demo", messages=MESSAGES)
    assert refused.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    ("behaviour", "attempts"),
    [
        (FAULTS["500"], 3),
        (FAULTS["429"], 3),
        (status(503), 3),
        (FAULTS["reset"], 1),
        (FAULTS["html"], 1),
        (FAULTS["usage missing"], 1),
    ],
)
async def test_an_upstream_failure_is_retried_only_when_its_outcome_is_known(
    behaviour: Behaviour, attempts: int, client: openai.AsyncOpenAI, upstream: ScriptedUpstream, gateway: Running
) -> None:
    upstream.behaviour = behaviour
    with pytest.raises(openai.InternalServerError) as failed:
        await client.chat.completions.create(model="demo", messages=MESSAGES)
    assert (failed.value.status_code, failed.value.code) == (502, "upstream_error")
    assert len(upstream.requests) == attempts
    assert (await gateway.account()).balance.posted == 1_000_000


async def test_a_retry_that_succeeds_is_charged_once(
    client: openai.AsyncOpenAI, upstream: ScriptedUpstream, gateway: Running
) -> None:
    behaviours = [FAULTS["500"], ok()]

    async def in_turn(writer: object) -> None:
        await behaviours.pop(0)(writer)  # type: ignore[arg-type]

    upstream.behaviour = in_turn
    await client.chat.completions.create(model="demo", messages=MESSAGES)
    assert (await gateway.account()).balance.posted == 1_000_000 - 12
    assert await gateway.audit_is_clean()


async def test_an_empty_account_is_a_402_tried_once(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with (
        running(tmp_path, upstream_url=upstream.base_url, tokens=600) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key) as client,
    ):
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(model="demo", messages=MESSAGES, max_completion_tokens=1000)
        assert (refused.value.status_code, refused.value.code) == (402, "insufficient_tokens")
        assert refused.value.response.headers["x-should-retry"] == "false"
        assert "600 available" in refused.value.message
        assert upstream.requests == []
        await client.chat.completions.create(model="demo", messages=MESSAGES, max_completion_tokens=50)


async def test_what_a_key_may_not_do_is_a_permission_error_tried_once(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    _, secret = await create_key(gateway.store.accounts, EMAIL, limits=KeyLimits(networks=("203.0.113.0/24",)))
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=secret) as client:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            await client.chat.completions.create(model="demo", messages=MESSAGES, max_completion_tokens=50)
    assert (refused.value.code, refused.value.param, refused.value.type) == (
        "key_not_allowed",
        "network",
        "permission_error",
    )
    assert upstream.requests == []


async def test_a_spent_budget_is_a_402_that_names_it_and_is_tried_once(
    gateway: Running, upstream: ScriptedUpstream
) -> None:
    limits = KeyLimits(budgets=(budget(600, ResetPeriod.WEEK),))
    _, secret = await create_key(gateway.store.accounts, EMAIL, limits=limits)
    async with openai.AsyncOpenAI(base_url=gateway.base_url, api_key=secret) as client:
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(model="demo", messages=MESSAGES, max_completion_tokens=1000)
        assert (refused.value.status_code, refused.value.code, refused.value.param) == (
            402,
            "insufficient_tokens",
            "budget",
        )
        assert "budget of 600 tokens per week" in refused.value.message
        await client.chat.completions.create(model="demo", messages=MESSAGES, max_completion_tokens=10)
    assert len(upstream.requests) == 1


async def test_a_rate_limit_says_when_to_come_back(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    async with (
        running(tmp_path, upstream_url=upstream.base_url, limits=2) as gateway,
        openai.AsyncOpenAI(base_url=gateway.base_url, api_key=gateway.api_key, max_retries=0) as client,
    ):
        for _ in range(2):
            await client.chat.completions.create(model="demo", messages=MESSAGES)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model="demo", messages=MESSAGES)
        headers = refused.value.response.headers
        assert 1 <= int(headers["retry-after"]) <= 60
        assert 0 < int(headers["retry-after-ms"]) <= 60_000
        assert headers["x-ratelimit-remaining-requests"] == "0"
        assert refused.value.code == "rate_limit_error"


class Attempts:
    """A client of the SDK that counts the requests it really sends, and does not wait between them."""

    def __init__(self, gateway: Running) -> None:
        self.count = 0
        self.client = openai.AsyncOpenAI(
            base_url=gateway.base_url,
            api_key=gateway.api_key,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"request": [self._sent]}),
        )

    async def _sent(self, _: object) -> None:
        self.count += 1

    async def refusal(self, **more: Any) -> openai.APIStatusError:
        with pytest.raises(openai.APIStatusError) as refused:
            await self.client.chat.completions.create(model="demo", messages=MESSAGES, **more)
        return refused.value


@pytest.fixture
async def attempts(gateway: Running) -> AsyncIterator[Attempts]:
    attempts = Attempts(gateway)
    yield attempts
    await attempts.client.close()


async def test_what_a_retry_cannot_mend_is_tried_once(attempts: Attempts) -> None:
    for more, expected in (
        ({"temperature": 3}, 400),
        ({"max_completion_tokens": 1000, "n": 128, "prediction": {"type": "content", "content": "x" * 900_000}}, 402),
        ({"user": "x" * 5_000_000}, 413),
    ):
        attempts.count = 0
        assert (await attempts.refusal(**more)).status_code == expected
        assert attempts.count == 1, expected


async def test_a_reservation_that_cannot_be_made_is_an_internal_error_tried_three_times(
    attempts: Attempts, gateway: Running, upstream: ScriptedUpstream
) -> None:
    (gateway.folder / "tok0n.db").rename(gateway.folder / "away.db")
    refused = await attempts.refusal()
    (gateway.folder / "away.db").rename(gateway.folder / "tok0n.db")
    assert isinstance(refused, openai.InternalServerError)
    assert (refused.status_code, refused.code, attempts.count) == (500, "api_error", 3)
    assert upstream.requests == []


async def test_a_settlement_that_cannot_be_made_is_tried_once(
    attempts: Attempts, gateway: Running, upstream: ScriptedUpstream
) -> None:
    async def without_database(writer: asyncio.StreamWriter) -> None:
        (gateway.folder / "tok0n.db").rename(gateway.folder / "away.db")
        await ok()(writer)

    upstream.behaviour = without_database
    refused = await attempts.refusal()
    (gateway.folder / "away.db").rename(gateway.folder / "tok0n.db")
    assert (refused.status_code, attempts.count, len(upstream.requests)) == (500, 1, 1)


async def test_a_gateway_at_its_capacity_is_tried_again(tmp_path: Path, upstream: ScriptedUpstream) -> None:
    upstream.behaviour = hang
    async with running(tmp_path, upstream_url=upstream.base_url, upstream_more="connections_max = 1") as gateway:
        attempts = Attempts(gateway)
        holding = asyncio.create_task(attempts.client.chat.completions.create(model="demo", messages=MESSAGES))
        await upstream.until(lambda: len(upstream.requests) == 1)
        attempts.count = 0
        refused = await attempts.refusal()
        assert isinstance(refused, openai.InternalServerError)
        assert (refused.status_code, refused.code, attempts.count) == (503, "overloaded", 3)
        holding.cancel()
        await attempts.client.close()
