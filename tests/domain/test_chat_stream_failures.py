"""A chat stream that fails is not charged, and its error is the one that a whole answer would get."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.chat_streams import (
    BYTES_MAX,
    DONE,
    HEAD,
    HELLO,
    RECEIPT,
    START,
    STOP,
    USAGE,
    ZEROS,
    body_of,
    chunk,
    events_of,
    openai_error,
    ours,
    read,
    reader,
    without_choices,
)
from tok0n.domain.errors import RejectedByUpstream, Tok0nError, UpstreamFailed

INPUT_ERRORS = [
    openai_error(type="invalid_request_error", code="context_length_exceeded"),
    openai_error(type="BadRequestError", code=400),
    openai_error(code="422"),
    {"object": "error", "message": "gpt-4o-2024-08-06 says secret", "type": "BadRequestError", "code": 400},
    [openai_error(code=400, status="INVALID_ARGUMENT")],
    chunk(end="error") | openai_error(code=400),
]
OPERATORS_ERRORS = [
    openai_error(type="rate_limit_error"),
    openai_error(code=429),
    openai_error(type="invalid_request_error", code="invalid_api_key"),
    openai_error(type="server_error", code=None),
    openai_error(type="insufficient_quota"),
    openai_error(code=503),
]
UNKNOWN_ERRORS: list[Any] = [
    {"error": "Something broke"},
    {"error": {}},
    {"error": False},
    HEAD | {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "error"}]},
    HEAD | {"object": "chat.completion"},
    7,
    "{",
    "\x00",
    HEAD | {"choices": None},
    HEAD | {"choices": [7]},
]


def failure(body: bytes, **options: Any) -> Tok0nError:
    stream, output = read(body, **options)
    error: Tok0nError | None = stream.failure
    assert error is not None
    assert not stream.is_complete
    assert stream.feed(body_of(HELLO, DONE)) + stream.end() == b""
    assert read(body, piece_bytes=1, **options)[1] == output
    assert str(read(body, piece_bytes=1, **options)[0].failure) == str(error)
    return error


@pytest.mark.parametrize("values", INPUT_ERRORS)
def test_an_input_error_before_content_is_the_customers(values: Any) -> None:
    for body in (body_of(START, values), json.dumps(values).encode()):
        error = failure(body)
        assert isinstance(error, RejectedByUpstream)
        assert error.message == "m says [redacted]"


@pytest.mark.parametrize("values", OPERATORS_ERRORS)
def test_another_error_before_content_is_a_502_that_may_be_retried(values: Any) -> None:
    for body in (body_of(START, values), json.dumps(values).encode()):
        error = failure(body)
        assert isinstance(error, UpstreamFailed)
        assert not error.outcome_unknown
        assert "says" not in error.message + error.detail


@pytest.mark.parametrize("values", UNKNOWN_ERRORS)
def test_an_error_without_a_code_has_an_unknown_outcome(values: Any) -> None:
    error = failure(body_of(START, values))
    assert isinstance(error, UpstreamFailed)
    assert error.outcome_unknown


@pytest.mark.parametrize("values", [*INPUT_ERRORS, *OPERATORS_ERRORS, *UNKNOWN_ERRORS])
def test_after_content_every_error_is_a_502_with_an_unknown_outcome(values: Any) -> None:
    stream, output = read(body_of(HELLO, values))
    assert events_of(output) == ours(HELLO)
    assert isinstance(stream.failure, UpstreamFailed)
    assert stream.failure.outcome_unknown


def test_the_log_says_what_came_instead_of_a_stream() -> None:
    for body in (b"<html>", body_of(7), json.dumps(chunk("x") | {"object": "chat.completion"}).encode()):
        error = failure(body)
        assert isinstance(error, UpstreamFailed)
        assert error.detail == "status 200 with a body or an event that is not what the endpoint sends"


def test_the_error_in_a_choice_decides() -> None:
    choice = {"index": 0, "delta": {}, "finish_reason": None, "error": {"code": 400, "message": "Too hot"}}
    error = failure(body_of(START, HEAD | {"choices": [choice]}))
    assert isinstance(error, RejectedByUpstream)
    assert error.message == "Too hot"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"Bad gateway",
        b'{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": {"total_tokens": 3}}',
        body_of(HELLO),
        body_of(HELLO, STOP),
        body_of(HELLO, STOP, DONE),
        body_of(HELLO, STOP | {"usage": ZEROS}, DONE),
        body_of(HELLO, without_choices(usage=USAGE)),
        body_of(HELLO, chunk("x" * BYTES_MAX)),
        b"x" * (BYTES_MAX + 1),
        b"{" * (BYTES_MAX + 2),
        b'data: {"choices": [], "a": "\xff"}\n\n' + body_of(HELLO, STOP | {"usage": USAGE}, DONE),
        b'event: \xff\ndata: {"choices": []}\n\n' + body_of(HELLO, STOP | {"usage": USAGE}, DONE),
        body_of(HELLO, "[" * 5_000),
    ],
)
def test_a_stream_that_cannot_be_charged(body: bytes) -> None:
    error = failure(body)
    assert isinstance(error, UpstreamFailed)
    assert error.outcome_unknown


def test_the_error_event_has_the_shape_of_the_endpoint() -> None:
    output = reader().render_failure(RejectedByUpstream("No", param="messages"), request_id="req_1")
    expected = {"message": "No", "type": "invalid_request_error", "param": "messages", "code": "invalid_request"}
    assert events_of(output) == [{"error": expected}]


VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, -1, 1.5, float("nan"), "", "a", "error", "stop", "\ud800", "m", 10**30]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["choices", "usage", "error", "index", "message", "code", "type", "\ud800"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
CHOICES = st.fixed_dictionaries({}, optional=dict.fromkeys(["delta", "finish_reason", "usage", "index"], VALUES))
CHUNKS = st.fixed_dictionaries(
    {"choices": st.lists(CHOICES)},
    optional={"model": VALUES, "usage": st.just(USAGE) | VALUES, "error": VALUES, "x_groq": VALUES},
)


@given(events=st.lists(CHUNKS | VALUES, max_size=4), junk=st.binary(max_size=20), includes_usage=st.booleans())
def test_no_bytes_of_an_upstream_break_the_reader(events: list[Any], junk: bytes, *, includes_usage: bool) -> None:
    stream, output = read(body_of(*map(json.dumps, events)) + junk, includes_usage=includes_usage)
    if stream.failure is not None:
        output += stream.render_failure(stream.failure, request_id="req_1")
    else:
        output += stream.render_completion(RECEIPT)
    assert output.endswith(b"\n\n")
