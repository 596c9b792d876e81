"""Every documented field of POST /v1/responses travels or is rejected by name, and so is every input item and tool."""

from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec
import pytest
from openai.types.responses import response_create_params, response_includable
from openai.types.responses.response_input_item_param import ResponseInputItemParam
from openai.types.responses.tool_param import ToolParam

from support.models import make_model
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.hosted_tools import is_hosted
from tok0n.domain.endpoints.responses import RESPONSES, read_responses_request
from tok0n.domain.endpoints.responses_fields import FIELDS, REJECTED_UNLESS_ALLOWED
from tok0n.domain.errors import InvalidRequest, UnknownModel
from tok0n.domain.metered_request import MeteredRequest, StreamOptions

MODEL = make_model(endpoints=("responses",))
MEDIA_MODEL = msgspec.structs.replace(MODEL, image_tokens_max=100, file_tokens_max=200)
STREAMING_MODEL = msgspec.structs.replace(MODEL, streaming_endpoints=("chat", "responses"))
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


def read(_model: Model = MODEL, /, *, is_streaming: bool = False, **fields: Any) -> MeteredRequest:
    body = msgspec.json.encode({"model": "m", "input": "Hi"} | fields)
    return read_responses_request(body, find_model=lambda _: _model, is_streaming=is_streaming)


def sent(request: MeteredRequest) -> Any:
    return msgspec.json.decode(request.upstream_body)


def rejection(_model: Model = MODEL, /, **fields: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as rejected:
        read(_model, **fields)
    return rejected.value


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
    body = sent(read(**{name: None}))
    assert body.get(name) in {"max_output_tokens": [100], "store": [False]}.get(name, [None])


@pytest.mark.parametrize("name", sorted((DOCUMENTED | CODEX_ONLY) - {"model", "include", "tools"}))
@pytest.mark.parametrize("wrong", [[[]], 7.5])
def test_no_wrong_type_travels(name: str, wrong: Any) -> None:
    if name in {"temperature", "top_p"}:
        wrong = str(wrong)
    assert (rejection(**{name: wrong}).param or "").startswith(name)


@pytest.mark.parametrize("name", ["zzz", "max_tokens", "messages", "n", *REJECTED_UNLESS_ALLOWED])
def test_an_unknown_field_is_rejected_unless_it_is_null_or_allowed(name: str) -> None:
    assert rejection(**{name: {"a": 1}}).param == name
    assert name not in sent(read(**{name: None}))
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


ITEMS: dict[str, Any] = {
    "message": {"role": "user", "content": "Hi", "phase": None},
    "reasoning": {
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "a"}],
        "content": [{"type": "reasoning_text", "text": "b"}],
        "encrypted_content": "gAAA",
    },
    "function_call": {"call_id": "c", "name": "f", "arguments": "{}", "namespace": "n", "async": False},
    "function_call_output": {"call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
    "custom_tool_call": {
        "call_id": "c",
        "name": "f",
        "input": "x",
        "status": "completed",
        "caller": {"type": "direct"},
    },
    "custom_tool_call_output": {"call_id": "c", "output": "x"},
    "tool_search_call": {"execution": "client", "call_id": "c", "arguments": {"query": "x"}},
    "tool_search_output": {"execution": "client", "call_id": "c", "tools": [{"type": "function", "name": "f"}]},
    "additional_tools": {"role": "developer", "tools": [{"type": "namespace", "name": "n", "tools": []}]},
    "compaction": {"encrypted_content": "gAAA"},
    "configuration_update": {"reasoning": {"effort": "low"}, "text": {"format": {"type": "text"}}},
}


def documented_types(union: Any) -> dict[str, set[str]]:
    """Map the types in a union of the SDK's typed dictionaries to their members."""
    types: dict[str, set[str]] = {}
    for kind in get_args(union):
        hints = get_type_hints(kind)
        hint = hints["type"] if get_origin(hints["type"]) is Literal else get_args(hints["type"])[0]
        for name in get_args(hint):
            types.setdefault(name, set()).update(hints)
    return types


DOCUMENTED_ITEMS = documented_types(ResponseInputItemParam)


