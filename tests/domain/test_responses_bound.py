"""The upper bound of a responses request is never below what a real byte-level tokenizer reports."""

import json
from collections.abc import Callable
from typing import Any

import bpe_openai
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.models import make_model
from support.responses_requests import AGENTS, APPLY_PATCH, TOOL_SEARCH, function, namespace
from tok0n.domain.bound import EXACT_BYTES_MAX, string_bound
from tok0n.domain.endpoints.responses import read_responses_request
from tok0n.domain.metered_request import MeteredRequest

ENCODINGS = [bpe_openai.get_encoding(name) for name in ("o200k_base", "cl100k_base")]
MODEL = make_model(
    endpoints=("responses",),
    streaming_endpoints=("responses",),
    max_output_tokens=10_000,
    image_tokens_max=1500,
    file_tokens_max=9000,
)
HI = [{"role": "user", "content": "Hi"}]


def read(
    _model: Any = MODEL, /, *, encode: Callable[[object], bytes] = msgspec.json.encode, **fields: Any
) -> MeteredRequest:
    body = {"model": "m", "input": HI} | fields
    return read_responses_request(encode(body), find_model=lambda _: _model, is_streaming=True)


EXOTIC = st.text(
    st.characters(codec="utf-8") | st.sampled_from("ﷺ\ufdfb㌖ﬃ½Åé\u0301\u0323👨🏽가\u1100\u0f73"), max_size=60
)
PARTS = st.lists(st.builds(lambda text: {"type": "input_text", "text": text}, EXOTIC), max_size=3)
ITEMS = st.one_of(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "assistant", "developer", "system"]),
        EXOTIC | PARTS,
    ),
    st.builds(lambda text: {"type": "function_call", "call_id": "c", "name": "f", "arguments": text}, EXOTIC),
    st.builds(lambda text: {"type": "custom_tool_call", "call_id": "c", "name": text, "input": text}, EXOTIC),
    st.builds(lambda output: {"type": "function_call_output", "call_id": "c", "output": output}, EXOTIC | PARTS),
    st.builds(lambda text: {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}, EXOTIC),
    st.builds(lambda text: {"type": "compaction", "encrypted_content": text}, EXOTIC),
    st.builds(
        lambda value: {"type": "tool_search_call", "execution": "client", "arguments": value},
        st.dictionaries(EXOTIC, EXOTIC | st.integers(), max_size=3),
    ),
    st.builds(
        lambda text: {"type": "additional_tools", "tools": [namespace("n", function("f", description=text))]}, EXOTIC
    ),
)


def used(value: Any, encoding: Any) -> int:
    """Count the tokens of everything in a request that can get into the prompt, with what a template adds."""
    if isinstance(value, str):
        return len(encoding.encode(value))
    if isinstance(value, list):
        return sum(used(inner, encoding) for inner in value)
    return (
        sum(used(name, encoding) + used(inner, encoding) for name, inner in value.items())
        if isinstance(value, dict)
        else 1
    )


def rendered(item: dict[str, Any], encoding: Any) -> int:
    """Count the tokens of an item in OpenAI's harmony format: about eight special tokens, and its texts."""
    texts = {name: value for name, value in item.items() if name not in {"tools", "arguments"} or type(value) is str}
    objects = [value for name, value in item.items() if name in {"tools", "arguments"} and type(value) is not str]
    strings = sum(used(list(_strings(value)), encoding) for value in texts.values())
    return (
        8
        + strings
        + sum(len(encoding.encode(json.dumps(value, ensure_ascii=False, separators=(",", ":")))) for value in objects)
    )


def _strings(value: Any) -> Any:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


@settings(max_examples=200, deadline=None)
@given(items=st.lists(ITEMS, min_size=1, max_size=6), instructions=EXOTIC, limit=st.integers(1, 1000))
def test_a_conversation_never_costs_more_than_its_bound(items: list[Any], instructions: str, limit: int) -> None:
    request = read(input=items, instructions=instructions, max_output_tokens=limit)
    for encoding in ENCODINGS:
        tokens = 3 + 8 + len(encoding.encode(instructions)) + sum(rendered(item, encoding) for item in items)
        assert tokens <= request.prompt_bound
    assert request.output_bound == limit


