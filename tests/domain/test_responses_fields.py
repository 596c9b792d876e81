"""Every documented field of POST /v1/responses travels or is rejected by name, and so is every input item and tool."""

from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from openai.types.responses import response_create_params, response_includable

from support.models import make_model
from support.responses_requests import MODEL, STREAMING_MODEL, read, read_streaming, rejection, sent
from tok0n.domain.endpoints.responses import RESPONSES, read_responses_request
from tok0n.domain.endpoints.responses_fields import FIELDS, REJECTED_UNLESS_ALLOWED
from tok0n.domain.errors import InvalidRequest, UnknownModel
from tok0n.domain.metered_request import StreamOptions

DOCUMENTED = set(get_type_hints(response_create_params.ResponseCreateParamsBase)) | {"stream"}
CODEX_ONLY = {"client_metadata"}

TRAVELS: dict[str, Any] = {
    "model": "m",
    "input": "Hi",
    "background": False,
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs", "message.input_image.image_url"],
    "instructions": "Be brief.",
    "max_output_tokens": 10,
    "max_tool_calls": 3,
    "metadata": {"a": "b"},
    "parallel_tool_calls": False,
    "prompt_cache_key": "guardian:1",
    "prompt_cache_retention": "24h",
    "reasoning": {"effort": "high", "summary": "auto", "context": "all_turns", "mode": "standard"},
    "safety_identifier": "s",
    "service_tier": "default",
    "store": False,
    "stream": False,
    "temperature": 0,
    "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "x", "schema": {}, "strict": True}},
    "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]},
    "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "custom", "name": "g"}],
    "top_logprobs": 20,
    "top_p": 0.5,
    "truncation": "auto",
    "user": "u",
}
REJECTED: dict[str, list[Any]] = {
    "access_programs": [{"cyber": "standard"}],
    "background": [True],
    "background_options": [{"completion_window": "2h"}],
    "context_management": [[{"type": "compaction"}]],
    "conversation": ["conv_1", {"id": "conv_1"}],
    "image": [{"context_compression": "disabled"}],
    "include": [[name] for name in get_args(response_includable.ResponseIncludable) if name not in TRAVELS["include"]],
    "input": [None, [], 7, [7], [{"id": "msg_1"}], [{"type": "x"}]],
    "max_output_tokens": [0, 1001, True, "10"],
    "moderation": [{"model": "x"}],
    "previous_response_id": ["resp_1"],
    "prompt": [{"id": "pmpt_1"}],
    "prompt_cache_options": [{"mode": "explicit"}],
    "reasoning": [{"mode": "pro"}, {"zzz": 1}],
    "service_tier": ["flex", "priority", "fast", "ultrafast"],
    "store": [True],
    "stream": [True],
    "stream_options": [{"include_obfuscation": True}],
    "text": [{"format": {"type": "grammar"}}, {"format": {"type": "json_schema"}}, {"zzz": 1}],
    "tool_choice": [
        {"type": "web_search_preview"},
        {"type": "mcp", "server_label": "x"},
        {"type": "shell"},
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "image_generation"}]},
    ],
    "tools": [[{"type": "shell"}], [{"type": "local_shell"}], [{"type": "apply_patch"}], [{"type": "function"}]],
}


def test_every_documented_field_has_been_decided_about() -> None:
    assert set(TRAVELS) | set(REJECTED) == DOCUMENTED
    assert set(FIELDS) | set(REJECTED_UNLESS_ALLOWED) == DOCUMENTED | CODEX_ONLY


@pytest.mark.parametrize("name", TRAVELS)
def test_what_is_accepted_travels_untouched(name: str) -> None:
    body = sent(read(**{name: TRAVELS[name]}))
    assert body[name] == ("um" if name == "model" else TRAVELS[name])


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REJECTED.items() for value in values])
def test_what_is_rejected_is_rejected_by_name(name: str, value: Any) -> None:
    error = rejection(**{name: value})
    assert error.param is not None
    assert error.param.startswith(name)
    assert name in error.message


@pytest.mark.parametrize("name", sorted((DOCUMENTED | CODEX_ONLY) - {"model", "input"}))
def test_null_means_not_given(name: str) -> None:
    body = sent(read(**dict.fromkeys([name])))
    defaults: dict[str, Any] = {"max_output_tokens": 100, "store": False}
    assert body.get(name) == defaults.get(name)


@pytest.mark.parametrize("name", sorted((DOCUMENTED | CODEX_ONLY) - {"model", "include", "tools"}))
@pytest.mark.parametrize("wrong", [[[]], 7.5])
def test_no_wrong_type_travels(name: str, wrong: Any) -> None:
    if name in {"temperature", "top_p"}:
        wrong = str(wrong)
    assert (rejection(**{name: wrong}).param or "").startswith(name)


