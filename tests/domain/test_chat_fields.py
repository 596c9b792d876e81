"""Every documented field either travels or is refused by name; what is not documented is refused."""

from typing import Any, get_type_hints

import msgspec
import pytest
from openai.types.chat import completion_create_params

from support.models import make_model
from tok0n.api.openapi import document
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.chat import read_chat_request
from tok0n.domain.endpoints.chat_fields import FIELDS, REJECTED_UNLESS_ALLOWED
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.metered_request import MeteredRequest, StreamOptions

MODEL = make_model()
DOCUMENTED = set(get_type_hints(completion_create_params.CompletionCreateParamsBase)) | {"stream"}

TRAVELS: dict[str, Any] = {
    "messages": [{"role": "user", "content": "Hi"}],
    "model": "m",
    "frequency_penalty": -1.5,
    "function_call": {"name": "f"},
    "functions": [{"name": "f", "parameters": {}}],
    "logit_bias": {"50256": -100},
    "logprobs": True,
    "max_completion_tokens": 10,
    "max_tokens": 10,
    "metadata": {"a": "b"},
    "modalities": ["text"],
    "n": 2,
    "parallel_tool_calls": False,
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": 2,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "reasoning_effort": "high",
    "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    "safety_identifier": "s",
    "seed": -5,
    "service_tier": "default",
    "stop": ["a", "b"],
    "store": False,
    "stream": False,
    "temperature": 0,
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "tools": [{"type": "function", "function": {"name": "f"}}, {"type": "custom", "custom": {"name": "g"}}],
    "top_logprobs": 20,
    "top_p": 0.5,
    "user": "u",
    "verbosity": "low",
}
REFUSED: dict[str, Any] = {
    "audio": {"voice": "x", "format": "wav"},
    "modalities": ["audio"],
    "moderation": {"model": "x"},
    "prompt_cache_options": {"mode": "explicit"},
    "service_tier": "flex",
    "store": True,
    "stream": True,
    "stream_options": {"include_usage": True},
    "tools": [{"type": "web_search"}],
    "web_search_options": {},
}


STREAMING_MODEL = msgspec.structs.replace(MODEL, streaming_endpoints=("responses", "chat"))


def read(_model: Model = MODEL, /, **fields: Any) -> MeteredRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return read_chat_request(msgspec.json.encode(body), find_model=lambda _: _model)


def read_streaming(model: Model = STREAMING_MODEL, /, **fields: Any) -> MeteredRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | fields
    return read_chat_request(msgspec.json.encode(body), find_model=lambda _: model, is_streaming=True)


def test_every_documented_field_has_been_decided_about() -> None:
    assert DOCUMENTED - set(TRAVELS) - set(REFUSED) == set()


def test_the_openapi_document_offers_exactly_the_accepted_fields() -> None:
    offered = document()["components"]["schemas"]["ChatRequest"]["properties"]
    assert set(offered) == set(TRAVELS)
    offered = document(is_streaming=True)["components"]["schemas"]["ChatRequest"]["properties"]
    assert set(offered) == set(TRAVELS) | {"stream_options"}


def test_no_field_is_decided_about_that_is_not_documented() -> None:
    assert set(FIELDS) | set(REJECTED_UNLESS_ALLOWED) <= DOCUMENTED


@pytest.mark.parametrize("name", TRAVELS)
def test_what_is_accepted_travels_untouched(name: str) -> None:
    value = TRAVELS[name]
    sent = msgspec.json.decode(read(**{name: value}).upstream_body)
    if name == "model":
        assert sent["model"] == "um"
    elif name == "max_tokens":
        assert (sent["max_completion_tokens"], "max_tokens" in sent) == (10, False)
    else:
        assert sent[name] == value


@pytest.mark.parametrize("role", ["developer", "system", "user", "assistant", "tool", "function", "guest"])
def test_a_message_of_plain_ascii_is_checked_like_any_other(role: str) -> None:
    def is_accepted(content: str) -> bool:
        try:
            read(messages=[{"role": role, "content": content}])
        except InvalidRequest:
            return False
        return True

    assert is_accepted("e") == is_accepted("é") == (role not in {"tool", "guest"})


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**{name: REFUSED[name]})
    assert refused.value.param is not None
    assert refused.value.param.startswith(name)
    assert name in refused.value.message


@pytest.mark.parametrize("name", sorted(DOCUMENTED - {"messages", "model"}))
def test_null_means_not_given(name: str) -> None:
    sent = msgspec.json.decode(read(MODEL, **{name: None}).upstream_body)
    assert sent.get(name) in {None, 100}


@pytest.mark.parametrize("name", ["zzz", *REJECTED_UNLESS_ALLOWED])
def test_an_unknown_field_that_is_null_does_not_travel(name: str) -> None:
    assert name not in msgspec.json.decode(read(MODEL, **{name: None}).upstream_body)


