"""The OpenAPI document is valid, says what the gateway takes to the letter, and which headers come with what."""

import re
from pathlib import Path
from typing import Any, get_type_hints

import jsonschema_rs
import msgspec
import pytest
from openai.types.chat import completion_create_params
from schemathesis.specs.openapi.definitions import OPENAPI_31_VALIDATOR
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Route

from support.gateways import Running, running
from support.http import Answer, chat, chat_body, request
from support.models import make_model
from support.scripted_upstream import ScriptedUpstream, status
from tok0n.api.errors import STATUSES
from tok0n.api.openapi import document
from tok0n.domain.endpoints.chat import read_chat_request
from tok0n.domain.errors import InvalidRequest

DOCUMENT = document()
CHAT = DOCUMENT["paths"]["/v1/chat/completions"]["post"]
MODEL = make_model()
REFUSED = {"audio", "moderation", "prompt_cache_options", "stream_options", "web_search_options"}
"""The fields of OpenAI's that design.md refuses by name."""


def schema(name: str) -> jsonschema_rs.Validator:
    reference = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.validator_for(reference)


REQUEST = schema("ChatRequest")


def test_it_is_a_valid_openapi_3_1_document() -> None:
    OPENAPI_31_VALIDATOR.validate(DOCUMENT)
    with pytest.raises(jsonschema_rs.ValidationError):
        OPENAPI_31_VALIDATOR.validate(DOCUMENT | {"paths": []})


@pytest.mark.parametrize("name", DOCUMENT["components"]["schemas"])
def test_every_schema_is_valid_and_whole(name: str) -> None:
    jsonschema_rs.meta.validate(DOCUMENT["components"]["schemas"][name])
    schema(name)


def test_it_offers_openais_fields_but_those_that_are_refused_by_name() -> None:
    openais = set(get_type_hints(completion_create_params.CompletionCreateParamsBase)) | {"stream"}
    assert openais >= REFUSED
    assert set(DOCUMENT["components"]["schemas"]["ChatRequest"]["properties"]) == openais - REFUSED


def test_every_error_code_is_documented_with_its_status() -> None:
    documented = {
        (int(code), word)
        for path in DOCUMENT["paths"].values()
        for operation in path.values()
        for code, answer in operation["responses"].items()
        for word in STATUSES
        if f"`{word}`" in answer["description"]
    }
    without_operation = {"method_not_allowed", "upgrade_required"}
    assert documented == {(code, word) for word, code in STATUSES.items() if word not in without_operation}