@pytest.mark.parametrize("kind", DOCUMENTED_ITEMS)
def test_every_documented_item_travels_or_is_rejected_by_name(kind: str) -> None:
    if kind in ITEMS:
        item = {"type": kind} | ITEMS[kind]
        assert sent(read(input=[item]))["input"] == [item]
    else:
        error = rejection(input=[{"type": kind, "id": "x", "role": "user"}])
        assert error.param == "input[0].type"
        assert kind in error.message


@pytest.mark.parametrize("kind", ITEMS)
def test_every_documented_member_of_an_item_is_accepted_and_no_other(kind: str) -> None:
    members = DOCUMENTED_ITEMS[kind] | {"id", "status", "created_by"}
    read(input=[dict.fromkeys(members) | {"type": kind} | ITEMS[kind]])
    for name in members - set(ITEMS[kind]) - {"type", "arguments"}:
        assert (rejection(input=[{"type": kind} | ITEMS[kind] | {name: 7.5}]).param or "").startswith(
            f"input[0].{name}"
        )
    item = {"type": kind} | ITEMS[kind] | {"zzz": 1}
    assert rejection(input=[item]).param == "input[0].zzz"
    assert sent(read(msgspec.structs.replace(MODEL, extra_fields=("input.zzz",)), input=[item]))["input"] == [item]


PARTS: dict[str, Any] = {
    "input_text": {"text": "x"},
    "output_text": {"text": "x", "annotations": [{"type": "url_citation", "url": "u"}], "logprobs": []},
    "refusal": {"refusal": "no"},
    "input_image": {"image_url": "data:image/png;base64,AAAA", "detail": "auto"},
    "input_file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf", "detail": "low"},
}


@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("place", ["content", "output"])
def test_parts_travel_in_messages_and_outputs(kind: str, place: str) -> None:
    part = {"type": kind} | PARTS[kind]
    item = (
        {"role": "user", "content": [part]}
        if place == "content"
        else {"type": "function_call_output", "output": [part]}
    )
    assert sent(read(MEDIA_MODEL, input=[item]))["input"] == [item]
    path = f"input[0].{place}[0]"
    if kind in {"input_image", "input_file"}:
        error = rejection(input=[item])
        assert (error.param, kind in error.message) == (f"{path}.type", True)
    item[place] = [part | {"prompt_cache_breakpoint": {"mode": "explicit"}}]
    assert rejection(MEDIA_MODEL, input=[item]).param == f"{path}.prompt_cache_breakpoint"


@pytest.mark.parametrize(
    ("part", "member"),
    [
        ({"type": "input_image", "file_id": "f"}, "file_id"),
        ({"type": "input_file", "file_id": "f"}, "file_id"),
        ({"type": "input_file", "file_url": "https://x"}, "file_url"),
        ({"type": "input_file", "file_url": "https://x", "file_data": "x"}, "file_url"),
        ({"type": "input_image"}, "image_url"),
        ({"type": "input_image", "image_url": {"url": "x"}}, "image_url"),
        ({"type": "input_audio", "input_audio": {}}, "type"),
        ({"type": []}, "type"),
        ({}, "type"),
    ],
)
def test_a_part_that_is_no_data_is_named(part: Any, member: str) -> None:
    error = rejection(MEDIA_MODEL, input=[{"role": "user", "content": [part]}])
    assert error.param == f"input[0].content[0].{member}"


DOCUMENTED_TOOLS = documented_types(ToolParam)
CLIENT_TOOLS: dict[str, Any] = {
    "function": {"name": "f", "parameters": {"type": "object"}, "strict": False, "defer_loading": True},
    "custom": {"name": "g", "format": {"type": "grammar", "syntax": "lark", "definition": "start: X"}},
    "namespace": {"name": "n", "description": "d", "tools": [{"type": "function", "name": "f"}]},
    "tool_search": {"execution": "client", "description": "d", "parameters": {}},
}


