"""However the bytes of an upstream's stream arrive, the client gets the same bytes and pays the same."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from support.endpoint_cases import DONE, REPORT, ROLE, STOP, USAGE, chunk
from support.fakes import FakeUpstream
from support.gateways import InProcess, in_process
from support.streaming import Stream, streaming_reader
from tok0n.domain.errors import Tok0nError

EVENTS = st.sampled_from(
    [
        chunk("Hello."),
        chunk('ä€😀\n"'),
        chunk("x" * 3_000),
        chunk("with usage", usage=USAGE),
        chunk(choices=[]),
        chunk("model upstream-demo"),
        chunk("model upstream-demo").replace(b"\n", b"\r\n"),
        chunk("model upstream-demo").replace(b"\n", b"\r"),
        chunk("split").replace(b', "object"', b',\ndata:"object"'),
        b": a comment\n\n",
        b"event: named\nid: 1\nretry: 5\n" + chunk("named"),
        b"data:\n\n",
        b'data: {"error":{"message":"It failed."}}\n\n',
        b"data: garbage\n\n",
    ]
)
BODIES = st.tuples(
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(EVENTS, max_size=6).map(b"".join),
    st.sampled_from([STOP + REPORT + DONE, STOP + REPORT, STOP, REPORT + DONE, DONE, b"", (STOP + REPORT + DONE)[:-1]]),
).map(lambda parts: parts[0] + ROLE + parts[1] + parts[2])


@st.composite
def chunkings(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """Draw a body, and the pieces in which it arrives."""
    body = draw(BODIES)
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=30)))
    starts = [0, *cuts]
    return body, [body[start:end] for start, end in zip(starts, [*cuts, len(body)], strict=True)]


async def relayed(gateway: InProcess, pieces: Sequence[bytes]) -> tuple[bytes, str, int]:
    """Relay a body. Returns what the client got, the error's type, and the charge."""
    before = await gateway.posted()
    stream = Stream(gateway)
    upstream = await gateway.upstream.next_stream()
    for piece in pieces:
        upstream.send(piece)
    upstream.end()
    try:
        error = await stream.ended()
    except Tok0nError as raised:
        return b"", repr(raised), before - await gateway.posted()
    charged = before - await gateway.posted()
    assert await gateway.pending() == 0
    assert len(gateway.streams) == 0
    received = bytes(stream.client.received).replace(b'"available": ', b'"available":')
    return received.replace(b'"available":%d' % await gateway.posted(), b'"available":'), repr(error), charged


def test_any_chunking_of_an_upstreams_stream_gives_the_client_the_same_bytes_and_charge() -> None:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner() as runner:
        opening = in_process(Path(folder), FakeUpstream(), make_reader=streaming_reader, tokens=10**9)
        gateway = runner.run(opening.__aenter__())

        @given(chunkings())
        def check(drawn: tuple[bytes, list[bytes]]) -> None:
            body, pieces = drawn
            whole = runner.run(relayed(gateway, [body]))
            assert runner.run(relayed(gateway, pieces)) == whole

        try:
            check()
        finally:
            runner.run(opening.__aexit__(None, None, None))
