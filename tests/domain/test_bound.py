"""The upper bound is never below what a real byte-level tokenizer reports, whatever the text."""

import json
import sys
import unicodedata
from collections.abc import Callable

import bpe_openai
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.models import make_model
from tok0n.domain.bound import (
    CUT_BYTES,
    RUN_CHARACTERS,
    TextSize,
    _combining_characters,
    definition_size,
    string_bound,
)
from tok0n.domain.endpoints.chat import read_chat_request
from tok0n.domain.metered_request import MeteredRequest

ENCODINGS = [bpe_openai.get_encoding(name) for name in ("o200k_base", "cl100k_base")]
TOKENS_PER_MESSAGE = 4
TOKENS_PER_ANSWER = 3
"""What OpenAI's chat template adds (openai-cookbook, "How to count tokens with tiktoken")."""

MODEL = make_model(max_output_tokens=10_000, default_output_tokens=100)

EXOTIC = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from("ﷺ\ufdfb㌖ﬃ½Åé\u0301\u0323\u200d👨🏽🚀가\u1100\u1161\u11a8\u0f73\U0001d518"),
    ),
    max_size=200,
)
ROLES = st.sampled_from(["system", "user", "assistant", "developer"])
MESSAGES = st.lists(st.tuples(ROLES, EXOTIC), min_size=1, max_size=8)


def read(**fields: object) -> MeteredRequest:
    return read_chat_request(msgspec.json.encode({"model": "m"} | fields), find_model=lambda _: MODEL)


def forms(text: str) -> list[str]:
    return [text, *(unicodedata.normalize(form, text) for form in ("NFC", "NFKC"))]


@settings(max_examples=300, deadline=None)
@given(text=EXOTIC)
@example(text="ﷺ" * 50)
@example(text="\u0f73\u0f75\u0344" * 30)
def test_a_string_never_costs_more_than_its_bound_in_any_form(text: str) -> None:
    bound = string_bound(text)
    for encoding in ENCODINGS:
        assert max(len(encoding.encode(form)) for form in forms(text)) <= bound


@settings(max_examples=200, deadline=None)
@given(messages=MESSAGES, limit=st.integers(1, 1000), n=st.integers(1, 5))
def test_a_conversation_never_costs_more_than_its_bound(messages: list[tuple[str, str]], limit: int, n: int) -> None:
    request = read(
        messages=[{"role": role, "content": text} for role, text in messages], max_completion_tokens=limit, n=n
    )
    for encoding in ENCODINGS:
        for index in range(3):
            used = sum(TOKENS_PER_MESSAGE + len(encoding.encode(forms(text)[index])) for _, text in messages)
            assert TOKENS_PER_ANSWER + used <= request.prompt_bound
    assert request.output_bound == n * limit


@given(text=EXOTIC)
def test_the_bound_of_a_string_is_the_longest_of_its_three_forms(text: str) -> None:
    assert string_bound(text) == max(len(form.encode()) for form in forms(text))


@settings(max_examples=1000, deadline=None)
@given(
    text=EXOTIC | st.text("eao\u03b1\u0391\u0301\u0300\u0323\u0308\u0302\u0345\u0313\u1100\u1161\u11a8가ﷺ½"),
    size=st.integers(1, 3),
)
@example(text="e\u0301中\u0301한\u1100\u1161a\u0323\u0301", size=1)
@example(text="e\u0301\u0323\u0344", size=1)  # a mark composes before the cut: the pieces are shorter than the whole
def test_a_text_cut_anywhere_is_never_bounded_too_low(text: str, size: int) -> None:
    assert string_bound(text, piece_characters=size) >= max(len(form.encode()) for form in forms(text))


@settings(deadline=None)
@given(text=EXOTIC, size=st.integers(2, 4))
def test_a_text_that_can_be_cut_between_words_has_the_same_bound(text: str, size: int) -> None:
    words = "".join(f"{character}a" for character in text)
    assert string_bound(words, piece_characters=size) == max(len(form.encode()) for form in forms(words))


@pytest.mark.parametrize("character", [chr(code) for code in (*range(128), *range(0x4E00, 0xA000, 97))])
def test_no_boundary_character_joins_with_what_stands_before_it(character: str) -> None:
    for before in "e\u0301é中가\u1100\u1161ﷺ½":
        for form in ("NFC", "NFKC"):
            apart = unicodedata.normalize(form, before) + unicodedata.normalize(form, character)
            assert unicodedata.normalize(form, before + character) == apart


def test_the_bound_is_the_documented_sum() -> None:
    request = read(messages=[{"role": "user", "content": "Hello"}], max_tokens=50)
    assert request.prompt_bound == len("user") + len("Hello") + 16 + 512
    assert request.bound == request.prompt_bound + 50


