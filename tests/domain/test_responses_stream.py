"""A stream of response events is charged as its upstream reported, and the client gets its bytes in any chunking."""

import json
from typing import Any

import msgspec
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
    IN_PROGRESS,
    INCOMPLETE,
    ITEM_ADDED,
    ITEM_DONE,
    PART_ADDED,
    USAGE,
    WORLD,
    body_of,
    delta,
    event,
    events_of,
    failed,
    ours,
    read,
    reader,
    response_event,
)
from tok0n.domain.endpoints import responses_stream
from tok0n.domain.endpoints.responses import RESPONSES
from tok0n.domain.endpoints.responses_stream import ResponsesStreamReader
from tok0n.domain.errors import UpstreamFailed
from tok0n.domain.usage import Usage

# For each stream: its events, those relayed before the settlement, and the event after it.
STREAMS: dict[str, tuple[list[Any], list[Any], Any]] = {
    "OpenAI": (
        [*BEGINNING, HELLO, WORLD, ITEM_DONE, COMPLETED],
        [*BEGINNING, HELLO, WORLD, ITEM_DONE],
        COMPLETED,
    ),
    "cut by its limit": ([CREATED, HELLO, INCOMPLETE], [CREATED, HELLO], INCOMPLETE),
    "only what Codex needs": ([ITEM_DONE, COMPLETED], [ITEM_DONE], COMPLETED),
    "only the end": ([COMPLETED], [], COMPLETED),
    "an empty answer": ([CREATED, COMPLETED], [CREATED], COMPLETED),
    "[DONE] after the end": ([CREATED, HELLO, COMPLETED, "[DONE]"], [CREATED, HELLO], COMPLETED),
    "anything after the end": ([HELLO, COMPLETED, failed(), HELLO, "{"], [HELLO], COMPLETED),
    "keep-alives and unknown events": (
        [
            CREATED,
            event("keepalive", 1),
            HELLO,
            event("response.new.thing", 2, a=[1]),
            event("keepalive", 3),
            COMPLETED,
        ],
        [CREATED, event("keepalive", 1), HELLO, event("response.new.thing", 2, a=[1]), event("keepalive", 3)],
        COMPLETED,
    ),
    "no status and no model": (
        [CREATED, HELLO, event("response.completed", 3, response={"usage": USAGE})],
        [CREATED, HELLO],
        event("response.completed", 3, response={"usage": USAGE}),
    ),
    "the public model": (
        [response_event("created", model="m"), HELLO, response_event("completed", 2, model="m", usage=USAGE)],
        [response_event("created", model="m"), HELLO],
        response_event("completed", 2, model="m", usage=USAGE),
    ),
    "null errors": (
        [CREATED, HELLO | {"error": None}, COMPLETED | {"error": None}],
        [CREATED, HELLO | {"error": None}],
        COMPLETED | {"error": None},
    ),
    "no sequence numbers": (
        [
            {"type": "response.output_text.delta", "delta": "x"},
            {"type": "response.completed", "response": {"usage": USAGE}},
        ],
        [{"type": "response.output_text.delta", "delta": "x"}],
        {"type": "response.completed", "response": {"usage": USAGE}},
    ),
}


def with_public_model(values: Any) -> Any:
    response = values["response"]
    return values | {"response": response | {"model": "m"}} if "model" in response else values


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("piece_bytes", [1, 50, BYTES_MAX])
@pytest.mark.parametrize("is_named", [True, False])
def test_streams_of_upstreams(name: str, piece_bytes: int, *, is_named: bool) -> None:
    events, relayed, end = STREAMS[name]
    stream, output = read(body_of(*events, is_named=is_named), piece_bytes=piece_bytes)
    assert events_of(output) == ours(*relayed)
    assert (stream.failure, stream.is_complete, stream.has_ended, stream.has_content) == (None, True, True, True)
    assert stream.usage is not None
    assert stream.usage.total_tokens == 12
    assert events_of(stream.render_completion(RECEIPT)) == [with_public_model(end)]


def test_the_usage_has_its_breakdowns() -> None:
    stream, _ = read(body_of(COMPLETED))
    assert stream.usage == Usage(
        prompt_tokens=5,
        completion_tokens=7,
        total_tokens=12,
        details={"input_tokens_details.cached_tokens": 2, "output_tokens_details.reasoning_tokens": 3},
    )


