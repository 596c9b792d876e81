"""The demo's upstream, over real HTTP: it says that it is simulated, keeps to limits, and fails in changing ways."""

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import jsonschema_rs
import msgspec
import pytest

from support.metered_requests import metered_request
from support.models import make_model
from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.bootstrap import demo
from tok0n.demo.simulated_upstream import CONTEXT_WINDOW_TOKENS, MODELS, SLOW_SECONDS, simulated_upstream
from tok0n.domain.answers import Answer, read_answer
from tok0n.domain.catalogue import VERIFICATION_PROMPT
from tok0n.domain.endpoints.chat import CHAT, read_chat_request
from tok0n.domain.errors import RejectedByUpstream, UpstreamFailed
from tok0n.http.asgi import AsgiBridge
from tok0n.http.server import HttpServer, bind

pytestmark = pytest.mark.anyio

KEY = "sk-x"
MODEL = make_model("demo", upstream="simulated", upstream_model="demo", context_window_tokens=CONTEXT_WINDOW_TOKENS)
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "unit": {"enum": ["celsius", "fahrenheit"]},
        "days": {"type": "array", "items": {"type": "integer"}},
        "exact": {"type": ["boolean", "null"]},
        "where": {"properties": {"zip": {"const": "10115"}}, "required": ["zip"]},
    },
    "required": ["city", "unit", "days", "exact", "where"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "function": {"name": "get_weather", "parameters": WEATHER}},
    {"type": "function", "function": {"name": "get_time"}},
]


class Simulated:
    """The server's address, and the seconds that it was asked to pause for."""

    def __init__(self) -> None:
        self.paused: list[float] = []
        self.url = ""

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)

    async def post(self, content: bytes, *, key: str = KEY) -> httpx.Response:
        async with httpx.AsyncClient(headers={"authorization": f"Bearer {key}"}, trust_env=False) as client:
            return await client.post(f"{self.url}/v1/chat/completions", content=content)

    async def ask(self, content: str = "What is a ledger?", **fields: Any) -> httpx.Response:
        body = {"model": "demo", "messages": [{"role": "user", "content": content}]} | fields
        return await self.post(msgspec.json.encode(body))

    async def choice(self, content: str = "What is a ledger?", **fields: Any) -> Any:
        return (await self.ask(content, **fields)).json()["choices"][0]

    async def text(self, content: str = "What is a ledger?", **fields: Any) -> str:
        text: str = (await self.choice(content, **fields))["message"]["content"]
        return text


@pytest.fixture
async def simulated() -> AsyncIterator[Simulated]:
    simulated = Simulated()
    app = simulated_upstream(api_key=KEY, pause=simulated.pause)
    async with HttpServer(AsgiBridge(app), bind("127.0.0.1", 0), shutdown_seconds=1) as server:
        simulated.url = server.url
        yield simulated


def read(response: httpx.Response) -> Answer:
    return read_answer(
        CHAT,
        response.status_code,
        response.content,
        request=metered_request("demo", upstream_model="demo"),
        scrub=lambda text: text,
    )


async def test_it_says_what_it_is_and_repeats_the_request_in_its_own_words(simulated: Simulated) -> None:
    text = await simulated.text()
    assert "simulated model" in text
    assert "no language model" in text
    assert "as user, has 4 words: “What is a ledger?”" in text


async def test_it_tells_instructions_from_earlier_messages(simulated: Simulated) -> None:
    messages = [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "now?"}]},
    ]
    text = await simulated.text(messages=messages)
    assert "2 words: “And now?”" in text
    assert "1 instruction," in text
    assert "You sent 2 messages before it." in text


HOSTILE_TOOL_CALL = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"messages": [{"role": "user", "content": "ﷺ" * 100}]},
        {"messages": [{"role": "user", "content": "long " * 5000}]},
        {"messages": [{"role": "user", "content": ""}] * 1000},
        {"messages": [{"role": "assistant", "tool_calls": [HOSTILE_TOOL_CALL] * 1000}]},
        {"tools": TOOLS},
        {"tools": TOOLS * 60, "tool_choice": "none"},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}}},
    ],
)
@pytest.mark.parametrize("limit", [1, 7, 900])
async def test_its_usage_is_within_the_bound_and_the_limit(
    simulated: Simulated, fields: dict[str, Any], limit: int
) -> None:
    response = await simulated.ask(**({"max_completion_tokens": limit, "n": 3} | fields))
    usage = read(response).usage
    request = read_chat_request(response.request.content, find_model=lambda _: MODEL)
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens <= request.prompt_bound
    assert 3 <= usage.completion_tokens <= 3 * limit == request.output_bound


