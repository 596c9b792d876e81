"""The upper bound of a message is never below what a real byte-level tokenizer reports, whatever the prompt."""

import json
import unicodedata
from typing import Any

import bpe_openai
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.messages_requests import CLIENT_TOOL, HELLO, IMAGE, MEDIA_MODEL, MODEL, PDF, body_of, read
from tok0n.domain.bound import EXACT_BYTES_MAX, string_bound
from tok0n.domain.endpoints.messages import read_messages_request
from tok0n.domain.endpoints.messages_tools import TYPED_TOOL_TOKENS

ENCODINGS = [bpe_openai.get_encoding(name) for name in ("o200k_base", "cl100k_base")]
FORMS = (None, "NFC", "NFKC")
WRAPPER_TOKENS = 12
"""What a template adds around a block: two special tokens, line breaks, and a tag at each end."""

EXOTIC = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("ﷺ㌖ﬃ½Åé\u0301\u0323\u200d👨🏽🚀가\u1100\u1161\u11a8\u0f73\U0001d518"),
    ),
    max_size=60,
)
JSON = st.recursive(
    EXOTIC | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(EXOTIC, inner, max_size=3),
    max_leaves=8,
)
TEXT_BLOCK = st.builds(lambda text: {"type": "text", "text": text}, EXOTIC)
RESULT = st.builds(
    lambda id_, content: {"type": "tool_result", "tool_use_id": id_, "content": content},
    EXOTIC,
    EXOTIC | st.lists(TEXT_BLOCK, max_size=3),
)
BLOCK = st.one_of(
    TEXT_BLOCK,
    RESULT,
    st.builds(
        lambda name, value: {"type": "tool_use", "id": "t", "name": name, "input": value},
        EXOTIC,
        st.dictionaries(EXOTIC, JSON, max_size=3),
    ),
    st.builds(lambda text, sign: {"type": "thinking", "thinking": text, "signature": sign}, EXOTIC, EXOTIC),
    st.builds(lambda data: {"type": "redacted_thinking", "data": data}, EXOTIC),
    st.builds(lambda text: {"type": "document", "source": {"type": "text", "data": text}, "title": text}, EXOTIC),
    st.builds(
        lambda blocks, text: {"type": "search_result", "content": blocks, "source": text, "title": text},
        st.lists(TEXT_BLOCK, max_size=3),
        EXOTIC,
    ),
)
MESSAGE = st.builds(
    lambda role, content: {"role": role, "content": content},
    st.sampled_from(["user", "assistant"]),
    EXOTIC | st.lists(BLOCK, max_size=4),
)