def test_every_string_of_a_message_counts() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hi"}], "name": "bob"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "ok"},
    ]
    strings = ["user", "text", "Hi", "bob", "assistant", "c1", "function", "f", '{"a":1}', "tool", "c1", "ok"]
    request = read(messages=messages, max_tokens=1)
    assert request.prompt_bound == sum(map(len, strings)) + 3 * 16 + 512


TOOLS = [{"type": "function", "function": {"name": "f", "description": "é"}}] * 3


@pytest.mark.parametrize("encode", [msgspec.json.encode, lambda value: json.dumps(value).encode()])
def test_tools_and_formats_count_their_bytes_once(encode: Callable[[object], bytes]) -> None:
    plain = read(messages=[{"role": "user", "content": "Hi"}])
    response_format = {"type": "json_object"}
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "tools": TOOLS}
    request = read_chat_request(encode(body | {"response_format": response_format}), find_model=lambda _: MODEL)
    size = len(encode(TOOLS)) + len(encode(response_format))
    assert request.prompt_bound - plain.prompt_bound == size + 512 + 3 * 64


@given(st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_the_size_of_a_definition_covers_its_text_in_every_normal_form(value: object) -> None:
    for raw in (msgspec.json.encode(value), json.dumps(value).encode()):
        texts = TextSize()
        bound = definition_size(value, raw, texts) + sum(map(string_bound, texts.other))
        for form in ("NFC", "NFKC"):
            assert len(unicodedata.normalize(form, raw_text(value)).encode()) <= bound


def raw_text(value: object) -> str:
    """The JSON of a value without escapes, as a template renders it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def test_a_prediction_is_added_to_the_output() -> None:
    prediction = {"type": "content", "content": "x" * 100}
    request = read(messages=[{"role": "user", "content": "Hi"}], prediction=prediction, max_tokens=10, n=2)
    assert request.output_bound == 20 + len(msgspec.json.encode(prediction))


def test_the_context_window_caps_the_prompt() -> None:
    model = msgspec.structs.replace(MODEL, context_window_tokens=600)
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "x" * 5000}]})
    assert read_chat_request(body, find_model=lambda _: model).prompt_bound == 600


def test_media_parts_cost_their_maximum_and_not_their_bytes() -> None:
    model = msgspec.structs.replace(MODEL, image_tokens_max=1500)
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": [part, part]}]})
    request = read_chat_request(body, find_model=lambda _: model)
    assert request.prompt_bound == len("user") + 16 + 512 + 3000


@pytest.mark.parametrize("available", range(500, 700, 7))
def test_the_largest_output_that_fits_does_fit_and_one_more_does_not(available: int) -> None:
    request = read(messages=[{"role": "user", "content": "Hi"}], n=3, max_tokens=100)
    largest = request.largest_output_tokens(available)
    assert request.prompt_bound + 3 * largest <= max(available, request.prompt_bound)
    assert request.prompt_bound + 3 * (largest + 1) > available


MARKS = st.text("\u0301\u0300\u0323\u0308\u0302\u0345\u0313\u0316\u0f73\u0334", min_size=0, max_size=400)


@settings(max_examples=200, deadline=None)
@given(
    parts=st.lists(st.tuples(st.sampled_from(["e", "é", "中", "가", "ﷺ", "\u1100"]), MARKS), min_size=1, max_size=12)
)
def test_long_runs_of_combining_characters_are_never_bounded_too_low(parts: list[tuple[str, str]]) -> None:
    text = "".join(start + marks for start, marks in parts)
    longest = max(len(form.encode()) for form in forms(text))
    bound = string_bound(text)
    assert longest <= bound
    if all(len(marks) < RUN_CHARACTERS for _, marks in parts):
        assert bound == longest
    else:
        assert bound <= longest + CUT_BYTES * (len(text) // RUN_CHARACTERS + 1)


def test_every_combining_character_is_known_to_the_search_for_runs() -> None:
    combining = _combining_characters()
    for code in range(sys.maxunicode + 1):
        if 0xD800 <= code < 0xE000:
            continue
        character = chr(code)
        decomposed = unicodedata.normalize("NFKD", character)
        assert (character in combining) is all(map(unicodedata.combining, decomposed)), hex(code)


@pytest.mark.parametrize("n", [1, 3])
def test_the_bound_grows_by_what_a_model_may_reason_beyond_its_limit(n: int) -> None:
    model = msgspec.structs.replace(MODEL, reasoning_tokens_max=300)
    body = msgspec.json.encode(
        {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 50, "n": n}
    )
    plain, request = (read_chat_request(body, find_model=lambda _, model=one: model) for one in (MODEL, model))  # type: ignore[misc]
    assert (plain.output_bound, request.output_bound) == (n * 50, n * 350)
    assert request.upstream_body == plain.upstream_body
    assert plain.largest_output_tokens(request.bound) == 350
    assert request.largest_output_tokens(request.bound) == 50