@pytest.mark.parametrize("field", ["max_completion_tokens", "max_tokens"])
async def test_it_is_cut_at_the_output_limit(simulated: Simulated, field: str) -> None:
    whole = await simulated.choice("Été")
    cut = await simulated.choice("Été", **{field: 5})
    assert (whole["finish_reason"], cut["finish_reason"]) == ("stop", "length")
    assert cut["message"]["content"] == whole["message"]["content"][:20]


async def test_it_gives_as_many_choices_as_were_asked_for(simulated: Simulated) -> None:
    choices = (await simulated.ask(n=3)).json()["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]


async def test_it_stops_before_the_first_stop_string(simulated: Simulated) -> None:
    choice = await simulated.choice(stop=["nowhere", "demo. It", "Tok0n", ""])
    assert (choice["message"]["content"], choice["finish_reason"]) == (
        "This is demo, a simulated model in ",
        "stop",
    )


async def test_json_is_json_and_has_the_shape_of_the_schema(simulated: Simulated) -> None:
    plain = msgspec.json.decode(await simulated.text(response_format={"type": "json_object"}))
    assert plain["simulated"] is True
    assert "What is a ledger?" in plain["answer"]
    wanted = {"type": "json_schema", "json_schema": {"name": "w", "schema": WEATHER}}
    shaped = msgspec.json.decode(await simulated.text(response_format=wanted))
    assert jsonschema_rs.is_valid(WEATHER, shaped)


async def test_it_calls_the_first_function_with_arguments_of_its_schema(simulated: Simulated) -> None:
    choice = await simulated.choice(tools=TOOLS)
    call = choice["message"]["tool_calls"][0]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", None)
    assert call["function"]["name"] == "get_weather"
    assert jsonschema_rs.is_valid(WEATHER, msgspec.json.decode(call["function"]["arguments"]))


async def test_it_calls_the_function_that_is_named(simulated: Simulated) -> None:
    named = {"type": "function", "function": {"name": "get_time"}}
    choice = await simulated.choice(tools=TOOLS, tool_choice=named)
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "get_time", "arguments": "{}"}


async def test_it_talks_about_what_a_tool_answered(simulated: Simulated) -> None:
    asked = {"role": "user", "content": "Weather?"}
    called = (await simulated.choice(messages=[asked], tools=TOOLS))["message"]
    answered = {"role": "tool", "tool_call_id": called["tool_calls"][0]["id"], "content": "Sunny today"}
    choice = await simulated.choice(messages=[asked, called, answered], tools=TOOLS)
    assert choice["finish_reason"] == "stop"
    assert "as tool, has 2 words: “Sunny today”" in choice["message"]["content"]
    assert "could have called one of 2 tools" in choice["message"]["content"]


async def test_the_slow_one_waits_two_seconds(simulated: Simulated) -> None:
    assert (await simulated.ask()).status_code == 200
    assert simulated.paused == []
    assert (await simulated.ask(model="demo-slow")).status_code == 200
    assert simulated.paused == [SLOW_SECONDS] == [2.0]