@pytest.mark.parametrize(
    ("setting", "field", "item"),
    [
        ("tools_max", "tools", {"type": "function", "function": {"name": "f"}}),
        ("tools_max", "functions", {"name": "f"}),
        ("stop_sequences_max", "stop", "a"),
    ],
)
def test_a_model_bounds_its_tools_and_stop_sequences(setting: str, field: str, item: Any) -> None:
    default = getattr(MODEL, setting)
    read(MODEL, **{field: [item] * default})
    with pytest.raises(InvalidRequest) as refused:
        read(MODEL, **{field: [item] * (default + 1)})
    assert refused.value.param == field
    assert str(default) in refused.value.message
    model = msgspec.structs.replace(MODEL, **{setting: default + 1})
    read(model, **{field: [item] * (default + 1)})


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("tools[0].type", {"tools": [{"type": []}]}),
        ("tool_choice.type", {"tool_choice": {"type": {}}}),
        ("response_format.type", {"response_format": {"type": []}}),
        ("messages[0].role", {"messages": [{"role": [], "content": "x"}]}),
        ("messages[0].content[0].type", {"messages": [{"role": "user", "content": [{"type": {}}]}]}),
        (
            "messages[0].tool_calls[0].type",
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "c", "type": []}]}]},
        ),
    ],
)
def test_a_type_that_is_not_text_is_named(path: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**wrong)
    assert refused.value.param == path


@pytest.mark.parametrize("name", sorted(DOCUMENTED - {"functions"}))
@pytest.mark.parametrize("wrong", [[[]], {"x": []}])
def test_no_wrong_type_travels(name: str, wrong: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(**{name: wrong})
    assert (refused.value.param or "").startswith(name)


@pytest.mark.parametrize("name", [name for name, value in TRAVELS.items() if type(value) in {int, float}])
def test_a_bool_is_never_a_number(name: str) -> None:
    with pytest.raises(InvalidRequest):
        read(MODEL, **{name: True})


def test_an_operator_may_allow_more_fields_for_a_model() -> None:
    model = msgspec.structs.replace(MODEL, extra_fields=("top_k", "messages.reasoning_content", "moderation"))
    message = {"role": "assistant", "content": "x", "reasoning_content": "because"}
    request = read(model, top_k=5, messages=[message], moderation={"model": "x"})
    sent = msgspec.json.decode(request.upstream_body)
    assert (sent["top_k"], sent["messages"]) == (5, [message])
    plain = read(messages=[{"role": "assistant", "content": "x"}])
    extra = len("because") + 4 * (len(b"5") + len(b'{"model":"x"}'))
    assert request.prompt_bound == plain.prompt_bound + extra
    with pytest.raises(InvalidRequest):
        read(model, top_j=5)


def test_older_upstreams_get_the_limit_under_their_name() -> None:
    route = msgspec.structs.replace(MODEL.routes[0], output_limit_field="max_tokens")
    model = msgspec.structs.replace(MODEL, routes=(route,))
    sent = msgspec.json.decode(read(model, max_completion_tokens=7).upstream_body)
    assert (sent["max_tokens"], "max_completion_tokens" in sent) == (7, False)
    assert msgspec.json.decode(read(model).upstream_body)["max_tokens"] == 100


@pytest.mark.parametrize(
    ("options", "sent", "includes_usage"),
    [
        (None, {"include_usage": True}, False),
        ({}, {"include_usage": True}, False),
        ({"include_usage": False, "include_obfuscation": None, "x": None}, {"include_usage": True}, False),
        ({"include_usage": True}, {"include_usage": True}, True),
        ({"include_obfuscation": False}, {"include_usage": True, "include_obfuscation": False}, False),
    ],
)
def test_every_stream_reports_usage_to_the_gateway(options: Any, sent: Any, *, includes_usage: bool) -> None:
    request = read_streaming(stream=True, stream_options=options)
    assert request.stream == StreamOptions(includes_usage=includes_usage)
    body = msgspec.json.decode(request.upstream_body)
    assert (body["stream"], body["stream_options"]) == (True, sent)


def test_an_upstream_that_rejects_stream_options_gets_none() -> None:
    route = msgspec.structs.replace(MODEL.routes[0], stream_options=False)
    model = msgspec.structs.replace(STREAMING_MODEL, routes=(route,))
    request = read_streaming(model, stream=True, stream_options={"include_usage": True})
    assert request.stream == StreamOptions(includes_usage=True)
    assert "stream_options" not in msgspec.json.decode(request.upstream_body)


@pytest.mark.parametrize("stream", [False, None])
def test_a_whole_answer_of_a_model_that_streams(stream: bool | None) -> None:  # noqa: FBT001  JSON's value
    request = read_streaming(stream=stream, stream_options=None)
    assert request.stream is None
    assert "include_usage" not in request.upstream_body.decode()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream": 1}, "stream"),
        ({"stream": "true"}, "stream"),
        ({"stream_options": {}}, "stream_options"),
        ({"stream": False, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_obfuscation": "x"}}, "stream_options.include_obfuscation"),
        ({"stream": True, "stream_options": {"zzz": 1}}, "stream_options.zzz"),
    ],
)
def test_what_is_refused_of_a_stream_is_refused_by_name(fields: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_streaming(**fields)
    assert refused.value.param == param
    assert param in refused.value.message


@pytest.mark.parametrize("endpoints", [(), ("responses",)])
def test_a_model_that_does_not_stream_on_this_endpoint_is_named(endpoints: tuple[str, ...]) -> None:
    model = msgspec.structs.replace(MODEL, streaming_endpoints=endpoints)
    with pytest.raises(InvalidRequest) as refused:
        read_streaming(model, stream=True, stream_options={"include_usage": True})
    assert refused.value.param == "stream"
    assert model.id in refused.value.message


@pytest.mark.parametrize("fields", [{"stream": True}, {"stream_options": {}}, {"stream": True, "stream_options": {}}])
def test_a_gateway_that_does_not_stream_says_so_whatever_the_model(fields: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(STREAMING_MODEL, **fields)
    assert refused.value.param == next(iter(fields))
    assert "doesn't stream" in refused.value.message