def texts_of(value: Any) -> list[str]:
    """Return the texts that a template renders of a prompt: strings as they are, and a tool's input as JSON."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in texts_of(item)]
    texts = []
    for name, member in value.items():
        if name == "input":
            texts.append(json.dumps(member, ensure_ascii=False, separators=(",", ":")))
        elif name == "source" and isinstance(member, dict):
            texts.append(member["data"])
        elif name != "type":
            texts += texts_of(member)
    return texts


def blocks_of(value: Any) -> int:
    """Count the messages and the blocks that a template wraps. It joins texts without more."""
    if isinstance(value, dict):
        return (value.get("type") != "text") + blocks_of(list(value.get("content") or ()))
    return sum(map(blocks_of, value)) if isinstance(value, list) else 0


def normalized(text: str, form: Any) -> str:
    return text if form is None else unicodedata.normalize(form, text)


@settings(max_examples=150, deadline=None)
@given(messages=st.lists(MESSAGE, min_size=1, max_size=4), system=st.none() | EXOTIC | st.lists(TEXT_BLOCK, max_size=3))
def test_a_prompt_never_costs_more_than_its_bound(messages: list[dict[str, Any]], system: Any) -> None:
    request = read(MEDIA_MODEL, messages=messages, system=system)
    texts = texts_of(messages) + texts_of(system or [])
    wrappers = WRAPPER_TOKENS * (blocks_of(messages) + (system is not None))
    for encoding in ENCODINGS:
        for form in FORMS:
            assert (
                wrappers + sum(len(encoding.encode(normalized(text, form))) for text in texts) <= request.prompt_bound
            )


@settings(max_examples=100, deadline=None)
@given(schema=JSON, description=EXOTIC, number=st.integers(1, 4))
def test_tools_never_cost_more_than_their_bound(schema: Any, description: str, number: int) -> None:
    tools = [{"name": "f", "description": description, "input_schema": {"x": schema}}] * number
    plain, request = read(), read(tools=tools, output_config={"format": {"type": "json_schema", "schema": schema}})
    rendered = [json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in (tools, schema)]
    for encoding in ENCODINGS:
        for form in FORMS:
            used = sum(len(encoding.encode(normalized(text, form))) for text in rendered)
            assert used <= request.prompt_bound - plain.prompt_bound - 512 - 64 * number


def test_the_bound_is_the_documented_sum() -> None:
    request = read(messages=[{"role": "user", "content": "Hello"}], max_tokens=50)
    assert request.prompt_bound == len("user") + len("Hello") + 16 + 512
    assert request.bound == request.prompt_bound + 50
    with_system = read(messages=[{"role": "user", "content": "Hello"}], system="Be kind")
    assert with_system.prompt_bound == request.prompt_bound + len("Be kind") + 16


def test_every_string_of_a_block_and_the_json_of_an_input_count() -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "f", "input": {"a": [1]}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "ok"}]},
    ]
    strings = ["user", "text", "Hi", '{"type":"ephemeral"}', "assistant", "tool_use", "t1", "f", '{"a":[1]}',
               "user", "tool_result", "t1", "ok"]  # fmt: skip
    assert read(messages=messages).prompt_bound == sum(map(len, strings)) + 5 * 16 + 512


@pytest.mark.parametrize("name", ["tools", "output_config", "output_format", "tool_choice"])
def test_definitions_count_their_bytes_once(name: str) -> None:
    tools = [{"name": "f", "description": "é", "input_schema": {}}] * 3
    values: dict[str, Any] = {
        "tools": tools,
        "output_config": {"format": {"type": "json_schema", "schema": {"a": "é"}}},
        "output_format": {"type": "json_schema", "schema": {"a": "é"}},
        "tool_choice": {"type": "auto"},
    }
    size = len(msgspec.json.encode(values[name])) + (512 + 3 * 64 if name == "tools" else 0)
    assert read(MODEL, **{name: values[name]}).prompt_bound - read().prompt_bound == size


def test_each_typed_tool_adds_the_description_of_the_provider() -> None:
    typed = [{"type": kind, "name": "t"} for kind in ("bash_20250124", "memory_20250818", "text_editor_20250728")]
    request = read(tools=[CLIENT_TOOL, *typed])
    size = len(msgspec.json.encode([CLIENT_TOOL, *typed])) + 512 + 4 * 64
    assert request.prompt_bound - read().prompt_bound == size + 3 * TYPED_TOOL_TOKENS
    assert TYPED_TOOL_TOKENS == 1_024


@pytest.mark.parametrize(("block", "tokens"), [(IMAGE, 1_500), (PDF, 9_000)])
def test_media_cost_their_maximum_and_not_their_bytes(block: dict[str, Any], tokens: int) -> None:
    bare = read(messages=[{"role": "user", "content": []}]).prompt_bound
    name = len(block["type"])
    assert read(MEDIA_MODEL, messages=[{"role": "user", "content": [block] * 2}]).prompt_bound == bare + 2 * (
        tokens + name + 16
    )
    result = {"type": "tool_result", "tool_use_id": "", "content": [block]}
    nested = read(MEDIA_MODEL, messages=[{"role": "user", "content": [result]}]).prompt_bound
    assert nested == bare + tokens + name + len("tool_result") + 2 * 16


def test_the_text_of_a_document_counts_beside_its_maximum() -> None:
    document = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x" * 50_000}}
    bare = read(messages=[{"role": "user", "content": []}]).prompt_bound
    request = read(MEDIA_MODEL, messages=[{"role": "user", "content": [document]}])
    assert request.prompt_bound == bare + 9_000 + 50_000 + len("document") + 16


def test_the_context_window_caps_the_prompt() -> None:
    model = msgspec.structs.replace(MODEL, context_window_tokens=600)
    assert read(model, system="x" * 5_000).prompt_bound == 600


def test_what_a_model_may_reason_beyond_its_limit_is_added() -> None:
    model = msgspec.structs.replace(MODEL, reasoning_tokens_max=300)
    assert read(model, max_tokens=50).output_bound == 350


@pytest.mark.parametrize("place", ["message", "block", "system", "input"])
def test_long_texts_are_bounded_exactly_after_admission(place: str) -> None:
    text = "e\u0301" * EXACT_BYTES_MAX
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": text}}
    places: dict[str, dict[str, Any]] = {
        "message": {"messages": [{"role": "user", "content": text}]},
        "block": {"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]},
        "system": {"system": text},
        "input": {"messages": [{"role": "user", "content": [use]}]},
    }
    request = read(MODEL, **places[place])
    assert len(request.inexact_texts) == 1
    exact = request.with_exact_bound()
    assert exact.prompt_bound - request.prompt_bound == string_bound(text) - len(text.encode())
    assert exact.inexact_texts == ()


@pytest.mark.parametrize("available", range(500, 700, 37))
def test_the_largest_output_that_fits_does_fit_and_one_more_does_not(available: int) -> None:
    request = read(messages=[HELLO])
    largest = request.largest_output_tokens(available)
    assert request.prompt_bound + largest <= max(available, request.prompt_bound)
    assert request.prompt_bound + largest + 1 > available


def test_a_body_that_repeats_or_escapes_is_bounded_by_what_it_means() -> None:
    body = body_of(messages=[{"role": "user", "content": "é"}]).replace("é".encode(), b"\\u00e9")
    request = read_messages_request(body, find_model=lambda _: MODEL)
    assert request.prompt_bound == len("user") + len("é".encode()) + 16 + 512