@pytest.mark.parametrize("kind", DOCUMENTED_TOOLS)
def test_every_documented_tool_travels_or_is_dropped_or_is_rejected_by_name(kind: str) -> None:
    if kind in CLIENT_TOOLS:
        tool = {"type": kind} | CLIENT_TOOLS[kind]
        request = read(tools=[tool])
        assert (sent(request)["tools"], request.dropped) == ([tool], ())
    elif is_hosted({"type": kind}):
        request = read(tools=[{"type": kind}])
        assert (sent(request)["tools"], request.dropped) == ([], (kind,))
    else:
        assert rejection(tools=[{"type": kind}]).param == "tools[0].type"
        assert kind in {"shell", "local_shell", "apply_patch"}


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("tools[0].type", {"tools": [{"type": []}]}),
        ("tools[0]", {"tools": [7]}),
        ("tools[0].tools", {"tools": [{"type": "namespace", "name": "n"}]}),
        ("tools[0].tools[0].type", {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "namespace"}]}]}),
        ("tool_choice.type", {"tool_choice": {"type": {}}}),
        ("tool_choice.tools[0].type", {"tool_choice": {"type": "allowed_tools", "tools": [{"type": {}}]}}),
        ("text.format.type", {"text": {"format": {"type": []}}}),
        ("input[0].type", {"input": [{"type": {}}]}),
        ("input[0].role", {"input": [{"role": "tool", "content": "x"}]}),
        ("input[0].content", {"input": [{"role": "user"}]}),
        ("input[0].tools[0].name", {"input": [{"type": "additional_tools", "tools": [{"type": "function"}]}]}),
        ("input[0].summary[0].type", {"input": [{"type": "reasoning", "summary": [{"type": "text", "text": "x"}]}]}),
        ("input[0].execution", {"input": [{"type": "tool_search_call", "execution": "server"}]}),
    ],
)
def test_a_wrong_value_is_named_wherever_it_is(path: str, wrong: dict[str, Any]) -> None:
    assert rejection(**wrong).param == path


def test_a_model_bounds_each_list_of_tools() -> None:
    tool = {"type": "function", "name": "f"}
    for place in ("tools", "input"):
        for count, is_read in ((128, True), (129, False)):
            tools = [tool] * count
            fields: Any = (
                {"tools": tools} if place == "tools" else {"input": [{"type": "additional_tools", "tools": tools}]}
            )
            if is_read:
                read(**fields)
            else:
                assert "128" in rejection(**fields).message


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
    request = read(STREAMING_MODEL, is_streaming=True, **fields)
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
        read(STREAMING_MODEL, is_streaming=True, **fields)
    assert rejected.value.param == param


@pytest.mark.parametrize("endpoints", [(), ("chat",)])
def test_a_model_that_does_not_stream_on_this_endpoint_is_named(endpoints: tuple[str, ...]) -> None:
    with pytest.raises(InvalidRequest) as rejected:
        read(msgspec.structs.replace(MODEL, streaming_endpoints=endpoints), is_streaming=True, stream=True)
    assert rejected.value.param == "stream"
    assert MODEL.id in rejected.value.message


@pytest.mark.parametrize("is_streaming", [False, True])
def test_the_schema_offers_exactly_the_accepted_fields(*, is_streaming: bool) -> None:
    schemas = RESPONSES.operation.schemas(is_streaming=is_streaming)
    offered = set(schemas["ResponsesRequest"]["properties"])
    assert offered == set(TRAVELS) | CODEX_ONLY | ({"stream_options"} if is_streaming else set())
    assert {RESPONSES.operation.request_schema, RESPONSES.operation.response_schema} < set(schemas)
    assert set(ITEMS) == {
        name
        for kind in schemas["ResponsesItem"]["anyOf"]
        for name in kind["properties"]["type"]["enum"]
        if name is not None
    }


def test_the_verification_request_is_a_valid_request() -> None:
    body = msgspec.json.encode(RESPONSES.verification_request(MODEL, 16))
    request = read_responses_request(body, find_model=lambda _: MODEL)
    assert (request.output_limit, request.stream) == (16, None)
    stream = msgspec.json.encode(RESPONSES.verification_request(STREAMING_MODEL, 16, "Count.") | {"stream": True})
    request = read_responses_request(stream, find_model=lambda _: STREAMING_MODEL, is_streaming=True)
    assert sent(request)["input"] == "Count."
