"""Every documented field, block and tool of a message either travels or is rejected by name."""

from typing import Any

import msgspec
import pytest

from support import anthropic_sdk
from support.messages_requests import CLIENT_TOOL, HELLO, IMAGE, MEDIA_MODEL, MODEL, PDF, count, read, sent
from tok0n.domain.endpoints import messages_fields
from tok0n.domain.endpoints.messages import MESSAGES
from tok0n.domain.endpoints.messages_fields import COUNT_FIELDS, FIELDS, NOT_PERMITTED
from tok0n.domain.errors import InvalidRequest, UnknownModel

SDK = anthropic_sdk.read_table()
OLDER = {"output_format", "stream", "temperature", "top_k", "top_p"}
"""Fields that the SDK adds itself, or that older versions of it have."""

TRAVELS: dict[str, Any] = {
    "model": "m",
    "messages": [HELLO],
    "max_tokens": 10,
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
    "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
    "metadata": {"user_id": '{"device_id":"d","account_uuid":"","session_id":"s"}'},
    "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {}}},
    "output_format": {"type": "json_schema", "schema": {}},
    "service_tier": "standard_only",
    "speed": "standard",
    "stop_sequences": ["a", "b", "c", "d", "e"],
    "stream": True,
    "system": [{"type": "text", "text": "Be kind", "cache_control": {"type": "ephemeral"}}],
    "temperature": 1,
    "thinking": {"type": "enabled", "budget_tokens": 31_999},
    "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": True},
    "tools": [CLIENT_TOOL],
    "top_k": 5,
    "top_p": 0.5,
}
REFUSED: dict[str, Any] = {
    "betas": ["effort-2025-11-24"],
    "billing_policy": {"type": "billing_policy"},
    "compaction": {"type": "summarize"},
    "container": "container_1",
    "context_management": {"edits": [{"type": "compact_20260112"}]},
    "diagnostics": {"previous_message_id": "msg_1"},
    "fallback_credit_token": {"token": "t"},
    "fallbacks": [{"model": "x"}],
    "inference_geo": "us",
    "mcp_servers": [{"type": "url", "url": "https://example.com", "name": "x"}],
    "output_config": {"zzz": 1},
    "metadata": {"zzz": 1},
    "safeguards": [{"type": "dangerous_tool_use", "classifier_context": {}}],
    "service_tier": "priority",
    "speed": "fast",
    "thread": {"type": "create"},
    "user_profile_id": "u",
    "workspace_id": "w",
    "zzz": 1,
}


def test_every_documented_field_has_been_decided_about() -> None:
    assert set(SDK["fields"]) - set(TRAVELS) - set(REFUSED) == set()
    assert set(FIELDS) <= set(SDK["fields"]) | OLDER


def test_the_schema_offers_exactly_the_accepted_fields() -> None:
    for is_streaming in (True, False):
        schemas = MESSAGES.operation.schemas(is_streaming=is_streaming)
        offered = schemas[MESSAGES.operation.request_schema]["properties"]
        assert set(offered) == set(TRAVELS)
        msgspec.json.encode(schemas)


@pytest.mark.parametrize("name", TRAVELS)
def test_what_is_accepted_travels_untouched(name: str) -> None:
    tools = {"tools": [CLIENT_TOOL]} if name == "tool_choice" else {}
    body = sent(read(MODEL, **{**tools, name: TRAVELS[name]}))
    assert body[name] == ("um" if name == "model" else TRAVELS[name])
    assert set(body) == {"model", "max_tokens", "messages", name, *tools}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(MODEL, **{name: REFUSED[name]})
    assert refused.value.param is not None
    assert refused.value.param.startswith(name)
    assert name in refused.value.message


@pytest.mark.parametrize("name", ["safeguards", "zzz", "betas", "metadata.zzz", "output_config.zzz"])
def test_an_unknown_field_is_refused_in_anthropics_words(name: str) -> None:
    outer, _, inner = name.partition(".")
    fields: dict[str, Any] = {outer: {inner: 1} if inner else [{"type": "x"}]}
    with pytest.raises(InvalidRequest) as refused:
        read(MODEL, **fields)
    assert refused.value.message == f"{name}: Extra inputs are not permitted"
    assert refused.value.param == name


@pytest.mark.parametrize("name", sorted({*TRAVELS, *REFUSED} - {"model", "messages", "max_tokens"}))
def test_null_means_not_given(name: str) -> None:
    fields: dict[str, Any] = {name: None}
    assert set(sent(read(MODEL, **fields))) == {"model", "max_tokens", "messages"}


@pytest.mark.parametrize("name", ["model", "messages", "max_tokens"])
@pytest.mark.parametrize("value", [None, ..., [], {}, "", True])
def test_a_required_field_that_is_missing_or_wrong_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(MODEL, **{name: value})
    assert refused.value.param == name