@pytest.mark.parametrize("agent", AGENTS)
def test_what_agents_send_never_costs_more_than_its_bound(agent: str) -> None:
    body = AGENTS[agent]
    request = read(**body)
    sent = msgspec.json.decode(request.upstream_body)
    for encoding in ENCODINGS:
        assert used([sent["input"], sent.get("tools", []), sent.get("text", {})], encoding) <= request.prompt_bound


@given(text=EXOTIC)
def test_a_text_counts_the_same_wherever_it_stands(text: str) -> None:
    size = string_bound(text)
    assert read(input=text).prompt_bound == 512 + 16 + size
    assert read(input="", instructions=text).prompt_bound == 512 + 32 + size
    assert read(input=[{"role": "user", "content": text}]).prompt_bound == 512 + 16 + len("user") + size
    part = {"type": "input_text", "text": text}
    assert read(input=[{"role": "user", "content": [part]}]).prompt_bound == 512 + 16 + len("userinput_text") + size


TOOLS = [
    function("f", description="x" * 300 + "é"),
    APPLY_PATCH,
    TOOL_SEARCH,
    namespace("n", function("é"), APPLY_PATCH),
]


@pytest.mark.parametrize("place", ["tools", "additional_tools", "tool_search_output"])
def test_tools_count_their_bytes_once_wherever_they_stand(place: str) -> None:
    item: dict[str, Any] = {"type": place, "tools": TOOLS}
    kinds = len(place)
    if place == "tool_search_output":
        item |= {"execution": "client"}
        kinds += len("client")
    plain = read()
    request = read(tools=TOOLS) if place == "tools" else read(input=[item, *HI])
    expected = len(msgspec.json.encode(TOOLS)) + 512 + 6 * 64 + (0 if place == "tools" else 16 + kinds)
    assert request.prompt_bound - plain.prompt_bound == expected


@pytest.mark.parametrize("encode", [msgspec.json.encode, lambda value: json.dumps(value).encode()])
def test_a_format_counts_its_bytes_once(encode: Callable[[object], bytes]) -> None:
    text = {"format": {"type": "json_schema", "name": "x", "schema": {"properties": {"é": {"type": "string"}}}}}
    request = read(encode=encode, text=text)
    escapes = len(b"\\u00e9") - len("é".encode()) if b"\\u" in encode(text) else 0
    size = request.prompt_bound - read().prompt_bound
    assert len(encode(text)) - escapes <= size <= len(encode(text))


@pytest.mark.parametrize(
    ("part", "tokens"),
    [
        ({"type": "input_image", "image_url": "data:image/png;base64," + "A" * 100_000}, 1500),
        ({"type": "input_image", "image_url": "https://x/" + "A" * 1_000, "detail": "high"}, 1504),
        ({"type": "input_file", "file_data": "A" * 100_000, "filename": "a.pdf"}, 9005),
    ],
)
@pytest.mark.parametrize("place", ["content", "output"])
def test_media_parts_cost_their_maximum_and_not_their_bytes(part: Any, tokens: int, place: str) -> None:
    def items(parts: list[Any]) -> list[Any]:
        return [
            {"role": "user", "content": parts}
            if place == "content"
            else {"type": "function_call_output", "output": parts}
        ]

    plain = read(input=items([]))
    assert read(input=items([part, part])).prompt_bound == plain.prompt_bound + 2 * tokens


def test_the_context_window_caps_the_prompt() -> None:
    model = msgspec.structs.replace(MODEL, context_window_tokens=600)
    request = read(model, input="é" * EXACT_BYTES_MAX)
    assert (request.prompt_bound, request.inexact_texts) == (600, ())


def test_long_text_is_bounded_exactly_later() -> None:
    text = "\ufdfa" * EXACT_BYTES_MAX
    request = read(input=text)
    assert request.inexact_texts == (text,)
    assert request.prompt_bound == 512 + 16 + len(text.encode())
    assert request.with_exact_bound().prompt_bound == 512 + 16 + string_bound(text)


def test_reasoning_beyond_the_limit_counts() -> None:
    model = msgspec.structs.replace(MODEL, reasoning_tokens_max=300)
    assert read(model, max_output_tokens=50).output_bound == 350
