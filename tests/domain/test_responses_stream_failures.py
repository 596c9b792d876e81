"""A stream of response events that fails is not charged, and the client gets `response.failed` or a status."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.chat_streams import RECEIPT
from support.response_streams import (
    BEGINNING,
    BYTES_MAX,
    COMPLETED,
    CREATED,
    HELLO,
    ITEM_DONE,
    RESPONSE,
    THEIR_MODEL,
    USAGE,
    body_of,
    event,
    events_of,
    failed,
    ours,
    read,
    reader,
    response_event,
)
from tok0n.domain.errors import AccountingFailed, RejectedByUpstream, ServerStopped, Tok0nError, UpstreamFailed
from tok0n.domain.ids import request_id

WORDS = f"{THEIR_MODEL} says secret"
REQUEST_ID = request_id(1_700_000_000_000_000, bytes(10))
INPUT_ERRORS: list[Any] = [
    failed(code="invalid_prompt"),
    failed(code="context_length_exceeded"),
    failed(code="invalid_image_format"),
    event("error", message=WORDS, code="invalid_prompt", param=None),
    event("error", error={"type": "invalid_request_error", "message": WORDS}),
    {"error": {"type": "invalid_request_error", "code": None, "message": WORDS}},
    event("response.output_text.delta", delta="x", error={"code": 400, "message": WORDS}),
    response_event("completed", error={"code": "invalid_prompt", "message": WORDS}, usage=USAGE),
]
OPERATORS_ERRORS: list[Any] = [
    failed(code="server_error"),
    failed(code="rate_limit_exceeded"),
    failed(code="insufficient_quota"),
    event("error", message=WORDS, code="server_error"),
    event("error", message=WORDS, code="rate_limit_exceeded"),
    {"error": {"type": "invalid_request_error", "code": "invalid_api_key", "message": WORDS}},
]
UNKNOWN_ERRORS: list[Any] = [
    failed(),
    response_event("failed", error=None),
    event("response.failed"),
    event("response.failed", response=None),
    response_event("cancelled", error=None),
    event("error"),
    event("error", message="Something broke"),
    {"error": "Something broke"},
    {"error": {}},
    {"type": 7},
    {"object": "chat.completion.chunk", "choices": []},
    event("a\nevent: response.completed"),
    7,
    [],
    "{",
    "[DONE]",
    "\x00",
]
FRUITLESS_ENDS: list[Any] = [
    response_event("completed", usage=None),
    response_event("completed", usage=USAGE | {"total_tokens": 11}),
    response_event("completed", usage={"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}),
    response_event("incomplete", usage=USAGE | {"total_tokens": 0}),
    response_event("completed", status="failed", usage=USAGE),
    response_event("completed", status="cancelled", usage=USAGE),
    response_event("incomplete", status="in_progress", usage=USAGE),
    response_event("completed", status={}, usage=USAGE),
    event("response.completed"),
    event("response.completed", response=[]),
]


def body_from(*events: Any) -> bytes:
    """Return a body whose values may be anything."""
    return body_of(*(values if isinstance(values, str | dict) else json.dumps(values) for values in events))


def failure(body: bytes) -> Tok0nError:
    stream, output = read(body)
    error = stream.failure
    assert error is not None
    assert not stream.is_complete
    assert stream.render_completion(RECEIPT) == b""
    assert stream.feed(body_of(HELLO, COMPLETED)) + stream.end() == b""
    assert read(body, piece_bytes=1)[1] == output
    assert str(read(body, piece_bytes=1)[0].failure) == str(error)
    return error


@pytest.mark.parametrize("values", INPUT_ERRORS)
def test_an_input_error_before_content_is_the_customers(values: Any) -> None:
    for body in (body_from(*BEGINNING, values), json.dumps(values.get("response", values)).encode()):
        error = failure(body)
        assert isinstance(error, RejectedByUpstream)
        assert error.message == "m says [redacted]"


@pytest.mark.parametrize("values", OPERATORS_ERRORS)
def test_another_error_before_content_is_a_502_that_may_be_retried(values: Any) -> None:
    for body in (body_from(*BEGINNING, values), json.dumps(values.get("response", values)).encode()):
        error = failure(body)
        assert isinstance(error, UpstreamFailed)
        assert not error.outcome_unknown
        assert "says" not in error.message + error.detail


@pytest.mark.parametrize("values", [*UNKNOWN_ERRORS, *FRUITLESS_ENDS])
def test_an_error_without_a_code_has_an_unknown_outcome(values: Any) -> None:
    error = failure(body_from(CREATED, values))
    assert isinstance(error, UpstreamFailed)
    assert error.outcome_unknown


@pytest.mark.parametrize("values", [*INPUT_ERRORS, *OPERATORS_ERRORS, *UNKNOWN_ERRORS, *FRUITLESS_ENDS])
def test_after_content_every_error_is_a_502_and_the_client_gets_response_failed(values: Any) -> None:
    stream, output = read(body_from(CREATED, HELLO, values))
    assert events_of(output) == ours(CREATED, HELLO)
    assert isinstance(stream.failure, UpstreamFailed)
    assert stream.failure.outcome_unknown
    [last] = events_of(stream.render_failure(stream.failure, request_id=REQUEST_ID))
    assert (last["type"], last["response"]["status"], last["response"]["model"]) == ("response.failed", "failed", "m")
    assert set(last["response"]["error"]) == {"code", "message"}
    assert THEIR_MODEL not in json.dumps(last)
    assert "secret" not in json.dumps(last)


@pytest.mark.parametrize("name", [b"error", b"response.completed", b"response.failed"])
def test_a_name_that_contradicts_the_type_is_no_event_of_the_endpoint(name: bytes) -> None:
    body = body_of(CREATED, HELLO) + b"event: %b\ndata: %b\n\n" % (name, json.dumps(HELLO).encode())
    stream, output = read(body)
    assert events_of(output) == ours(CREATED, HELLO)
    assert isinstance(stream.failure, UpstreamFailed)


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("invalid_prompt", WORDS, {"code": "invalid_prompt", "message": "m says [redacted]"}),
        ("context_length_exceeded", "Too long.", {"code": "context_length_exceeded", "message": "Too long."}),
        ("Bad code!", "Too long.", {"code": "upstream_error", "message": "Too long."}),
        (7, "Too long.", {"code": "upstream_error", "message": "Too long."}),
        (
            "invalid_prompt",
            None,
            {"code": "upstream_error", "message": "The upstream provider failed. You were not charged."},
        ),
        (
            "insufficient_quota",
            WORDS,
            {
                "code": "upstream_error",
                "message": "The upstream provider is limiting the gateway's request rate. You were not charged.",
            },
        ),
        (
            "server_error",
            WORDS,
            {"code": "upstream_error", "message": "The upstream provider failed. You were not charged."},
        ),
    ],
)
def test_the_upstreams_failed_response_travels_with_scrubbed_words(code: Any, message: Any, expected: Any) -> None:
    upstreams = failed(code=code, message=message, param="x")
    stream, _ = read(body_of(CREATED, HELLO, upstreams))
    assert stream.failure is not None
    [last] = events_of(stream.render_failure(stream.failure, request_id=REQUEST_ID))
    assert last == upstreams | {"response": upstreams["response"] | {"model": "m", "error": expected}}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"Bad gateway",
        json.dumps(RESPONSE | {"status": "completed", "usage": USAGE}).encode(),
        body_of(HELLO),
        body_of(CREATED, HELLO, ITEM_DONE),
        body_of(HELLO, event("x", a="x" * BYTES_MAX)),
        b"x" * (BYTES_MAX + 1),
        b"{" * (BYTES_MAX + 2),
        b'data: {"type": "x", "a": "\xff"}\n\n' + body_of(HELLO, COMPLETED),
        body_of(HELLO) + b'data: {"type": "x", "a": "\xff"}\n\n' + body_of(COMPLETED),
        b'event: \xff\ndata: {"type": "x"}\n\n' + body_of(HELLO, COMPLETED),
        body_of(HELLO) + b'event: \xff\ndata: {"type": "x"}\n\n' + body_of(COMPLETED),
        body_of(HELLO, "[" * 5_000),
    ],
)
def test_a_stream_that_cannot_be_charged(body: bytes) -> None:
    error = failure(body)
    assert isinstance(error, UpstreamFailed)
    assert error.outcome_unknown


ERRORS: list[Tok0nError] = [
    ServerStopped(),
    AccountingFailed(upstream_called=True, detail="x"),
    UpstreamFailed("The upstream provider timed out.", detail="x"),
    RejectedByUpstream("No"),
]
CODES = ["api_error", "api_error", "upstream_error", "invalid_prompt"]


@pytest.mark.parametrize(("error", "code"), list(zip(ERRORS, CODES, strict=True)))
def test_our_failure_continues_the_response_that_the_client_knows(error: Tok0nError, code: str) -> None:
    stream, _ = read(body_of(CREATED, HELLO), is_cut=True)
    [last] = events_of(stream.render_failure(error, request_id=REQUEST_ID))
    assert last == {
        "type": "response.failed",
        "sequence_number": 5,
        "response": RESPONSE
        | {"model": "m", "status": "failed", "usage": None, "error": {"code": code, "message": error.message}},
    }


def test_a_failed_settlement_takes_the_number_of_the_end_that_was_held() -> None:
    stream, _ = read(body_of(CREATED, HELLO | {"sequence_number": 6}, COMPLETED))
    [last] = events_of(stream.render_failure(ERRORS[1], request_id=REQUEST_ID))
    assert (last["sequence_number"], last["response"]["id"]) == (COMPLETED["sequence_number"], "resp_1")


def test_without_a_known_response_the_failure_has_one_of_ours() -> None:
    [last] = events_of(reader().render_failure(ERRORS[2], request_id=REQUEST_ID))
    assert last == {
        "type": "response.failed",
        "sequence_number": 0,
        "response": {
            "id": "resp_" + REQUEST_ID.removeprefix("req_"),
            "object": "response",
            "created_at": 1_700_000_000,
            "model": "m",
            "output": [],
            "status": "failed",
            "error": {"code": "upstream_error", "message": "The upstream provider timed out. You were not charged."},
            "usage": None,
        },
    }


def test_long_members_of_a_response_are_not_kept_for_a_failure() -> None:
    tools = [{"type": "function", "name": "f" * 2_000}]
    created = response_event("created", instructions="x" * 5_000, tools=tools, metadata={"a": "b" * 1_000})
    stream, _ = read(body_of(created), is_cut=True)
    output = stream.render_failure(ERRORS[0], request_id=REQUEST_ID)
    [last] = events_of(output)
    assert (last["response"]["instructions"], last["response"]["tools"]) == (None, [])
    assert last["response"]["metadata"] == {"a": "b" * 1_000}


VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, -1, 1.5, float("nan"), "", "a", "error", "\ud800", "m", 10**30]),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["response", "usage", "error", "status", "message", "code", "type", "model", "\ud800"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KINDS = ["response.created", "response.completed", "response.failed", "response.incomplete", "error", "x", "\ud800"]
RESPONSES = st.dictionaries(st.sampled_from([*RESPONSE, "x"]), VALUES | st.just(USAGE), max_size=5)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS)},
    optional={"response": RESPONSES | VALUES, "error": VALUES, "sequence_number": VALUES, "delta": VALUES},
)


@given(events=st.lists(EVENTS | VALUES, max_size=4), junk=st.binary(max_size=20), is_begun=st.booleans())
def test_no_bytes_of_an_upstream_break_the_reader(events: list[Any], junk: bytes, *, is_begun: bool) -> None:
    body = body_of(CREATED, HELLO) * is_begun
    stream, output = read(body + body_of(*map(json.dumps, events)) + junk)
    assert (stream.failure is None) is stream.is_complete
    output += stream.render_keep_alive() + b"\n"
    output += stream.render_completion(RECEIPT)
    output += stream.render_failure(stream.failure or ERRORS[0], request_id=REQUEST_ID)
    assert output.endswith(b"\n\n")