WRONG: list[Any] = [[[]], {"x": []}, 1e9]


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        (name, wrong)
        for name in sorted({*TRAVELS, *REFUSED})
        for wrong in WRONG
        if not (name == "cache_control" and type(wrong) is dict)  # its members are the provider's
    ],
)
def test_no_wrong_type_travels(name: str, wrong: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(MODEL, **{name: wrong})
    assert (refused.value.param or "").startswith(name)


@pytest.mark.parametrize("limit", [128_001, 10**9])
def test_an_output_limit_over_the_models_is_told_in_anthropics_words(limit: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(max_tokens=limit)
    expected = f"max_tokens: {limit} > 128000, which is the maximum allowed number of output tokens for m"
    assert (refused.value.param, refused.value.message) == ("max_tokens", expected)


def test_the_output_limit_keeps_its_name_whatever_the_upstreams_chat_calls_it() -> None:
    request = read(max_tokens=77)
    assert (request.output_limit, request.n, request.limit_field) == (77, 1, "max_tokens")
    assert sent(request)["max_tokens"] == 77
    assert "max_completion_tokens" not in sent(request)


def test_accepted_values_keep_their_bytes() -> None:
    raw = b'{"role":"user","content":[{"type":"text","text":"\\u00e9 \\/", "cache_control":{"ttl":1.50}}]}'
    body = b'{"model":"m","max_tokens":5,"temperature":0.70,"messages":[ %b ]}' % raw
    request = MESSAGES.read_request(body, find_model=lambda _: MODEL)
    assert request.upstream_body == body.replace(b'"m"', b'"um"')


BLOCKS: dict[str, dict[str, Any]] = {
    "text": {"text": "Hi", "citations": [{"type": "char_location", "cited_text": "x"}]},
    "image": IMAGE | {"transformations": {"oversized_image": "downsize"}},
    "document": PDF | {"title": "T", "context": "C", "citations": {"enabled": True}},
    "search_result": {
        "content": [{"type": "text", "text": "Hi"}],
        "source": "s",
        "title": "t",
        "citations": {"enabled": True},
    },
    "thinking": {"thinking": "", "signature": "s"},
    "redacted_thinking": {"data": "d"},
    "tool_use": {"id": "t", "name": "f", "input": {"a": 1}, "caller": {"type": "direct"}, "toolset_name": "x"},
    "tool_result": {"tool_use_id": "t", "content": [IMAGE], "is_error": False, "toolset_name": "x"},
    "tool_reference": {"tool_name": "f"},
    "tool_addition": {"tool": {"type": "tool_reference", "name": "f"}},
    "tool_removal": {"tool": {"type": "tool_reference", "name": "f"}},
}
REFUSED_BLOCKS = set(SDK["blocks"]) - set(BLOCKS)
CACHED = {"cache_control": {"type": "ephemeral"}}


def test_every_block_that_is_refused_is_the_result_of_a_server_tool_or_of_another_refused_field() -> None:
    assert {name for name in REFUSED_BLOCKS if "tool" not in name} == {"compaction", "container_upload", "fallback"}
    assert set(SDK["messages"]) == set(messages_fields.ROLES)


@pytest.mark.parametrize("kind", BLOCKS)
def test_a_block_travels_with_every_documented_member(kind: str) -> None:
    block = {"type": kind} | BLOCKS[kind] | CACHED
    assert set(SDK["blocks"].get(kind, ())) - {"cache_control"} <= set(block)
    for role in ("user", "assistant"):
        message = {"role": role, "content": [block]}
        assert sent(read(MEDIA_MODEL, messages=[message]))["messages"] == [message]
    if kind in SDK["system_blocks"]:
        assert read(MODEL, messages=[HELLO, {"role": "system", "content": [block]}])
    if kind in SDK["result_blocks"]:
        result = {"type": "tool_result", "tool_use_id": "t", "content": [block]}
        assert read(MEDIA_MODEL, messages=[{"role": "user", "content": [result]}])


@pytest.mark.parametrize("kind", sorted(REFUSED_BLOCKS))
def test_other_blocks_are_refused_by_type(kind: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(messages=[{"role": "user", "content": [{"type": kind, "content": [], "tool_use_id": "x"}]}])
    assert refused.value.param == "messages[0].content[0].type"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("messages[0].role", {"content": "Hi"}),
        ("messages[0].role", {"role": "tool", "content": "Hi"}),
        ("messages[0].role", {"role": [], "content": "Hi"}),
        ("messages[0].content", {"role": "user"}),
        ("messages[0].content", {"role": "user", "content": 7}),
        ("messages[0].zzz", {"role": "user", "content": "Hi", "zzz": 1}),
        ("messages[0].clear_at", {"role": "system", "content": "Hi", "clear_at": "never"}),
        ("messages[0].content[0].type", {"role": "system", "content": [IMAGE]}),
        ("messages[0].content[0].type", {"role": "user", "content": [{"type": []}]}),
        ("messages[0].content[0].type", {"role": "user", "content": [{"text": "Hi"}]}),
        ("messages[0].content[0].text", {"role": "user", "content": [{"type": "text"}]}),
        ("messages[0].content[0].zzz", {"role": "user", "content": [{"type": "text", "text": "Hi", "zzz": 1}]}),
        ("messages[0].content[0].input", {"role": "user", "content": [{"type": "tool_use", "id": "t", "name": "f"}]}),
        (
            "messages[0].content[0].content[0].type",
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "x"}]}]},
        ),
        (
            "messages[0].content[0].tool.type",
            {"role": "user", "content": [{"type": "tool_addition", "tool": {"type": "tool_definition"}}]},
        ),
    ],
)
def test_what_is_wrong_with_a_message_is_named(path: str, message: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(MEDIA_MODEL, messages=[message])
    assert refused.value.param == path
    assert path.rpartition(".")[2] in refused.value.message


@pytest.mark.parametrize("block", [IMAGE, PDF, PDF | {"source": {"type": "text", "data": "Hi"}}])
def test_images_and_documents_need_a_maximum(block: dict[str, Any]) -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": [block]}
    for content in ([block], [result]):
        messages = [{"role": "user", "content": content}]
        assert read(MEDIA_MODEL, messages=messages)
        with pytest.raises(InvalidRequest) as refused:
            read(messages=messages)
        assert block["type"] in refused.value.message


@pytest.mark.parametrize("kind", ["image", "document"])
@pytest.mark.parametrize(
    "source",
    [
        {"type": "url", "url": "https://example.com/a"},
        {"type": "file", "file_id": "file_1"},
        {"type": "content", "content": "Hi"},
        {"type": "base64"},
        {"type": []},
        "https://example.com/a",
    ],
)
def test_a_source_without_its_data_is_refused(kind: str, source: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(MEDIA_MODEL, messages=[{"role": "user", "content": [{"type": kind, "source": source}]}])
    assert (refused.value.param or "").startswith("messages[0].content[0].source")


def test_an_operator_may_allow_more_fields_for_a_model() -> None:
    allowed = ("zzz", "messages.zzz", "messages.content.zzz", "tools.zzz")
    model = msgspec.structs.replace(MODEL, extra_fields=allowed)
    fields: dict[str, Any] = {
        "zzz": [1],
        "messages": [{"role": "user", "zzz": "1", "content": [{"type": "text", "text": "Hi", "zzz": "1"}]}],
        "tools": [CLIENT_TOOL | {"zzz": 1}],
    }
    body = sent(read(model, **fields))
    assert {name: body[name] for name in fields} == fields
    for name, value in fields.items():
        with pytest.raises(InvalidRequest) as refused:
            read(MODEL, **{name: value})
        assert NOT_PERMITTED in refused.value.message


@pytest.mark.parametrize("reader", [read, count])
def test_a_model_that_is_unknown_or_not_served_here_is_named(reader: Any) -> None:
    with pytest.raises(UnknownModel):
        MESSAGES.read_request(b'{"model":"x"}', find_model=lambda _: None)
    with pytest.raises(InvalidRequest) as refused:
        reader(msgspec.structs.replace(MODEL, endpoints=("chat",)))
    assert refused.value.param == "model"
    assert "POST /v1/messages" in refused.value.message
    assert "POST /v1/chat/completions" in refused.value.message


@pytest.mark.parametrize("stream", [True, False, None])
def test_a_stream_needs_a_model_and_a_gateway_that_stream(*, stream: bool | None) -> None:
    whole = msgspec.structs.replace(MODEL, streaming_endpoints=("chat",))
    assert (read(stream=stream).stream is not None) is (stream is True)
    for model, is_streaming in ((whole, True), (MODEL, False)):
        if stream:
            with pytest.raises(InvalidRequest) as refused:
                read(model, is_streaming=is_streaming, stream=True)
            assert refused.value.param == "stream"
        else:
            assert read(model, is_streaming=is_streaming, stream=stream).stream is None


def test_counting_takes_the_fields_of_the_sdk() -> None:
    documented = set(SDK["count_fields"]) | {"output_format"}
    assert documented & set(TRAVELS) == set(COUNT_FIELDS) & set(TRAVELS)
    for name in set(FIELDS) - set(COUNT_FIELDS) - {"max_tokens"}:
        with pytest.raises(InvalidRequest) as refused:
            count(MODEL, **{name: TRAVELS[name]})
        assert refused.value.message == f"{name}: {NOT_PERMITTED}"
