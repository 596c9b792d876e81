"""Server-sent events mean the same however their bytes arrive."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tok0n.domain.stream import Event, EventParser

MIB = 2**20


def parse(body: bytes, *, piece_bytes: int, event_bytes_max: int = 1_000) -> tuple[list[Event], bool]:
    parser = EventParser(event_bytes_max=event_bytes_max)
    events = []
    for start in range(0, len(body), piece_bytes):
        events += parser.feed(body[start : start + piece_bytes])
    return events + parser.end(), parser.is_too_long


def expected(body: bytes) -> list[Event]:
    """Parse a whole body line by line, as the standard describes it."""
    events = []
    name, data = b"", list[bytes]()
    for line in [*re.split(rb"\r\n|\r|\n", body.lstrip(b"\xef\xbb\xbf \t\r\n")), b""]:
        if not line:
            if b"\n".join(data):
                events.append(Event(b"\n".join(data), name or None))
            name, data = b"", []
        match = re.fullmatch(rb"([^:]*):? ?(.*)", line)
        assert match is not None
        if match[1] == b"data":
            data.append(match[2])
        if match[1] == b"event":
            name = match[2]
    return events


FRAGMENTS = [
    b"data: ",
    b"data:",
    b"data",
    b"event: a",
    b"event",
    b"id: 1",
    b": x",
    b"\r\n",
    b"\n",
    b"\r",
    b"\n\n",
    b"b ",
]
BODIES = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map(b"".join)


@given(BODIES, st.integers(1, 9))
@example(b"data: a\r\n\r\ndata: b\r\r\n\n", 1)
@example(b"data: \n\ndata: b\n\n", 100)
def test_any_chunking_gives_the_events_of_the_standard(body: bytes, piece_bytes: int) -> None:
    assert parse(body, piece_bytes=piece_bytes) == (expected(body), False)
    assert parse(body, piece_bytes=1_000) == (expected(body), False)


@given(BODIES, st.integers(1, 9), st.integers(1, 20))
def test_the_limit_of_an_event_does_not_depend_on_the_chunking(body: bytes, piece_bytes: int, limit: int) -> None:
    assert parse(body, piece_bytes=piece_bytes, event_bytes_max=limit) == parse(
        body, piece_bytes=1_000, event_bytes_max=limit
    )


@given(BODIES)
def test_a_rendered_event_is_the_same_event(body: bytes) -> None:
    events = expected(body)
    assert expected(b"".join(event.render() for event in events)) == events


@pytest.mark.parametrize(
    ("body", "events"),
    [
        pytest.param(b"data: a\n\ndata: b\n\n", [Event(b"a"), Event(b"b")], id="plain"),
        pytest.param(b"data:a\n\ndata:  b\n\n", [Event(b"a"), Event(b" b")], id="at most one space is dropped"),
        pytest.param(b"data: a\ndata: b\n\n", [Event(b"a\nb")], id="several lines"),
        pytest.param(b"event: x\nid: 7\nretry: 5\n: y\ndata: a\n\n", [Event(b"a", b"x")], id="all fields"),
        pytest.param(b"\xef\xbb\xbfdata: a\n\n", [Event(b"a")], id="byte order mark"),
        pytest.param(b": ping\n\n\n\ndata: \n\ndata\n\nevent: x\n\n", [], id="nothing to say"),
        pytest.param(b"data: a", [Event(b"a")], id="the end is the end of the last event"),
        pytest.param(b"data: " + b"x" * MIB + b"\n\n", [Event(b"x" * MIB)], id="a line of 1 MiB"),
    ],
)
@pytest.mark.parametrize("piece_bytes", [1, 7, 2 * MIB])
def test_events(body: bytes, events: list[Event], piece_bytes: int) -> None:
    assert parse(body, piece_bytes=piece_bytes, event_bytes_max=2 * MIB) == (events, False)


@pytest.mark.parametrize("piece_bytes", [1, 5, 100])
def test_an_event_that_is_too_long_ends_the_stream(piece_bytes: int) -> None:
    body = b"data: a\n\ndata: " + b"x" * 15 + b"\n\ndata: b\n\n"
    assert parse(body, piece_bytes=piece_bytes, event_bytes_max=20) == ([Event(b"a")], True)
    assert parse(body, piece_bytes=piece_bytes, event_bytes_max=21)[1] is False


@pytest.mark.parametrize("body", [b'{"error": "x"}\r\n\r\n', b"<html>\n\ndata: a\n\n</html>", b"[1]", b'"x"'])
@pytest.mark.parametrize("piece_bytes", [1, 100])
def test_a_body_that_is_no_stream_is_kept_as_a_document(body: bytes, piece_bytes: int) -> None:
    parser = EventParser(event_bytes_max=100)
    for start in range(0, len(body), piece_bytes):
        assert parser.feed(body[start : start + piece_bytes]) == []
    assert parser.end() == []
    assert parser.document == body
