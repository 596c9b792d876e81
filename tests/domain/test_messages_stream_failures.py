"""A stream of a message that fails is not charged, and its error is the one that a whole answer would get."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.message_streams import (
    BYTES_MAX,
    DELTA,
    HELLO,
    PING,
    RECEIPT,
    START,
    STOP,
    ZEROS,
    anthropic_error,
    body_of,
    delta,
    ours,
    read,
    reader,
    text,
)
from tok0n.domain.errors import RejectedByUpstream, ServerStopped, Tok0nError, UpstreamFailed

INPUT_ERRORS: list[Any] = [
    anthropic_error("invalid_request_error"),
    {"error": {"message": "claude-um says secret", "code": 400}},
    {"type": "message_start", "error": {"message": "claude-um says secret", "type": "invalid_request_error"}},
]
OPERATORS_ERRORS: list[Any] = [
    anthropic_error("overloaded_error"),
    anthropic_error("api_error"),
    anthropic_error("authentication_error"),
    anthropic_error("permission_error"),
    anthropic_error("not_found_error"),
    anthropic_error("rate_limit_error"),
    anthropic_error("billing_error"),
]
UNKNOWN_ERRORS: list[Any] = [
    anthropic_error(None),
    {"type": "error"},
    {"type": "error", "error": None},
    {"type": "ping", "error": False},
    {"type": 7},
    {"id": "msg_1", "content": []},
    {"type": "message_start"},
    {"type": "message_start", "message": [7]},
    {"type": "é"},
    {"type": ""},
    {"type": "a\nb"},
    7,
    [],
    "{",
    "\x00",
    b'event: message_stop\ndata: {"type":"ping"}\n\n',
    b'event: error\ndata: {"type":"oops"}\n\n',
    b'event: message_delta\ndata: {"type":"content_block_delta"}\n\n',
]


def failure(body: bytes) -> Tok0nError:
    stream, output = read(body)
    error: Tok0nError | None = stream.failure
    assert error is not None
    assert not stream.is_complete
    assert stream.feed(body_of(HELLO, DELTA, STOP)) + stream.end() == b""
    again, output_again = read(body, piece_bytes=1)
    assert (output_again, str(again.failure)) == (output, str(error))
    return error


@pytest.mark.parametrize("values", INPUT_ERRORS)
def test_an_input_error_before_content_is_the_customers(values: Any) -> None:
    for body in (body_of(START, values), json.dumps(values).encode()):
        error = failure(body)
        assert isinstance(error, RejectedByUpstream)
        assert error.message == "m says [redacted]"


@pytest.mark.parametrize("values", OPERATORS_ERRORS)
def test_another_error_before_content_is_a_502_that_may_be_retried(values: Any) -> None:
    for body in (body_of(START, PING, values), json.dumps(values).encode()):
        error = failure(body)
        assert isinstance(error, UpstreamFailed)
        assert not error.outcome_unknown
        assert "says" not in error.message + error.detail


@pytest.mark.parametrize("values", UNKNOWN_ERRORS)
def test_an_event_that_is_not_of_this_endpoint_has_an_unknown_outcome(values: Any) -> None:
    error = failure(body_of(START, values))
    assert isinstance(error, UpstreamFailed)
    assert error.outcome_unknown


@pytest.mark.parametrize("values", [*INPUT_ERRORS, *OPERATORS_ERRORS, *UNKNOWN_ERRORS])
def test_after_content_every_error_is_a_502_with_an_unknown_outcome(values: Any) -> None:
    stream, output = read(body_of(START, HELLO, values))
    assert output == ours(START, HELLO)
    assert isinstance(stream.failure, UpstreamFailed)
    assert stream.failure.outcome_unknown


@pytest.mark.parametrize("values", [*INPUT_ERRORS, *OPERATORS_ERRORS, *UNKNOWN_ERRORS])
def test_after_a_complete_answer_no_error_changes_the_charge(values: Any) -> None:
    stream, output = read(body_of(START, HELLO, DELTA, values))
    assert output == ours(START, HELLO)
    assert (stream.failure, stream.has_ended, stream.usage.total_tokens) == (None, True, 12)
    assert stream.render_completion(RECEIPT) == ours(DELTA, STOP)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"Bad gateway",
        b'{"type":"message","content":[{"type":"text","text":"a"}],"usage":{"input_tokens":3,"output_tokens":3}}',
        body_of(START, HELLO),
        body_of(START, HELLO, delta()),
        body_of(START, HELLO, STOP),
        body_of(START, HELLO, delta(), STOP),
        body_of(START, HELLO, delta({}), STOP),
        body_of(START, HELLO, delta({"output_tokens": -1}), STOP),
        body_of({"type": "message_start", "message": {"usage": ZEROS}}, HELLO, delta(ZEROS), STOP),
        body_of(START, HELLO, delta({"output_tokens": 7}, None)),
        body_of(START, HELLO, "[DONE]"),
        body_of(START, HELLO, text("x" * BYTES_MAX)),
        b"x" * (BYTES_MAX + 1),
        b"{" * (BYTES_MAX + 2),
        b'data: {"type":"ping","a":"\xff"}\n\n' + body_of(START, HELLO, DELTA, STOP),
        b'event: \xff\ndata: {"type":"ping"}\n\n' + body_of(START, HELLO, DELTA, STOP),
        body_of(START, HELLO) + b'event: \xff\ndata: {"type":"ping"}\n\n' + body_of(DELTA, STOP),
        body_of(START, HELLO) + b'data: {"type":"ping","a":"\xff"}\n\n' + body_of(DELTA, STOP),
        body_of(START, HELLO, "[" * 5_000),
        body_of(START, HELLO, '{"type":"ping","a":' + "[" * 5_000),
    ],
)
def test_a_stream_that_cannot_be_charged(body: bytes) -> None:
    error = failure(body)
    assert isinstance(error, UpstreamFailed)
    assert error.outcome_unknown


def test_a_stream_that_fails_never_shows_its_end() -> None:
    for ending in ([delta(), STOP], [delta(), anthropic_error("api_error")], [STOP], [delta({"output_tokens": "7"})]):
        stream, output = read(body_of(START, HELLO, *ending))
        assert stream.failure is not None
        assert output == ours(START, HELLO)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (RejectedByUpstream("No", param="messages"), "invalid_request_error"),
        (UpstreamFailed("No", detail=""), "api_error"),
        (ServerStopped(), "api_error"),
    ],
)
def test_the_error_event_has_the_shape_of_the_endpoint(error: Tok0nError, kind: str) -> None:
    name, data = reader().render_failure(error, request_id="req_1").removesuffix(b"\n\n").split(b"\n")
    assert name == b"event: error"
    expected = {"type": "error", "error": {"type": kind, "message": error.message}, "request_id": "req_1"}
    assert json.loads(data.removeprefix(b"data: ")) == expected


VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, -1, 1.5, float("nan"), "", "a", "error", "end_turn", "\ud800", "m", 10**30]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["delta", "usage", "error", "index", "message", "code", "type", "model", "\ud800"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KINDS = st.sampled_from(
    ["message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop", "ping", "\ud800"]
)
FIGURES: st.SearchStrategy[Any] = st.sampled_from([None, 0, 1, -1, 2**53, True, "1", 1.0, []])
USAGES = st.dictionaries(st.sampled_from([*ZEROS, "output_tokens_details", "cache_creation"]), FIGURES | VALUES)
DELTAS = st.dictionaries(st.sampled_from(["stop_reason", "text", "type"]), VALUES)
EVENTS = st.fixed_dictionaries(
    {"type": KINDS},
    optional={
        "message": st.fixed_dictionaries({}, optional={"usage": USAGES | VALUES, "model": VALUES}) | VALUES,
        "usage": USAGES | VALUES,
        "delta": DELTAS | VALUES,
        "content_block": DELTAS | VALUES,
        "model": VALUES,
        "error": VALUES,
    },
)


@given(events=st.lists(EVENTS | VALUES, max_size=5), junk=st.binary(max_size=20), is_named=st.booleans())
def test_no_bytes_of_an_upstream_break_the_reader(events: list[Any], junk: bytes, *, is_named: bool) -> None:
    texts = (event if isinstance(event, dict) else json.dumps(event) for event in events)
    stream, output = read(body_of(*texts, is_named=is_named) + junk)
    if stream.failure is not None:
        assert not stream.is_complete
        output += stream.render_failure(stream.failure, request_id="req_1")
    else:
        assert stream.usage.total_tokens > 0
        output += stream.render_completion(RECEIPT)
    assert output.endswith(b"\n\n")
