"""A chat stream is charged as its upstream reported, and the client gets its bytes, however they arrive."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.chat_streams import (
    BYTES_MAX,
    DONE,
    FILTERED,
    HEAD,
    HELLO,
    RECEIPT,
    START,
    STOP,
    TOOL,
    USAGE,
    ZEROS,
    body_of,
    chunk,
    events_of,
    final,
    openai_error,
    ours,
    read,
    without_choices,
)
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.endpoints.chat_stream import ChatStreamReader

# For each upstream: its events, those relayed to a customer who did not ask for usage, and the tokens charged.
STREAMS: dict[str, tuple[list[Any], list[Any], int]] = {
    "OpenAI": (
        [START | {"usage": None}, HELLO | {"usage": None}, STOP | {"usage": None}, without_choices(usage=USAGE), DONE],
        [START | {"usage": None}, HELLO | {"usage": None}, STOP | {"usage": None}],
        12,
    ),
    "Mistral and DeepSeek": ([START, HELLO, STOP | {"usage": USAGE}, DONE], [START, HELLO, STOP], 12),
    "Groq": (
        [START | {"x_groq": {"id": "r"}}, HELLO, STOP | {"x_groq": {"id": "r", "usage": USAGE}}, DONE],
        [START | {"x_groq": {"id": "r"}}, HELLO, STOP | {"x_groq": {"id": "r", "usage": USAGE}}],
        12,
    ),
    "Gemini, all output was reasoning": (
        [chunk({"role": "assistant"}, end="length", usage={"prompt_tokens": 5, "total_tokens": 12}), DONE],
        [chunk({"role": "assistant"}, end="length")],
        12,
    ),
    "xAI, reasoning only in the total": (
        [HELLO | {"usage": USAGE | {"total_tokens": 12}}, STOP | {"usage": USAGE | {"total_tokens": 80}}, DONE],
        [HELLO, STOP],
        80,
    ),
    "vLLM, continuous usage": (
        [
            START | {"usage": {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}},
            HELLO | {"usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}},
            STOP | {"usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}},
            without_choices(usage=USAGE),
            DONE,
        ],
        [START, HELLO, STOP],
        12,
    ),
    "Azure": (
        [FILTERED, START, HELLO, STOP, without_choices(usage=USAGE), DONE],
        [FILTERED, START, HELLO, STOP],
        12,
    ),
    "usage in a choice": (
        [HELLO, HEAD | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}, DONE],
        [HELLO, HEAD | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop", "usage": USAGE}]}],
        12,
    ),
    "usage twice": (
        [HELLO, STOP | {"usage": USAGE | {"total_tokens": 99}}, without_choices(usage=USAGE), DONE],
        [HELLO, STOP],
        12,
    ),
    "zeros after a report": ([HELLO, STOP | {"usage": USAGE}, without_choices(usage=ZEROS), DONE], [HELLO, STOP], 12),
    "zeros beside a report": (
        [HELLO, STOP | {"usage": ZEROS, "x_groq": {"usage": USAGE}}, DONE],
        [HELLO, STOP | {"x_groq": {"usage": USAGE}}],
        12,
    ),
    "no [DONE]": ([HELLO, STOP, without_choices(usage=USAGE)], [HELLO, STOP], 12),
    "no finish reason": ([HELLO, without_choices(usage=USAGE), DONE], [HELLO], 12),
    "events after [DONE]": ([HELLO, STOP | {"usage": USAGE}, DONE, {"error": "x"}, "{"], [HELLO, STOP], 12),
    "an error after a complete answer": ([HELLO, STOP | {"usage": USAGE}, {"error": {"code": 500}}], [HELLO, STOP], 12),
    "tool calls": (
        [START, TOOL, chunk(end="tool_calls", usage=USAGE), DONE],
        [START, TOOL, chunk(end="tool_calls")],
        12,
    ),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("piece_bytes", [1, 50, BYTES_MAX])
def test_streams_of_upstreams(name: str, piece_bytes: int) -> None:
    events, relayed, total = STREAMS[name]
    stream, output = read(body_of(*events), piece_bytes=piece_bytes)
    assert events_of(output) == ours(*relayed)
    assert (stream.failure, stream.is_complete, stream.has_ended, stream.has_content) == (None, True, True, True)
    assert stream.usage is not None
    assert stream.usage.total_tokens == total
    assert stream.render_completion(RECEIPT) == b"data: [DONE]\n\n"


@pytest.mark.parametrize("name", STREAMS)
def test_a_customer_who_asks_for_usage_gets_it_once_at_the_end(name: str) -> None:
    events, relayed, total = STREAMS[name]
    stream, output = read(body_of(*events), includes_usage=True)
    for event, expected in zip(events_of(output), relayed, strict=True):
        assert event.pop("usage", None) is None
        assert event == ours({key: value for key, value in expected.items() if key != "usage"})[0]
    *_, last, done = events_of(output + stream.render_completion(RECEIPT))
    assert done == DONE
    assert last["choices"] == []
    assert last["model"] == "m"
    assert last["usage"]["total_tokens"] == total
    assert last["usage"]["tok0n"] == {"reserved": 50, "charged": 12, "available": 93}


def test_the_upstreams_own_chunk_with_the_usage_is_kept() -> None:
    chunks = [
        HELLO,
        STOP,
        without_choices(usage=USAGE | {"cost": float("nan")}, note="\ud800", service_tier="flex"),
        DONE,
    ]
    stream, _ = read(body_of(*chunks), includes_usage=True)
    text = stream.render_completion(RECEIPT).decode()
    assert '"note":"\\ud800"' in text
    assert '"cost":NaN' in text
    assert '"service_tier":"flex"' in text


def test_without_such_a_chunk_ours_has_the_members_of_the_chunk_with_the_usage() -> None:
    stream, _ = read(body_of(HELLO, STOP | {"usage": USAGE, "obfuscation": "x"}), includes_usage=True)
    assert events_of(stream.render_completion(RECEIPT)) == final()


@pytest.mark.parametrize(
    ("sent", "relayed", "includes_usage"),
    [
        ('{"model" : "x",\t"choices":[ {} ], "a": 1.0}', '{"model" : "m",\t"choices":[ {} ], "a": 1.0}', False),
        ('{"choices":[{"model":"x"}],"model":"x"}', '{"choices":[{"model":"x"}],"model":"m"}', False),
        (r'{"\u006dodel":"x","choices":[{"model":"x"}]}', r'{"\u006dodel":"m","choices":[{"model":"x"}]}', False),
        ('{"choices":[{"model":"x"}]}', '{"choices":[{"model":"x"}]}', False),
        (
            '{"model":null,"choices":[],"é":"\\ud800","p":NaN}',
            '{"model":"m","choices":[],"é":"\\ud800","p":NaN}',
            False,
        ),
        ('{"é":NaN,"model":"x","choices":[{}]}', '{"é":NaN,"model":"m","choices":[{}]}', False),
        ('{"usage":{"a":1}, "choices":[{}]}', '{ "choices":[{}]}', False),
        ('{"choices":[{}] , "usage" : {"a":1}}', '{"choices":[{}] }', False),
        ('{"choices":[{}],"usage":{"a":1},"b":2}', '{"choices":[{}],"usage":null,"b":2}', True),
        ('{"choices":[{"usage":1}],"usage":NaN}', '{"choices":[{"usage":1}]}', False),
        ('{"choices":[{}],"usage":null}', '{"choices":[{}],"usage":null}', False),
        ('{"choices":[],"usage":null}', '{"choices":[],"usage":null}', False),
        ('{"choices":[],"usage":{"a":1}}', None, True),
        ('{"choices":[],"a":1e999,"b":1' + "0" * 30 + "}", '{"choices":[],"a":1e999,"b":1' + "0" * 30 + "}", False),
    ],
)
def test_all_other_bytes_of_an_event_stay(sent: str, relayed: str | None, *, includes_usage: bool) -> None:
    stream, output = read(body_of(sent), is_cut=True, includes_usage=includes_usage)
    assert stream.failure is None
    assert output == (b"" if relayed is None else body_of(relayed))


def test_names_and_lines_of_an_event_travel() -> None:
    body = b': ping\nevent: x\nid: 7\ndata: {"choices":\ndata: []}\n\n'
    assert read(body, is_cut=True)[1] == b'event: x\ndata: {"choices":\ndata: []}\n\n'


@pytest.mark.parametrize(
    ("event", "has_content"),
    [
        (START, False),
        (chunk({"role": "assistant", "content": None, "tool_calls": [], "reasoning_content": ""}), False),
        (without_choices(), False),
        (without_choices(usage=USAGE), False),
        (HELLO, True),
        (TOOL, True),
        (STOP, True),
        (chunk({"reasoning_content": "Hm"}), True),
        (chunk({"refusal": "No"}), True),
    ],
)
def test_events_with_content_end_the_hold(event: dict[str, Any], *, has_content: bool) -> None:
    assert read(body_of(event), is_cut=True)[0].has_content is has_content


@pytest.mark.parametrize(
    ("events", "is_complete"),
    [
        ([chunk("a", index=0, end="stop"), chunk("b", index=1, end="length", usage=USAGE)], True),
        ([chunk("a", index=0, end="stop"), chunk("b", index=1, end="stop"), without_choices(usage=USAGE)], True),
        ([chunk("a", index=0, end="stop", usage=USAGE), chunk("b", index=1, end="stop")], False),
        ([chunk("a", index=0, end="stop"), chunk("b", index=0, end="stop", usage=USAGE)], False),
        ([chunk("a", index=0, end="stop"), without_choices(usage=USAGE)], False),
        ([chunk("a", index=0), chunk("b", index=1), without_choices(usage=USAGE), DONE], True),
    ],
)
def test_every_choice_must_end_and_the_report_come_with_the_last_or_later(
    events: list[Any], *, is_complete: bool
) -> None:
    stream, _ = read(body_of(*events), n=2, is_cut=True)
    assert stream.is_complete is is_complete
    assert stream.end() == b""
    assert (stream.failure is None) is is_complete


def test_a_deeply_nested_chunk_does_not_break_the_end() -> None:
    nested = "[" * 500 + "]" * 500
    usage = json.dumps(USAGE)
    stream, _ = read(body_of(STOP, f'{{"choices":[],"usage":{usage},"a":{nested}}}', DONE), includes_usage=True)
    assert nested.encode() in stream.render_completion(RECEIPT)


EVENTS = st.sampled_from(
    [
        *(START, HELLO, STOP, TOOL, DONE, FILTERED, "{", openai_error(code=429), openai_error(code=400)),
        *(HELLO | {"usage": USAGE}, STOP | {"usage": ZEROS}, HELLO | {"x_groq": {"usage": USAGE}}),
        without_choices(usage=USAGE),
    ]
)


@given(
    events=st.lists(EVENTS, max_size=8),
    piece_bytes=st.integers(1, 300),
    includes_usage=st.booleans(),
    is_cut=st.booleans(),
)
def test_any_chunking_gives_the_same_output_and_state(
    events: list[Any], piece_bytes: int, *, includes_usage: bool, is_cut: bool
) -> None:
    def outcome(size: int) -> Any:
        stream, output = read(body_of(*events), piece_bytes=size, includes_usage=includes_usage, is_cut=is_cut)
        state = (stream.has_content, stream.usage, stream.is_complete, stream.has_ended, repr(stream.failure))
        return output, state, stream.render_completion(RECEIPT) if stream.is_complete else b""

    assert outcome(piece_bytes) == outcome(BYTES_MAX)


def test_the_endpoint_makes_this_reader() -> None:
    assert CHAT.read_stream is ChatStreamReader
