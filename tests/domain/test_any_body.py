"""Whatever a body is, reading it gives a request or an `InvalidRequest`."""

import contextlib
import json
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.models import make_model
from tok0n.domain.bound import EXACT_BYTES_MAX, PIECE_CHARACTERS, RUN_CHARACTERS, _normalizable_pieces, string_bound
from tok0n.domain.endpoints.chat import read_chat_request
from tok0n.domain.endpoints.chat_fields import FIELDS
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.json_text import BYTES_PER_CONTAINER, CONTAINERS_FREE, MEMBERS_MAX
from tok0n.domain.metered_request import MeteredRequest

MODEL = make_model(image_tokens_max=100, extra_fields=("x", "messages.x", "messages.content.x"))
HEAD = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],'
NUMBERS = [b"1e999999", b"-1e999999", b"9" * 5000, b"NaN", b"-Infinity", b"1E400", b"-0", b"0.1e-400"]
TEXTS = [b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\\u0000"', b'"\x00"']
PLACES = {
    "at the top": b"%s",
    "a member": b'{"%s":1}',
    "model": b'{"model":%s,"messages":[{"role":"user","content":"Hi"}]}',
    "messages": b'{"model":"m","messages":%s}',
    "a message": b'{"model":"m","messages":[%s]}',
    "role": b'{"model":"m","messages":[{"role":%s,"content":"Hi"}]}',
    "content": b'{"model":"m","messages":[{"role":"user","content":%s}]}',
    "a part": b'{"model":"m","messages":[{"role":"user","content":[%s]}]}',
    "an image": b'{"model":"m","messages":[{"role":"user","content":[{"type":"image_url","image_url":%s}]}]}',
    "tool calls": b'{"model":"m","messages":[{"role":"assistant","tool_calls":[%s]}]}',
    "reasoning": b'{"model":"m","messages":[{"role":"assistant","reasoning_details":[%s]}]}',
    "an allowed member": b'{"model":"m","messages":[{"role":"user","content":"x","x":%s}]}',
    "an allowed field": HEAD + b'"x":%s}',
    **{name: HEAD + b'"%b":%%s}' % name.encode() for name in FIELDS if name not in {"model", "messages"}},
    "a tool's schema": HEAD + b'"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]}',
}


def read(body: bytes) -> MeteredRequest | InvalidRequest:
    try:
        return read_chat_request(body, find_model=lambda id_: MODEL if id_ == "m" else None)
    except InvalidRequest as error:
        msgspec.json.encode((error.message, error.param))
        return error


@pytest.mark.parametrize("place", PLACES)
def test_json_nested_deeply_anywhere_is_a_clear_error(place: str) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        for depth in (1, 100, 900, 990, 1_000, 100_000):
            inner = b"null" if opening != b"[" else b""
            body = PLACES[place].replace(b"%s", opening * depth + inner + closing * depth)
            for padded in (body, body + b" " * (BYTES_PER_CONTAINER * depth)):
                outcome = read(padded)
                if depth == 100_000:
                    assert isinstance(outcome, InvalidRequest)


@pytest.mark.parametrize("place", PLACES)
def test_odd_values_anywhere_are_read_or_a_clear_error(place: str) -> None:
    for value in [
        *NUMBERS,
        *TEXTS,
        b"",
        b"\xef\xbb\xbf{}",
        b"{",
        b"}",
        b'"',
        b"\\",
        b"true",
        b'{"type":[]}',
        b'{"type":{}}',
    ]:
        read(PLACES[place].replace(b"%s", value))


@pytest.mark.parametrize("number", NUMBERS[:6])
def test_a_number_that_cannot_be_handled_is_a_clear_error(number: bytes) -> None:
    assert isinstance(read(HEAD + b'"x":[' + number + b"]}"), InvalidRequest)


@pytest.mark.parametrize("text", TEXTS[:5])
def test_text_that_is_no_unicode_is_a_clear_error(text: bytes) -> None:
    for body in (HEAD + b'"x":' + text + b"}", HEAD + text + b":1}"):
        assert isinstance(read(body), InvalidRequest)


KEYS = st.sampled_from(
    [*FIELDS, "model", "messages", "max_tokens", "role", "content", "type", "text", "name", "function", "tool_calls",
     "reasoning", "thinking", "image_url", "x", "id", "arguments", "json_schema", "\x00", "é"]
)  # fmt: skip
WORDS = st.sampled_from(
    [
        "m",
        "user",
        "assistant",
        "tool",
        "text",
        "thinking",
        "image_url",
        "function",
        "custom",
        "json_schema",
        "auto",
        "\x00",
    ]
) | st.text(max_size=5)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=250, deadline=None)
@given(fields=st.dictionaries(KEYS, VALUES, max_size=8), message=st.dictionaries(KEYS, VALUES, max_size=6))
def test_any_json_is_a_request_or_an_invalid_request(fields: dict[str, Any], message: dict[str, Any]) -> None:
    read(json.dumps(fields).encode())
    for role in ("user", "assistant", "tool"):
        body = fields | {"model": "m", "messages": [{"role": role, "content": "x"} | message]}
        outcome = read(json.dumps(body).encode())
        if isinstance(outcome, MeteredRequest):
            sent = json.loads(outcome.upstream_body)
            assert (sent["model"], sent["messages"]) == ("um", body["messages"])


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"{", b'{"model":', HEAD]), st.sampled_from([b"", b"}", b"}]}"]))
def test_any_bytes_are_a_request_or_an_invalid_request(middle: bytes, start: bytes, end: bytes) -> None:
    read(start + middle + end)


