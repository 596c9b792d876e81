"""Whatever a body of POST /v1/responses is, reading it gives a request or an `InvalidRequest`."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.models import make_model
from support.responses_requests import AGENTS
from tok0n.domain.endpoints.responses import read_responses_request
from tok0n.domain.endpoints.responses_fields import FIELDS
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.metered_request import MeteredRequest

MODEL = make_model(
    endpoints=("responses",),
    streaming_endpoints=("responses",),
    image_tokens_max=100,
    extra_fields=("x", "input.x", "input.content", "input.output", "input.tools", "input.content.x"),
)
HEAD = b'{"model":"m","input":"Hi",'
ITEM = b'{"model":"m","input":[%b]}'
PLACES = {
    "at the top": b"%s",
    "model": b'{"model":%s,"input":"Hi"}',
    "input": b'{"model":"m","input":%s}',
    "an item": ITEM % b"%s",
    "a type": ITEM % b'{"type":%s}',
    "a role": ITEM % b'{"role":%s,"content":"x"}',
    "content": ITEM % b'{"role":"user","content":%s}',
    "a part": ITEM % b'{"role":"user","content":[%s]}',
    "an image": ITEM % b'{"role":"user","content":[{"type":"input_image","image_url":%s}]}',
    "a call": ITEM % b'{"type":"function_call","call_id":"c","name":"f","arguments":%s}',
    "a search": ITEM % b'{"type":"tool_search_call","execution":"client","arguments":%s}',
    "an output": ITEM % b'{"type":"function_call_output","output":%s}',
    "a summary": ITEM % b'{"type":"reasoning","summary":[%s]}',
    "allowed content": ITEM % b'{"type":"compaction","encrypted_content":"x","content":[%s],"output":%s,"tools":%s}',
    "more tools": ITEM % b'{"type":"additional_tools","tools":%s}',
    "one more tool": ITEM % b'{"type":"additional_tools","tools":[{"type":"web_search"},%s]}',
    "an inner tool": HEAD + b'"tools":[{"type":"namespace","name":"n","tools":[%s]}]}',
    "a tool": HEAD + b'"tools":[%s,{"type":"mcp"}]}',
    "a schema": HEAD + b'"tools":[{"type":"function","name":"f","parameters":%s}]}',
    "an allowed field": HEAD + b'"x":%s}',
    **{name: HEAD + b'"%b":%%s}' % name.encode() for name in FIELDS if name not in {"model", "input"}},
}
ODD = [
    *(
        b"1e999999",
        b"9" * 5000,
        b"NaN",
        b"-0",
        b"null",
        b"true",
        b'"\\ud800"',
        b'"\xff"',
        b'"\\u0000"',
        b"",
        b"{",
        b'"',
    ),
    *(
        b"[]",
        b"{}",
        b'{"type":[]}',
        b'{"type":{}}',
        b'{"type":null}',
        b'[{"type":"namespace"}]',
        b'"x"',
        b"[7]",
        b"[null]",
    ),
]


def read(body: bytes) -> MeteredRequest | InvalidRequest:
    try:
        return read_responses_request(body, find_model=lambda id_: MODEL if id_ == "m" else None, is_streaming=True)
    except InvalidRequest as error:
        msgspec.json.encode((error.message, error.param))
        return error


@pytest.mark.parametrize("place", PLACES)
def test_odd_values_anywhere_are_read_or_a_clear_error(place: str) -> None:
    for value in ODD:
        read(PLACES[place].replace(b"%s", value))


@pytest.mark.parametrize("place", PLACES)
def test_json_nested_deeply_anywhere_is_read_or_a_clear_error(place: str) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        for depth in (1, 100, 900, 990, 1_000, 100_000):
            inner = b"null" if opening != b"[" else b""
            body = PLACES[place].replace(b"%s", opening * depth + inner + closing * depth)
            outcome = read(body + b" " * (16 * depth))
            if depth == 100_000:
                assert isinstance(outcome, InvalidRequest)


KEYS = st.sampled_from(
    [
        *FIELDS,
        "role",
        "content",
        "type",
        "text",
        "name",
        "tools",
        "output",
        "summary",
        "execution",
        "x",
        "format",
        "\x00",
    ]
)
WORDS = st.sampled_from(
    ["m", "user", "message", "input_text", "input_image", "namespace", "function", "tool_search", "web_search", "mcp",
     "additional_tools", "tool_search_output", "reasoning", "function_call_output", "client", "auto", "allowed_tools"]
) | st.text(max_size=5)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=250, deadline=None)
@given(
    fields=st.dictionaries(KEYS, VALUES, max_size=6),
    items=st.lists(VALUES, max_size=3),
    tools=st.lists(VALUES, max_size=3),
)
def test_any_json_is_a_request_or_an_invalid_request(
    fields: dict[str, Any], items: list[Any], tools: list[Any]
) -> None:
    read(json.dumps(fields).encode())
    read(json.dumps({"model": "m", "input": items, "tools": tools} | fields).encode())


PATHS = st.lists(st.integers(0, 20), min_size=1, max_size=6)


@settings(max_examples=500, deadline=None)
@given(agent=st.sampled_from(sorted(AGENTS)), path=PATHS, value=VALUES)
def test_a_changed_request_of_an_agent_is_a_request_or_an_invalid_request(
    agent: str, path: list[int], value: Any
) -> None:
    body = json.loads(json.dumps(AGENTS[agent]))
    place = body
    for step in path[:-1]:
        inner = list(place.values() if isinstance(place, dict) else place)
        if not inner or not isinstance(inner[step % len(inner)], dict | list) or not inner[step % len(inner)]:
            break
        place = inner[step % len(inner)]
    keys = list(place) if isinstance(place, dict) else list(range(len(place)))
    place[keys[path[-1] % len(keys)]] = value
    outcome = read(json.dumps(body).encode())
    if isinstance(outcome, MeteredRequest):
        sent = json.loads(outcome.upstream_body)
        assert (sent["model"], sent["store"], sent["max_output_tokens"]) == ("um", False, outcome.output_limit)
        assert "web_search" not in {tool["type"] for tool in sent.get("tools") or ()}
        assert outcome.bound > 0


@pytest.mark.parametrize("twice", [b'"input":"a","input":"b"', b'"\\u0069nput":"x"', b'"store":false,"store":true'])
def test_a_key_given_twice_is_not_read_in_two_ways(twice: bytes) -> None:
    outcome = read(HEAD[:-1] + b"," + twice + b"}")
    assert isinstance(outcome, InvalidRequest)
    assert "twice" in outcome.message
