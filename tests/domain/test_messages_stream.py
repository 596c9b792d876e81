"""A stream of a message is charged as its upstream reported, and the client gets its bytes, however they arrive."""

import json
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.message_streams import (
    BLOCK,
    BLOCK_STOP,
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
    start,
    text,
)
from tok0n.domain.answer_json import decode
from tok0n.domain.endpoints import messages_stream
from tok0n.domain.endpoints.messages import MESSAGES
from tok0n.domain.endpoints.messages_stream import KEEP_ALIVE, MESSAGE_STOP, MessagesStreamReader

TOOL = {
    "type": "content_block_start",
    "index": 1,
    "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
}
ARGUMENTS = {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": "{}"}}
THINKING = {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}}
SIGNATURE = {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}}
CACHED = {"input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 1}

# For each stream: its events, those relayed before the settlement, those after it, and the tokens charged.
STREAMS: dict[str, tuple[list[Any], list[Any], list[Any], int]] = {
    "Anthropic": (
        [START, BLOCK, PING, HELLO, BLOCK_STOP, DELTA, STOP],
        [START, BLOCK, PING, HELLO, BLOCK_STOP],
        [DELTA, STOP],
        12,
    ),
    "Anthropic, cached": (
        [start(CACHED), BLOCK, HELLO, BLOCK_STOP, delta(CACHED | {"output_tokens": 9}), STOP],
        [start(CACHED), BLOCK, HELLO, BLOCK_STOP],
        [delta(CACHED | {"output_tokens": 9}), STOP],
        132,
    ),
    "tool call after thinking": (
        [START, THINKING, SIGNATURE, TOOL, ARGUMENTS, delta({"output_tokens": 7}, "tool_use"), STOP],
        [START, THINKING, SIGNATURE, TOOL, ARGUMENTS],
        [delta({"output_tokens": 7}, "tool_use"), STOP],
        12,
    ),
    "no message_stop": ([START, HELLO, DELTA], [START, HELLO], [DELTA, STOP], 12),
    "usage only in the delta": (
        [start(ZEROS), HELLO, delta({"input_tokens": 8, "output_tokens": 4}), STOP],
        [start(ZEROS), HELLO],
        [delta({"input_tokens": 8, "output_tokens": 4}), STOP],
        12,
    ),
    "a delta with usage before the last": (
        [START, delta({"output_tokens": 3}, None), HELLO, DELTA, STOP],
        [START, delta({"output_tokens": 3}, None), HELLO],
        [DELTA, STOP],
        12,
    ),
    "usage in a delta of its own": (
        [START, HELLO, delta(), delta({"output_tokens": 7}, None)],
        [START, HELLO],
        [delta(), delta({"output_tokens": 7}, None), STOP],
        12,
    ),
    "a ping and an event between the ends": (
        [START, HELLO, DELTA, PING, {"type": "new_event"}, STOP],
        [START, HELLO, PING],
        [DELTA, {"type": "new_event"}, STOP],
        12,
    ),
    "no reason to stop": (
        [START, HELLO, delta({"output_tokens": 7}, None), STOP],
        [START, HELLO, delta({"output_tokens": 7}, None)],
        [STOP],
        12,
    ),
    "unknown events": (
        [START, {"type": "new_event", "x": 1}, HELLO, {"type": "new_event", "x": 2}, DELTA, STOP],
        [START, {"type": "new_event", "x": 1}, HELLO, {"type": "new_event", "x": 2}],
        [DELTA, STOP],
        12,
    ),
    "events after the end": ([START, HELLO, DELTA, STOP, {"error": "x"}, "{"], [START, HELLO], [DELTA, STOP], 12),
    "an error after a complete answer": (
        [START, HELLO, DELTA, anthropic_error("overloaded_error")],
        [START, HELLO],
        [DELTA, STOP],
        12,
    ),
    "[DONE] instead of message_stop": ([START, HELLO, DELTA, "[DONE]"], [START, HELLO], [DELTA, STOP], 12),
    "nothing said": ([START, delta({"output_tokens": 7}), STOP], [START], [DELTA, STOP], 12),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("piece_bytes", [1, 50, BYTES_MAX])
@pytest.mark.parametrize("is_named", [True, False])
def test_streams_of_upstreams(name: str, piece_bytes: int, *, is_named: bool) -> None:
    events, relayed, held, total = STREAMS[name]
    stream, output = read(body_of(*events, is_named=is_named), piece_bytes=piece_bytes)
    assert output == ours(*relayed)
    assert (stream.failure, stream.is_complete, stream.has_ended, stream.has_content) == (None, True, True, True)
    assert stream.usage is not None
    assert stream.usage.total_tokens == total
    assert stream.render_completion(RECEIPT) == ours(*held)


# For each stream: the usage of message_start, those of the message_deltas, and the charge: input and output.
USAGES: dict[str, tuple[Any, list[Any], tuple[int, int] | None]] = {
    "the delta has only output": ({"input_tokens": 5, "output_tokens": 1}, [{"output_tokens": 7}], (5, 7)),
    "the last delta counts": ({"input_tokens": 5}, [{"output_tokens": 7}, {"output_tokens": 9}], (5, 9)),
    "null doesn't replace a figure": (
        {"input_tokens": 5},
        [{"output_tokens": 7}, {"output_tokens": None, "input_tokens": 6}],
        (6, 7),
    ),
    "each field has its last figure": (
        {"input_tokens": 5, "cache_read_input_tokens": 100},
        [{"input_tokens": 6, "cache_read_input_tokens": None, "output_tokens": 7}],
        (106, 7),
    ),
    "a delta without input leaves that of the start": (CACHED, [ZEROS | {"output_tokens": 9}], (123, 9)),
    "a delta with input replaces zeros": (ZEROS, [CACHED], (123, 1)),
    "the caches move between the fields": (
        {"input_tokens": 100, "cache_read_input_tokens": 0},
        [{"input_tokens": 3, "cache_read_input_tokens": 97, "output_tokens": 7}],
        (100, 7),
    ),
    "zeros after a report": ({"input_tokens": 5}, [{"output_tokens": 7}, ZEROS], (5, 7)),
    "the start has no usage": (None, [{"input_tokens": 5, "output_tokens": 7}], (5, 7)),
    "the start has impossible usage": ({"input_tokens": -1}, [{"input_tokens": 5, "output_tokens": 7}], (5, 7)),
    "a delta with impossible usage after a report": (
        {"input_tokens": 5},
        [{"output_tokens": 7}, {"output_tokens": 2**60}],
        (5, 7),
    ),
    "only the start has usage": ({"input_tokens": 5, "output_tokens": 1}, [None], None),
    "an empty report": ({"input_tokens": 5, "output_tokens": 1}, [{}], None),
    "only zeros": (ZEROS, [ZEROS], None),
    "a figure that is no number": ({"input_tokens": 5}, [{"output_tokens": "7"}], None),
    "a figure that is a bool": ({"input_tokens": 5}, [{"output_tokens": True}], None),
    "a fraction": ({"input_tokens": 5}, [{"output_tokens": 7.0}], None),
    "a sum that is too large": ({"input_tokens": 2**53}, [{"output_tokens": 2**53}], None),
    "usage that is no object": ({"input_tokens": 5}, [[7]], None),
}


@pytest.mark.parametrize("name", USAGES)
def test_which_usage_counts(name: str) -> None:
    first, reports, charge = USAGES[name]
    opening = start() if first is None else start(first)
    if first is None:
        del opening["message"]["usage"]
    stream, _ = read(body_of(opening, HELLO, *(delta(usage) for usage in reports), STOP))
    assert stream.is_complete is (charge is not None)
    if charge is None:
        assert "without valid token usage" in stream.failure.message
    else:
        usage = stream.usage
        assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (*charge, sum(charge))


def test_the_breakdown_of_a_stream_never_adds_to_the_charge() -> None:
    details = {"output_tokens_details": {"thinking_tokens": 4}, "cache_creation": {"ephemeral_5m_input_tokens": 20}}
    stream, _ = read(body_of(start(CACHED), HELLO, delta(CACHED | details), STOP))
    assert stream.usage.total_tokens == 124
    assert stream.usage.details == {
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 100,
        "output_tokens_details.thinking_tokens": 4,
        "cache_creation.ephemeral_5m_input_tokens": 20,
    }


@pytest.mark.parametrize(
    ("event", "has_content"),
    [
        (START, False),
        (PING, False),
        (BLOCK, False),
        (BLOCK_STOP, False),
        (THINKING, False),
        (text(""), False),
        ({"type": "new_event"}, False),
        ({"type": "content_block_start", "content_block": 7}, False),
        ({"type": "content_block_delta", "delta": None}, False),
        (delta(), False),
        (HELLO, True),
        (TOOL, True),
        (ARGUMENTS, True),
        (SIGNATURE, True),
        ({"type": "content_block_start", "content_block": {"type": "text", "text": "Hi"}}, True),
        ({"type": "content_block_start", "content_block": {"type": "redacted_thinking", "data": ""}}, True),
        (DELTA, True),
    ],
)
def test_events_with_content_end_the_hold(event: dict[str, Any], *, has_content: bool) -> None:
    assert read(body_of(event), is_cut=True)[0].has_content is has_content


@pytest.mark.parametrize(
    ("sent", "relayed"),
    [
        (
            '{"type": "message_start",\t"message" : {"model" : "x", "é": 1.0}}',
            '{"type": "message_start",\t"message" : {"model" : "m", "é": 1.0}}',
        ),
        (
            r'{"type":"message_start","message":{"\u006dodel":"x","content":[{"model":"x"}]}}',
            r'{"type":"message_start","message":{"\u006dodel":"m","content":[{"model":"x"}]}}',
        ),
        (
            '{"type":"message_start","message":{"model":null,"p":NaN,"q":"\\ud800"}}',
            '{"type":"message_start","message":{"model":"m","p":NaN,"q":"\\ud800"}}',
        ),
        ('{"type":"message_start","message":{"id":"x"}}', '{"type":"message_start","message":{"id":"x"}}'),
        ('{"type":"ping","model":"x"}', '{"type":"ping","model":"m"}'),
        ('{"type":"ping", "a":1e999,"b":"model"}', '{"type":"ping", "a":1e999,"b":"model"}'),
    ],
)
def test_only_the_model_of_an_event_changes(sent: str, relayed: str) -> None:
    stream, output = read(body_of(sent), is_cut=True)
    assert stream.failure is None
    assert output.split(b"\n", 1)[1] == body_of(relayed)


def test_a_foreign_model_changes_after_content_too() -> None:
    events = [{"type": "new_event", "message": {"model": "claude-um"}}, {"type": "new_event", "model": "claude-um"}]
    stream, output = read(body_of(START, HELLO, *events), is_cut=True)
    assert stream.failure is None
    assert output == ours(START, HELLO, *events)


def test_names_and_lines_of_an_event_travel() -> None:
    body = b': hi\nevent: ping\nid: 7\nretry: 1\ndata: {"type":\ndata: "ping"}\n\n'
    assert read(body, is_cut=True)[1] == b'event: ping\ndata: {"type":\ndata: "ping"}\n\n'


def test_what_ends_a_message_waits_for_the_settlement() -> None:
    stream = reader()
    assert stream.feed(body_of(START, HELLO)) == ours(START, HELLO)
    assert stream.feed(body_of(DELTA)) == b""
    assert (stream.is_complete, stream.has_ended) == (True, False)
    assert stream.feed(body_of(STOP)) == b""
    assert stream.has_ended
    assert stream.render_completion(RECEIPT) == ours(DELTA, STOP)


def test_the_events_held_back_are_bounded() -> None:
    stream, output = read(body_of(START, HELLO, delta(), *[text("x" * 1_000)] * 20))
    assert output == ours(START, HELLO)
    assert "too many events" in stream.failure.detail
    stream, _ = read(body_of(START, HELLO, DELTA, *[text("x" * 1_000)] * 20))
    assert (stream.failure, stream.has_ended) == (None, True)
    assert len(stream.render_completion(RECEIPT)) <= BYTES_MAX + len(MESSAGE_STOP)


def test_a_silent_connection_gets_an_event_that_clients_see() -> None:
    assert reader().render_keep_alive() == KEEP_ALIVE
    assert KEEP_ALIVE.startswith(b"event: ping\n")
    assert json.loads(KEEP_ALIVE.split(b"data: ")[1]) == PING


def test_the_endpoint_makes_this_reader() -> None:
    assert MESSAGES.read_stream is MessagesStreamReader


EVENTS = st.sampled_from(
    [
        *(START, PING, BLOCK, HELLO, BLOCK_STOP, DELTA, STOP, TOOL, ARGUMENTS, "[DONE]", "{", "7"),
        *(delta(), delta(ZEROS), delta({"output_tokens": 3}, None), {"type": "new_event", "model": "x"}),
        *(anthropic_error("overloaded_error"), anthropic_error("invalid_request_error"), {"error": None, "type": "x"}),
        b'event: message_stop\ndata: {"type":"ping"}\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","type":"message_stop"}\n\n',
        r'{"type":"content_block_delta","delta":{"text":"\u00e9"}}',
        r'{"\u0074ype":"content_block_delta","\u0065rror":"x"}',
        b'data: {"type":"content_block_delta","delta":{"text":"\xff"}}\n\n',
        '{"type":"content_block_delta","a":NaN}',
        '{"type":"content_block_delta","error":null,"message":{"model":"x"}}',
    ]
)


def outcome(body: bytes, *, piece_bytes: int, is_cut: bool) -> Any:
    stream, output = read(body, piece_bytes=piece_bytes, is_cut=is_cut)
    state = (stream.has_content, stream.usage, stream.is_complete, stream.has_ended, repr(stream.failure))
    return output, state, stream.render_completion(RECEIPT) if stream.is_complete else b""


@given(
    events=st.lists(EVENTS, max_size=8),
    piece_bytes=st.integers(1, 300),
    is_named=st.booleans(),
    is_cut=st.booleans(),
)
def test_any_chunking_gives_the_same_output_and_state(
    events: list[Any], piece_bytes: int, *, is_named: bool, is_cut: bool
) -> None:
    body = body_of(*events, is_named=is_named)
    assert outcome(body, piece_bytes=piece_bytes, is_cut=is_cut) == outcome(body, piece_bytes=BYTES_MAX, is_cut=is_cut)


NAMES = ["type", "error", "message", "model", "delta", "usage", "text", "content_block"]
WORDS = ["content_block_delta", "message_stop", "message_delta", "error", "ping", "m", "é", "\ud800", ""]
LITERALS = st.sampled_from([None, True, 0, 1, float("nan"), 10**30, *WORDS])
VALUES = st.recursive(
    LITERALS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
)
MEMBERS = st.lists(st.tuples(st.sampled_from(NAMES), VALUES | st.sampled_from(WORDS)), max_size=4)


@given(members=MEMBERS, name=st.sampled_from([None, *WORDS[:5], "x"]), escape=st.booleans(), tail=st.binary(max_size=3))
def test_an_event_that_is_not_fully_decoded_means_the_same(
    members: list[tuple[str, Any]], name: str | None, tail: bytes, *, escape: bool
) -> None:
    """Members may repeat and their names may be escaped, so that only a real decoder knows what an event means."""
    pairs = [("type", "content_block_delta"), *members]
    keys = [
        f'"\\u{ord(key[0]):04x}{key[1:]}"' if escape and index % 2 else f'"{key}"'
        for index, (key, _) in enumerate(pairs)
    ]
    data = "{" + ",".join(f"{key}:{json.dumps(value)}" for key, (_, value) in zip(keys, pairs, strict=True)) + "}"
    line = b"" if name is None else f"event: {name}\n".encode("utf-8", "replace")
    event = line + b"data: " + data.encode() + tail.replace(b"\n", b"").replace(b"\r", b"") + b"\n\n"
    body = body_of(START, HELLO) + event + body_of(HELLO, DELTA)
    fast = outcome(body, piece_bytes=BYTES_MAX, is_cut=False)
    with mock.patch.object(messages_stream, "_decode_head", side_effect=UnicodeDecodeError("utf-8", b"", 0, 1, "")):
        assert outcome(body, piece_bytes=BYTES_MAX, is_cut=False) == fast


def test_words_travel_without_full_decoding() -> None:
    with mock.patch.object(messages_stream, "decode", wraps=decode) as full:
        read(body_of(START, BLOCK, *[text(f'word {number} \n é "error" message_stop') for number in range(50)], DELTA))
    assert full.call_count == 4