@pytest.mark.parametrize("twice", [b'"model":"m","model":"x"', b'"messages":[],"messages":[]', b'"\\u006dodel":"x"'])
def test_a_key_given_twice_is_not_read_in_two_ways(twice: bytes) -> None:
    outcome = read(HEAD[:-1] + b"," + twice + b"}")
    assert isinstance(outcome, InvalidRequest)
    assert "twice" in outcome.message


def test_json_of_containers_only_is_refused_before_it_is_decoded() -> None:
    for unit in (b"[]", b"{}", b'{"a":1}'):
        few = b",".join([unit] * CONTAINERS_FREE)
        many = b",".join([unit] * 100_000)
        quoted = b'"' + many.replace(b'"', b'\\"') + b'"'
        assert isinstance(read(HEAD + b'"x":[' + few + b"]}"), MeteredRequest)
        assert isinstance(read(HEAD + b'"x":[' + quoted + b"]}"), MeteredRequest)
        outcome = read(HEAD + b'"x":[' + many + b"]}")
        assert isinstance(outcome, InvalidRequest)
        assert "arrays and objects" in outcome.message


def test_a_body_of_too_many_members_is_refused() -> None:
    members = b",".join(b'"%d":null' % number for number in range(MEMBERS_MAX))
    outcome = read(HEAD + members + b"}")
    assert isinstance(outcome, InvalidRequest)
    assert str(MEMBERS_MAX) in outcome.message


NORMALIZING = {unicodedata.normalize, unicodedata.is_normalized}


@contextlib.contextmanager
def functions_called() -> Iterator[set[Any]]:
    """Collects the built-in functions that are called inside the block."""
    called: set[Any] = set()
    profile = sys.getprofile()
    sys.setprofile(lambda _, event, function: called.add(function) if event == "c_call" else None)
    try:
        yield called
    finally:
        sys.setprofile(profile)


@pytest.mark.parametrize("piece", ["\u0301\u0316", "e\u0301\u0316" * 31, "\ufdfa", "\u0f73", "漢", "é", "\u0344"])
def test_long_text_is_read_without_normalizing_it(piece: str) -> None:
    text = piece * (EXACT_BYTES_MAX // len(piece.encode()) + 1)
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 1})
    with functions_called() as called:
        request = read(body)
    assert not called & NORMALIZING
    assert isinstance(request, MeteredRequest)
    assert request.prompt_bound == len("user") + len(text.encode()) + 16 + 512
    with functions_called() as called:
        exact = request.with_exact_bound()
    assert called & NORMALIZING
    assert exact.inexact_texts == ()
    assert exact.prompt_bound == len("user") + string_bound(text) + 16 + 512
    assert exact.upstream_body == request.upstream_body
    short = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": text[: len(text) // 3]}]})
    assert not read(short).inexact_texts  # type: ignore[union-attr]


def test_many_short_texts_count_together() -> None:
    text = "é" * 100
    few, many = (
        read(msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": text}] * number}))
        for number in (EXACT_BYTES_MAX // 200, EXACT_BYTES_MAX // 200 + 1)
    )
    assert isinstance(few, MeteredRequest)
    assert isinstance(many, MeteredRequest)
    assert (len(few.inexact_texts), len(many.inexact_texts)) == (0, EXACT_BYTES_MAX // 200 + 1)


def test_a_context_window_below_the_bytes_makes_the_bound_exact() -> None:
    model = msgspec.structs.replace(MODEL, context_window_tokens=5_000)
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "é" * EXACT_BYTES_MAX}]})
    request = read_chat_request(body, find_model=lambda _: model)
    assert (request.prompt_bound, request.inexact_texts) == (5_000, ())
    model = msgspec.structs.replace(MODEL, context_window_tokens=40_000)
    body = msgspec.json.encode({"model": "m", "messages": [{"role": "user", "content": "\ufdfa" * 10_000}]})
    request = read_chat_request(body, find_model=lambda _: model)
    assert request.prompt_bound == len("user") + 30_000 + 16 + 512
    assert request.with_exact_bound().prompt_bound == 40_000


@pytest.mark.parametrize("run", ["\u0301\u0316", "\u0316\u0301", "\u0f73\u0301", "\u0345\u0301", "\uff9e"])
@pytest.mark.parametrize("before", ["", "e", "x" * 1_000, "é" * 3_000])
def test_no_long_run_is_normalized_in_one_piece(run: str, before: str) -> None:
    text = before + run * 5_000 + "a"
    pieces = [piece for piece, _ in _normalizable_pieces(text, PIECE_CHARACTERS)]
    assert "".join(pieces) == text
    assert max(len(piece) for piece in pieces if run in piece) <= 2 * RUN_CHARACTERS + PIECE_CHARACTERS
    assert sum(len(piece) > RUN_CHARACTERS for piece in pieces if run * RUN_CHARACTERS in piece) == 0
