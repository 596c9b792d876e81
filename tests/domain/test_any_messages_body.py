"""Whatever a body is, reading it as a message gives a request or an `InvalidRequest`."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.messages_requests import MEDIA_MODEL
from tok0n.domain.endpoints.count_tokens import read_count_request
from tok0n.domain.endpoints.messages import read_messages_request
from tok0n.domain.endpoints.messages_betas import DEFAULT_BETAS
from tok0n.domain.endpoints.messages_fields import FIELDS
from tok0n.domain.errors import InvalidRequest
from tok0n.domain.metered_request import MeteredRequest

MODEL = msgspec.structs.replace(MEDIA_MODEL, extra_fields=("x", "messages.x", "messages.content.x", "tools.x"))
NO_BETAS = msgspec.structs.replace(MODEL, anthropic_betas=())
HEADERS = {b"anthropic-beta": ",".join(DEFAULT_BETAS).encode()}
HEAD = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"Hi"}],'
PLACES = {
    "at the top": b"%s",
    "a member": b'{"%s":1}',
    "model": b'{"model":%s,"max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}',
    "max_tokens": b'{"model":"m","max_tokens":%s,"messages":[{"role":"user","content":"Hi"}]}',
    "messages": b'{"model":"m","max_tokens":5,"messages":%s}',
    "a message": b'{"model":"m","max_tokens":5,"messages":[%s]}',
    "role": b'{"model":"m","max_tokens":5,"messages":[{"role":%s,"content":"Hi"}]}',
    "content": b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":%s}]}',
    "a block": b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":[%s]}]}',
    "an input": b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":'
    b'[{"type":"tool_use","id":"t","name":"f","input":{"a":%s}}]}]}',
    "a source": b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":[{"type":"image","source":%s}]}]}',
    "a tool": HEAD + b'"tools":[%s]}',
    "a schema": HEAD + b'"tools":[{"name":"f","defer_loading":true,"input_schema":{"a":%s}}]}',
    **{name: HEAD + b'"%b":%%s}' % name.encode() for name in FIELDS if name not in {"model", "messages", "max_tokens"}},
}
VALUES = [
    *(b"1e999999", b"9" * 5000, b"NaN", b"-0", b'"\\ud800"', b'"\xff"', b'"\\u0000"', b"", b"{", b"}", b'"', b"\\"),
    *(
        b"true",
        b"null",
        b'{"type":[]}',
        b'{"type":{}}',
        b'{"type":"text","text":{}}',
        b"[null]",
        b"[[]]",
        b'[{"type":1}]',
    ),
]


def read(body: bytes) -> MeteredRequest | InvalidRequest:
    """Read a body with both endpoints and both models. Returns the last outcome; any error but a 400 is raised."""
    outcome: MeteredRequest | InvalidRequest | None = None
    for reader in (read_count_request, read_messages_request):
        for model in (NO_BETAS, MODEL):
            models = {"m": model}
            try:
                outcome = reader(body, find_model=models.get, headers=HEADERS)
            except InvalidRequest as error:
                msgspec.json.encode((error.message, error.param))
                outcome = error
    assert outcome is not None
    return outcome


@pytest.mark.parametrize("place", PLACES)
def test_odd_values_anywhere_are_read_or_a_clear_error(place: str) -> None:
    for value in VALUES:
        read(PLACES[place].replace(b"%s", value))


@pytest.mark.parametrize("place", PLACES)
def test_json_nested_deeply_anywhere_is_a_clear_error(place: str) -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        for depth in (1, 100, 900, 990, 100_000):
            body = PLACES[place].replace(
                b"%s", opening * depth + (b"null" if opening != b"[" else b"") + closing * depth
            )
            outcome = read(body + b" " * (16 * depth))
            if depth == 100_000:
                assert isinstance(outcome, InvalidRequest)


KINDS = [
    *("m", "user", "assistant", "system", "text", "image", "document", "base64", "tool_use", "tool_result", "thinking"),
    *("tool_addition", "tool_reference", "search_result", "custom", "web_search_20250305", "bash_20250124", "auto"),
    *("adaptive", "updates", "clear_x", "json_schema", "computer_20250124", "\x00"),
]
KEYS = st.sampled_from(
    [*FIELDS, "role", "content", "type", "text", "name", "input", "source", "data", "tool_use_id", "id", "x", "edits",
     "input_schema", "thinking", "display", "tool", "effort", "format", "title", "ttl", "scope", "é"]
)  # fmt: skip
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from(KINDS)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=200, deadline=None)
@given(fields=st.dictionaries(KEYS, JSON, max_size=6), message=st.dictionaries(KEYS, JSON, max_size=4), block=JSON)
def test_any_json_is_a_request_or_an_invalid_request(
    fields: dict[str, Any], message: dict[str, Any], block: Any
) -> None:
    read(json.dumps(fields).encode())
    for content in ("x", [block]):
        body = fields | {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": content} | message]}
        outcome = read(json.dumps(body).encode())
        if isinstance(outcome, MeteredRequest):
            sent = json.loads(outcome.upstream_body)
            assert (sent["model"], sent["messages"]) == ("um", body["messages"])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([b"", b"{", b'{"model":', HEAD]), st.sampled_from([b"", b"}", b"}]}"]))
def test_any_bytes_are_a_request_or_an_invalid_request(middle: bytes, start: bytes, end: bytes) -> None:
    read(start + middle + end)