@pytest.mark.anyio
async def test_every_route_under_v1_is_documented(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    routes: list[BaseRoute] = []
    make = Starlette.__init__

    def listening(app: Starlette, *arguments: Any, **options: Any) -> None:
        make(app, *arguments, **options)
        routes.extend(app.routes)

    monkeypatch.setattr(Starlette, "__init__", listening)
    async with running(tmp_path, upstream_url=upstream.base_url):
        paths = [route.path for route in routes if isinstance(route, Route)]
    served = {re.sub(r":\w+\}", "}", path) for path in paths if path.startswith("/v1/")}
    assert served == set(DOCUMENT["paths"])


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields


def message(**fields: Any) -> dict[str, Any]:
    return body(messages=[fields])


def is_accepted(fields: Any) -> bool:
    try:
        read_chat_request(msgspec.json.encode(fields), find_model=lambda _: MODEL)
    except InvalidRequest:
        return False
    return True


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CUSTOM_CALL = {"id": "c", "type": "custom", "custom": {"name": "f", "input": "x"}}
TEXT = {"type": "text", "text": "x"}

# fmt: off
GOOD: dict[str, dict[str, Any]] = {
    "least": body(),
    "nulls": body(temperature=None, tools=None, stop=None, n=None, response_format=None, tool_choice=None),
    "limits": body(max_tokens=7, max_completion_tokens=7, n=128, stop=["a", "b", "c", "d"]),
    "sampling": body(temperature=2, top_p=0.5, presence_penalty=-2, seed=-(2**63), logit_bias={"1": -100}),
    "parts": message(role="user", content=[TEXT, TEXT], name="n"),
    "developer": message(role="developer", content="x"),
    "function": message(role="function", content="x", name="f"),
    "tool": message(role="tool", content=[TEXT], tool_call_id="c"),
    "assistant calls": message(role="assistant", content=None, tool_calls=[CALL, CUSTOM_CALL]),
    "assistant calls and says": message(role="assistant", content="x", tool_calls=[], refusal=None),
    "assistant refuses": message(role="assistant", refusal="No."),
    "assistant says nothing": message(role="assistant", content=None),
    "assistant calls nothing": message(role="assistant", content=None, tool_calls=[]),
    "assistant refuses nothing": message(role="assistant", content=None, refusal=""),
    "assistant with everything": message(
        role="assistant", content=None, refusal=None, annotations=[{}], audio=None, reasoning_content="r",
        reasoning="r", reasoning_details=[{}], thinking_blocks=[{}], prefix=False, function_call=None,
    ),
    "assistant thinks": message(role="assistant", content=[{"type": "thinking", "thinking": [TEXT]}, TEXT]),
    "call without type": message(role="assistant", tool_calls=[CALL | {"type": None, "index": 0}]),
    "unknown nulls": body(zzz=None, messages=[{"role": "user", "content": [TEXT | {"z": None}], "z": None}]),
    "tool with name": message(role="tool", content="x", tool_call_id="c" * 2000, name="f"),
    "assistant, in parts": message(role="assistant", content=[TEXT, {"type": "refusal", "refusal": "x"}]),
    "assistant, as it was": message(role="assistant", function_call={"name": "f", "arguments": "{}"}),
    "tools": body(tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}], tool_choice="auto"),
    "custom tool": body(tools=[{"type": "custom", "custom": {"name": "f"}}], parallel_tool_calls=False),
    "tool choice": body(tool_choice={"type": "function", "function": {"name": "f"}}),
    "allowed tools": body(tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}),
    "functions": body(functions=[{"name": "f"}], function_call={"name": "f"}),
    "json object": body(response_format={"type": "json_object"}),
    "json schema": body(response_format={"type": "json_schema", "json_schema": {"name": "x"}}),
    "prediction": body(prediction={"type": "content", "content": [TEXT]}),
    "labels": body(metadata={"a": "b"}, user="u", service_tier="auto", store=False, stream=False, modalities=["text"]),
}
# fmt: on
BAD: dict[str, Any] = {
    "a list": [],
    "no model": {"messages": [{"role": "user", "content": "Hi"}]},
    "no messages": {"model": "m"},
    "messages empty": body(messages=[]),
    "unknown field": body(zzz=1),
    "stream": body(stream=True),
    "stream 0": body(stream=0),
    "store": body(store=True),
    "stream options": body(stream_options={}),
    "web search": body(web_search_options={}),
    "service tier": body(service_tier="priority"),
    "audio": body(audio={"voice": "x"}),
    "modalities": body(modalities=["text", "audio"]),
    "limit zero": body(max_tokens=0),
    "limit a bool": body(max_completion_tokens=True),
    "n": body(n=129),
    "hot": body(temperature=2.1),
    "five stops": body(stop=["a"] * 5),
    "seed": body(seed=2**63),
    "bias": body(logit_bias={"1": 101}),
    "metadata": body(metadata={"a": 1}),
    "metadata, long": body(metadata={"a" * 65: "b"}),
    "word, long": body(user="u" * 513),
    "hosted tool": body(tools=[{"type": "web_search"}]),
    "tool without function": body(tools=[{"type": "function"}]),
    "tool choice": body(tool_choice={"type": "web_search"}),
    "function without name": body(functions=[{}]),
    "json schema missing": body(response_format={"type": "json_schema"}),
    "format": body(response_format={"type": "xml"}),
    "prediction": body(prediction={"type": "content", "content": 1}),
    "king": message(role="king", content="x"),
    "no content": message(role="user"),
    "content null": message(role="user", content=None),
    "no parts": message(role="user", content=[]),
    "part unknown": message(role="user", content=[{"type": "image_url", "image_url": {"url": "x"}}]),
    "part with more": message(role="user", content=[TEXT | {"zzz": 1}]),
    "user calls": message(role="user", content="x", tool_calls=[CALL]),
    "tool without id": message(role="tool", content=[TEXT]),
    "user with annotations": message(role="user", content="x", annotations=[]),
    "annotations an object": message(role="assistant", content="x", annotations={}),
    "reasoning a list": message(role="assistant", content="x", reasoning=[]),
    "assistant with audio": message(role="assistant", content="x", audio={"id": "a"}),
    "thinking of a user": message(role="user", content=[{"type": "thinking", "thinking": "x"}]),
    "thinking a number": message(role="assistant", content=[{"type": "thinking", "thinking": 1}]),
    "cache control": message(role="user", content=[TEXT | {"cache_control": {"type": "ephemeral"}}]),
    "custom call without type": message(role="assistant", tool_calls=[{"id": "c", "custom": CUSTOM_CALL["custom"]}]),
    "call without arguments": message(role="assistant", tool_calls=[CALL | {"function": {"name": "f"}}]),
    "call of another type": message(role="assistant", tool_calls=[CALL | {"type": "web"}]),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_accepted_is_documented(name: str) -> None:
    assert is_accepted(GOOD[name])
    REQUEST.validate(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_what_is_refused_is_not_documented(name: str) -> None:
    assert not is_accepted(BAD[name])
    assert not REQUEST.is_valid(BAD[name])


def documented(status_code: int) -> dict[str, Any]:
    headers: dict[str, Any] = CHAT["responses"][str(status_code)]["headers"]
    return headers


def assert_as_documented(answer: Answer) -> None:
    """All headers that this answer must have, none of ours that it must not, and each value as its schema says."""
    headers = documented(answer.status)
    assert {name for name, header in headers.items() if header.get("required")} <= set(answer.headers)
    ours = {name for name in answer.headers if name.startswith(("x-", "retry-", "openai-", "www-"))}
    assert ours <= set(headers)
    for name in ours:
        value: Any = answer.headers[name]
        rule = headers[name]["schema"]
        assert jsonschema_rs.is_valid(rule, int(value) if rule.get("type") == "integer" else value), (name, value)
    reference = CHAT["responses"][str(answer.status)]["content"]["application/json"]["schema"]["$ref"]
    schema(reference.rpartition("/")[2]).validate(answer.json)


@pytest.mark.anyio
async def test_a_charged_answer_has_every_documented_header(gateway: Running) -> None:
    answer = await chat(gateway.base_url, gateway.api_key, chat_body())
    assert answer.status == 200
    assert_as_documented(answer)
    assert set(documented(200)) <= set(answer.headers)


@pytest.mark.anyio
async def test_every_refusal_has_the_documented_headers(
    gateway: Running, upstream: ScriptedUpstream, tmp_path_factory: pytest.TempPathFactory
) -> None:
    statuses = []
    upstream.behaviour = status(500)
    for key, content in (
        (gateway.api_key, b"{"),
        ("tk0n_x", chat_body()),
        (gateway.api_key, chat_body("x" * 2_000_000)),
        (gateway.api_key, b" " * 4_200_000),
        (gateway.api_key, chat_body()),
    ):
        answer = await chat(gateway.base_url, key, content)
        statuses.append(answer.status)
        assert_as_documented(answer)
        assert set(documented(answer.status)) - {"x-should-retry"} <= set(answer.headers)
    async with running(tmp_path_factory.mktemp("limited"), upstream_url=upstream.base_url, limits=1) as limited:
        await chat(limited.base_url, limited.api_key, chat_body())
        answer = await chat(limited.base_url, limited.api_key, chat_body())
        statuses.append(answer.status)
        assert_as_documented(answer)
        assert set(documented(429)) <= set(answer.headers)
    assert statuses == [400, 401, 402, 413, 502, 429]


@pytest.mark.anyio
async def test_it_is_served(gateway: Running) -> None:
    answer = await request(gateway.base_url, "GET", "/openapi.json")
    assert (answer.status, answer.headers["content-type"], answer.json) == (200, "application/json", DOCUMENT)