@pytest.mark.parametrize("name", ["zzz", "max_tokens", "messages", "n", *REJECTED_UNLESS_ALLOWED])
def test_an_unknown_field_is_rejected_unless_it_is_null_or_allowed(name: str) -> None:
    assert rejection(**{name: {"a": 1}}).param == name
    assert name not in sent(read(**dict.fromkeys([name])))
    model = msgspec.structs.replace(MODEL, extra_fields=(name,))
    request = read(model, **{name: {"a": 1}})
    assert sent(request)[name] == {"a": 1}
    assert request.prompt_bound == read().prompt_bound + 4 * len(b'{"a":1}')


def test_store_is_always_false_and_the_limit_is_always_sent() -> None:
    assert sent(read()) == {"model": "um", "input": "Hi", "store": False, "max_output_tokens": 100}
    assert sent(read(store=None, max_output_tokens=7))["max_output_tokens"] == 7
    request = read(max_output_tokens=7)
    assert (request.output_limit, request.output_bound, request.limit_field) == (7, 7, "max_output_tokens")


def test_the_limit_has_the_name_that_this_endpoint_has_whatever_the_route_says() -> None:
    route = msgspec.structs.replace(MODEL.routes[0], output_limit_field="max_tokens")
    request = read(msgspec.structs.replace(MODEL, routes=(route,)))
    assert request.route is route
    assert sent(request) == {"model": "um", "input": "Hi", "store": False, "max_output_tokens": 100}


def test_client_metadata_is_accepted_and_not_forwarded() -> None:
    request = read(client_metadata={"x-codex-turn-metadata": '{"cwd":"/home/me"}'})
    assert request.dropped == ()
    assert request.upstream_body == read().upstream_body
    assert request.bound == read().bound


def test_the_bytes_of_the_client_travel() -> None:
    body = b'{"model":"m","input":[ {"role" : "user","content":"\\u00e9\\/"} ],"temperature":1.0,"top_p":1e0}'
    request = read_responses_request(body, find_model=lambda _: MODEL)
    assert request.upstream_body == (
        b'{"model":"um","input":[ {"role" : "user","content":"\\u00e9\\/"} ],"temperature":1.0,"top_p":1e0,'
        b'"store":false,"max_output_tokens":100}'
    )


def test_a_model_must_be_listed_and_serve_the_endpoint() -> None:
    with pytest.raises(UnknownModel):
        read_responses_request(b'{"model":"m","input":"x"}', find_model=lambda _: None)
    error = rejection(make_model())
    assert error.param == "model"
    assert "POST /v1/chat/completions" in error.message


@pytest.mark.parametrize(
    ("fields", "stream"),
    [
        ({"stream": True}, StreamOptions()),
        ({"stream": True, "stream_options": {"include_obfuscation": False}}, StreamOptions()),
        ({"stream": True, "stream_options": None}, StreamOptions()),
        ({"stream": False}, None),
        ({"stream": None}, None),
        ({}, None),
    ],
)
def test_the_options_of_a_stream_travel(fields: dict[str, Any], stream: StreamOptions | None) -> None:
    request = read_streaming(STREAMING_MODEL, **fields)
    assert request.stream == stream
    assert {name: value for name, value in sent(request).items() if name.startswith("stream")} == fields


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": 1}, "stream"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": True}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_obfuscation": 1}}, "stream_options.include_obfuscation"),
    ],
)
def test_what_is_rejected_of_a_stream_is_rejected_by_name(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        read_streaming(STREAMING_MODEL, **fields)
    assert rejected.value.param == param


@pytest.mark.parametrize("endpoints", [(), ("chat",)])
def test_a_model_that_does_not_stream_on_this_endpoint_is_named(endpoints: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        read_streaming(msgspec.structs.replace(MODEL, streaming_endpoints=endpoints), stream=True)
    assert rejected.value.param == "stream"
    assert MODEL.id in rejected.value.message


@pytest.mark.parametrize("is_streaming", [False, True])
def test_the_schema_offers_exactly_the_accepted_fields(*, is_streaming: bool) -> None:
    schemas = RESPONSES.operation.schemas(is_streaming=is_streaming)
    offered = set(schemas["ResponsesRequest"]["properties"])
    assert offered == set(TRAVELS) | CODEX_ONLY | ({"stream_options"} if is_streaming else set())
    assert {RESPONSES.operation.request_schema, RESPONSES.operation.response_schema} < set(schemas)


def test_the_verification_request_is_a_valid_request() -> None:
    body = msgspec.json.encode(RESPONSES.verification_request(MODEL, 16))
    request = read_responses_request(body, find_model=lambda _: MODEL)
    assert (request.output_limit, request.stream) == (16, None)
    stream = msgspec.json.encode(RESPONSES.verification_request(STREAMING_MODEL, 16, "Count.") | {"stream": True})
    request = read_responses_request(stream, find_model=lambda _: STREAMING_MODEL, is_streaming=True)
    assert sent(request)["input"] == "Count."