def test_the_end_waits_for_the_settlement_and_settles_at_once() -> None:
    stream = reader()
    assert events_of(stream.feed(body_of(CREATED, HELLO, COMPLETED))) == ours(CREATED, HELLO)
    assert (stream.is_complete, stream.has_ended) == (True, True)
    assert stream.feed(body_of(HELLO)) + stream.end() == b""


@pytest.mark.parametrize(
    ("sent", "relayed"),
    [
        (
            '{"response" : {"a":1.0, "model" :\t"x" } ,"type":"response.created"}',
            '{"response" : {"a":1.0, "model" :\t"m" } ,"type":"response.created"}',
        ),
        (
            '{"type":"response.created","item":{"model":"x"},"response":{"tools":[{"model":"x"}],"model":"x"}}',
            '{"type":"response.created","item":{"model":"x"},"response":{"tools":[{"model":"x"}],"model":"m"}}',
        ),
        (
            r'{"type":"response.created","r\u0065sponse":{"\u006dodel":"x","é":"\ud800","p":NaN}}',
            r'{"type":"response.created","r\u0065sponse":{"\u006dodel":"m","é":"\ud800","p":NaN}}',
        ),
        ('{"type":"response.created","response":null}', '{"type":"response.created","response":null}'),
        ('{"type":"response.created","response":[{}]}', '{"type":"response.created","response":[{}]}'),
        ('{"type":"response.created","response":{}}', '{"type":"response.created","response":{}}'),
        (
            '{"type":"response.created","response":{"model":null}}',
            '{"type":"response.created","response":{"model":"m"}}',
        ),
        ('{"type":"x","model":"x", "a":1e999}', '{"type":"x","model":"m", "a":1e999}'),
        ('{"type":"x","delta":"\\ud800 \\u00e9", "n":NaN}', '{"type":"x","delta":"\\ud800 \\u00e9", "n":NaN}'),
        ('{ "a" :1, "type":\t"x"}', '{ "a" :1, "type":\t"x"}'),
    ],
)
def test_all_other_bytes_of_an_event_stay(sent: str, relayed: str) -> None:
    stream, output = read(body_of(HELLO, sent), is_cut=True)
    assert stream.failure is None
    kind = json.loads(sent.replace("NaN", "0"))["type"]
    assert output == body_of(HELLO) + f"event: {kind}\ndata: {relayed}\n\n".encode()


def test_the_bytes_of_the_end_stay() -> None:
    text = '{ "type":"response.completed", "response":{"usage":%s,"model":"x", "p":NaN, "s":"\\ud800"} }'
    stream, _ = read(body_of(text % json.dumps(USAGE)))
    expected = text.replace('"x"', '"m"') % json.dumps(USAGE)
    assert stream.render_completion(RECEIPT) == f"event: response.completed\ndata: {expected}\n\n".encode()


def test_comments_and_other_fields_of_an_event_do_not_travel_and_its_lines_do() -> None:
    body = b': ping\nid: 7\nretry: 1\nevent: x\ndata: {"type":\ndata: "x"}\n\ndata:\n\n'
    assert read(body, is_cut=True)[1] == b'event: x\ndata: {"type":\ndata: "x"}\n\n'


@pytest.mark.parametrize(
    ("values", "has_content"),
    [
        (CREATED, False),
        (response_event("queued"), False),
        (IN_PROGRESS, False),
        (ITEM_ADDED, False),
        (PART_ADDED, False),
        (event("response.reasoning_summary_part.added"), False),
        (event("keepalive"), False),
        (event("ping"), False),
        (delta(""), False),
        (HELLO, True),
        (ITEM_DONE, True),
        (event("response.reasoning_summary_text.delta", delta="Hm"), True),
        (event("response.function_call_arguments.delta", delta="{"), True),
        (event("response.custom_tool_call_input.delta", delta="*"), True),
        (event("response.refusal.delta", delta="No"), True),
        (COMPLETED, True),
        (INCOMPLETE, True),
    ],
)
def test_events_with_content_end_the_hold(values: dict[str, Any], *, has_content: bool) -> None:
    assert read(body_of(values), is_cut=True)[0].has_content is has_content


def test_a_keep_alive_is_an_event_once_the_client_knows_the_response() -> None:
    stream = reader()
    assert stream.render_keep_alive() == b": keep-alive\n"
    stream.feed(body_of(CREATED, IN_PROGRESS))
    assert events_of(stream.render_keep_alive()) == [{"type": "keepalive", "sequence_number": 1}]
    stream.feed(body_of(HELLO))
    assert events_of(stream.render_keep_alive()) == [{"type": "keepalive", "sequence_number": 4}]