async def test_the_broken_one_fails_in_seven_ways_and_then_from_the_start(
    simulated: Simulated, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = HttpUpstream(name="s", base_url=f"{simulated.url}/v1", api_key=KEY, timeout_seconds=5.0)
    body = msgspec.json.encode({"model": "demo-broken", "messages": [{"role": "user", "content": "Hi"}]})
    seen: list[str] = []

    async def call() -> None:
        answer = await upstream.send("/chat/completions", body)
        read_answer(CHAT, answer.status, answer.body, request=metered_request(), scrub=str)

    async with contextlib.aclosing(upstream):
        for _ in range(9):
            with pytest.raises(UpstreamFailed) as failed:
                await call()
            seen.append(f"{failed.value.status} {failed.value.message}")
    not_usage, invalid = "response without valid token usage", "invalid response"
    expected = ["500", not_usage, "429", invalid, "503", invalid, "None", "500", not_usage]
    assert len(seen) == len(expected)
    for message, words in zip(seen, expected, strict=True):
        assert words in message
    assert not any(record.exc_info for record in caplog.records), "it fails on purpose, never by accident"


async def test_a_429_of_the_broken_one_says_when_to_come_back(simulated: Simulated) -> None:
    answers = [await simulated.ask(model="demo-broken") for _ in range(3)]
    assert (answers[2].status_code, answers[2].headers["retry-after"]) == (429, "1")


async def test_the_broken_one_passes_its_verification_and_nothing_else(simulated: Simulated) -> None:
    broken: dict[str, Any] = {"model": "demo-broken", "max_completion_tokens": 16}
    assert await simulated.text(VERIFICATION_PROMPT, **broken) == "OK"
    longer = [{"role": "user", "content": VERIFICATION_PROMPT}] * 2
    assert (await simulated.ask(**broken, messages=longer)).status_code == 500
    answer = await simulated.ask(VERIFICATION_PROMPT, **(broken | {"max_completion_tokens": 17}))
    assert "usage" not in answer.json()
    assert await simulated.text(VERIFICATION_PROMPT, **broken) == "OK"


async def test_more_than_its_context_window_is_the_customers_error(simulated: Simulated) -> None:
    fits = "a" * 4 * (CONTEXT_WINDOW_TOKENS - 7)
    assert read(await simulated.ask(fits)).usage.prompt_tokens == CONTEXT_WINDOW_TOKENS
    with pytest.raises(RejectedByUpstream) as refused:
        read(await simulated.ask(fits + "a"))
    assert refused.value.param == "messages"
    assert str(CONTEXT_WINDOW_TOKENS) in refused.value.message


async def test_the_demo_declares_the_context_window_that_it_has() -> None:
    assert f"context_window_tokens = {CONTEXT_WINDOW_TOKENS}\n" in demo._MODEL


async def test_a_wrong_key_is_refused_as_openai_does(simulated: Simulated) -> None:
    answer = await simulated.post(b"{}", key="sk-y")
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{simulated.url}/v1/models")).status_code == 401


async def test_its_models_are_listed_as_the_demos(simulated: Simulated) -> None:
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}, trust_env=False) as client:
        models = (await client.get(f"{simulated.url}/v1/models")).json()["data"]
    assert [(model["id"], model["owned_by"]) for model in models] == [(id_, "tok0n-demo") for id_ in MODELS]
    unknown = await simulated.ask(model="gpt-x")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")


MESSAGES = b'"messages":[{"role":"user","content":"Hi"}]'


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"model":"demo"}',
        b'{"model":"demo","messages":[]}',
        b'{"model":"demo","messages":[1]}',
        b'{"model":"demo","messages":[{"role":"user","content":[{"type":"text","text":1}]}]}',
        b'{"model":"demo","messages":[{"role":"user","content":"","tool_calls":[{"function":1}]}]}',
        b'{"model":"demo","max_tokens":0,' + MESSAGES + b"}",
        b'{"model":"demo","max_tokens":true,' + MESSAGES + b"}",
        b'{"model":"demo","n":1000000000,' + MESSAGES + b"}",
        b'{"model":"demo","tools":[{"function":{"name":null}}],' + MESSAGES + b"}",
        b'{"model":"demo","tools":[{"function":{"name":"f","parameters":{"type":{}}}}],' + MESSAGES + b"}",
        b'{"model":"demo","response_format":{"type":[]},' + MESSAGES + b"}",
        b'{"model":"demo","response_format":{"type":"json_schema"},' + MESSAGES + b"}",
    ],
)
async def test_a_body_that_it_cannot_read_is_refused_in_openais_shape(simulated: Simulated, body: bytes) -> None:
    answer = await simulated.post(body)
    assert answer.status_code == 400
    assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