def test_the_events_are_counted() -> None:
    stream = reader()
    for count, piece in enumerate((b": ping\n\n", body_of(CREATED), body_of(HELLO)[:20], body_of(HELLO)[20:])):
        stream.feed(piece)
        assert stream.events_read == [0, 1, 1, 2][count]


NAMES = ["type", "response", "error", "model", "delta", "sequence_number", "item", "r\u0065sponse", "\ud800"]
KINDS = [
    "response.output_text.delta", "response.created", "response.completed", "response.incomplete", "response.failed",
    "response.cancelled", "error", "x", "a\nb", "é", "", " x", "response.in_progress",
]  # fmt: skip
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, -1, 1.5, float("nan"), 10**30, "", "a", "error", "\ud800", "response", "model"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS) | VALUES},
    optional={name: VALUES for name in NAMES if name != "type"} | {"response": st.just(COMPLETED["response"]) | VALUES},
)
DATA = st.one_of(
    EVENTS.map(lambda values: json.dumps(values).encode()),
    EVENTS.map(lambda values: json.dumps(values, ensure_ascii=False).encode(errors="surrogatepass")),
    EVENTS.map(lambda values: json.dumps(values).replace('"', "\\u0022", 1).encode()),
    st.builds(
        lambda first, second: json.dumps(first)[:-1].encode() + b"," + json.dumps(second)[1:].encode(), EVENTS, EVENTS
    ),
    st.builds(
        lambda values, at, junk: (
            (text := json.dumps(values).encode())[: at % len(text)] + junk + text[at % len(text) :]
        ),
        EVENTS,
        st.integers(0, 500),
        st.binary(max_size=3).filter(lambda junk: b"\n" not in junk and b"\r" not in junk),
    ),
    st.sampled_from(
        [b"[" * 5_000, b'{"type":"x","a":' + b"[" * 5_000 + b"]" * 5_000 + b"}", b'{"type":"x","a":"\x01"}']
    ),
)


@given(data=st.lists(DATA, min_size=1, max_size=4), name=st.sampled_from([b"", b"event: x\n", b"event: error\n"]))
def test_what_is_not_decoded_in_full_means_what_it_would_mean_if_it_were(data: list[bytes], name: bytes) -> None:
    body = body_of(CREATED, HELLO) + b"".join(name + b"data: " + text + b"\n\n" for text in data)

    def outcome() -> Any:
        stream, output = read(body)
        rendered = (
            stream.render_completion(RECEIPT),
            stream.render_failure(UpstreamFailed("x", detail=""), request_id="r"),
        )
        return output, stream.usage, stream.is_complete, repr(stream.failure), rendered

    expected = outcome()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(responses_stream, "_decode_head", decode_nothing)
        assert outcome() == expected


def decode_nothing(data: bytes) -> Any:
    raise msgspec.DecodeError


def test_an_ordinary_event_is_not_decoded_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = reader()
    stream.feed(body_of(CREATED, HELLO))

    def fail(data: bytes) -> Any:
        raise AssertionError(data)

    monkeypatch.setattr(responses_stream, "decode", fail)
    assert stream.feed(body_of(WORLD, ITEM_DONE)) == body_of(WORLD, ITEM_DONE)


ALL = st.sampled_from(
    [*BEGINNING, HELLO, WORLD, ITEM_DONE, COMPLETED, INCOMPLETE, "[DONE]", "{", failed(code="server_error"),
     event("error", message="x", code="rate_limit_exceeded"), response_event("completed", usage=None)]
)  # fmt: skip


@given(events=st.lists(ALL, max_size=8), piece_bytes=st.integers(1, 700), is_cut=st.booleans(), is_named=st.booleans())
def test_any_chunking_gives_the_same_output_and_state(
    events: list[Any], piece_bytes: int, *, is_cut: bool, is_named: bool
) -> None:
    def outcome(size: int) -> Any:
        stream, output = read(body_of(*events, is_named=is_named), piece_bytes=size, is_cut=is_cut)
        state = (stream.has_content, stream.usage, stream.is_complete, stream.has_ended, repr(stream.failure))
        return output, state, stream.events_read if stream.failure is None else 0, stream.render_completion(RECEIPT)

    whole, pieces = outcome(10 * BYTES_MAX), outcome(piece_bytes)
    assert pieces[:2] + pieces[3:] == whole[:2] + whole[3:]


def test_the_endpoint_makes_this_reader() -> None:
    assert RESPONSES.read_stream is ResponsesStreamReader
    assert not RESPONSES.has_stream_options
