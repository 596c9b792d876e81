"""Cut at every byte, over TLS, through a proxy, or mutated: an answer is whole, or it is a failure."""

import asyncio
import contextlib
import gzip
import ssl
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from conformance.upstream_messages import BODY, GZIP, Row, chunk, chunked, coded, head, raw_deflate, sized
from conformance.upstream_server import Peer, UpstreamServer
from conformance.upstream_table import ROWS
from support.metered_requests import metered_request
from tok0n.adapters.upstream import proxy
from tok0n.adapters.upstream.connection import UpstreamConnection, deliver
from tok0n.adapters.upstream.decoding import BodyDecoder, DecodedBodyTooLarge, UndecodableBody
from tok0n.adapters.upstream.fields import keep_alive_seconds, retry_after_seconds
from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.domain.answers import read_answer
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.errors import UpstreamFailed
from tok0n.http.pacing import PacedQueue
from tok0n.ports.upstream import UpstreamResponse

pytestmark = pytest.mark.anyio

SECOND = sized(b'{"for":"somebody else"}')


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


def client(base_url: str, **options: Any) -> HttpUpstream:
    return HttpUpstream(**({"name": "test", "base_url": base_url, "api_key": None, "timeout_seconds": 30.0} | options))


FRAMINGS = {
    "length": sized(),
    "chunked": chunked(chunk() + b"0\r\n\r\n"),
    "gzip": coded(GZIP, "gzip"),
    "until the end": head() + BODY,
}


@pytest.mark.parametrize("end", ["fin", "rst"])
@pytest.mark.parametrize("framing", FRAMINGS)
async def test_an_answer_cut_at_any_byte_is_no_answer(framing: str, end: Any) -> None:
    data = FRAMINGS[framing]
    async with UpstreamServer() as server:
        upstream = client(server.base_url)
        for length in range(len(data)):
            server.row = Row(name="cut", pieces=(data[:length],) if length else (), end=end)
            if framing == "until the end" and end == "fin" and length >= len(head()):
                assert (await upstream.send("/chat/completions", b"{}")).body == data[len(head()) : length], (
                    "its JSON shows the cut"
                )
            else:
                with pytest.raises(UpstreamFailed):
                    await upstream.send("/chat/completions", b"{}")
            assert (await upstream.send("/chat/completions", b"victim")).body == b"victim"
        await upstream.aclose()


# TLS


class TlsPeer(asyncio.Protocol):
    """Answers each request with its body, or with the server's `answer`; `cut` ends without close_notify."""

    transport: asyncio.Transport

    def __init__(self, server: "TlsServer") -> None:
        self.server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream protocol is given a stream transport
        self.server.peers.append(self)

    def data_received(self, data: bytes) -> None:
        body = data.partition(b"\r\n\r\n")[2]
        self.transport.write(self.server.answer or sized(body))
        if self.server.cut:
            self.transport.abort()


class TlsServer:
    def __init__(self, tmp_path: Path) -> None:
        authority = trustme.CA()
        self.ca_file = str(tmp_path / "ca.pem")
        authority.cert_pem.write_to_path(self.ca_file)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self.context)
        self.peers: list[TlsPeer] = []
        self.answer = b""
        self.cut = False

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[HttpUpstream]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: TlsPeer(self), "127.0.0.1", 0, ssl=self.context)
        upstream = client(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", ca_file=self.ca_file)
        try:
            yield upstream
        finally:
            await upstream.aclose()
            server.close()
            for peer in self.peers:
                peer.transport.abort()


async def test_a_tls_connection_is_reused_although_session_tickets_arrive_on_it(tmp_path: Path) -> None:
    server = TlsServer(tmp_path)
    async with server.running() as upstream:
        for number in range(5):
            body = b"call %d" % number
            assert (await upstream.send("/chat/completions", body)).body == body
        assert len(server.peers) == 1


async def test_a_second_answer_on_an_idle_tls_connection_is_never_read_as_an_answer(tmp_path: Path) -> None:
    server = TlsServer(tmp_path)
    async with server.running() as upstream:
        with capture_logs() as logs:
            assert (await upstream.send("/chat/completions", b"first")).body == b"first"
            server.peers[0].transport.write(SECOND)
            while not upstream._idle[0].has_input():
                pass
            for victim in (b"victim 1", b"victim 2"):
                assert (await upstream.send("/chat/completions", victim)).body == victim
        assert len(server.peers) == 3
    assert [entry["event"] for entry in logs] == ["upstream_surplus_response"]


async def complete_and_read(upstream: HttpUpstream) -> None:
    answer = await upstream.send("/chat/completions", b"{}")
    read_answer(CHAT, answer.status, answer.body, request=metered_request(), scrub=str)


async def test_an_answer_that_tls_cut_is_not_charged(tmp_path: Path) -> None:
    """Without close_notify and without a length, only the end of the JSON shows that the answer is whole."""
    server = TlsServer(tmp_path)
    server.cut = True
    server.answer = head() + b'{"choices":[{"message":{}}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_'
    async with server.running() as upstream:
        with pytest.raises(UpstreamFailed) as failed:
            await complete_and_read(upstream)
        assert failed.value.outcome_unknown


# The time that a connection stays idle


async def test_a_connection_past_its_idle_time_is_not_reused_even_before_it_is_closed() -> None:
    async with UpstreamServer() as server:
        upstream = client(server.base_url, idle_seconds=3600.0)
        await upstream.send("/chat/completions", b"{}")
        upstream._idle[0].reusable_until = asyncio.get_running_loop().time()
        await upstream.send("/chat/completions", b"{}")
        assert len(server.connections) == 2
        await upstream.aclose()


@pytest.mark.parametrize(("field", "seconds"), [("timeout=2", 1.0), ("timeout=3600", 4.0), ("timeout=1, max=9", 0.5)])
async def test_the_upstreams_keep_alive_shortens_the_idle_time(field: str, seconds: float) -> None:
    async with UpstreamServer(Row(name="keep-alive", pieces=(sized(BODY, f"Keep-Alive: {field}"),))) as server:
        upstream = client(server.base_url)
        await upstream.send("/chat/completions", b"{}")
        assert upstream._idle[0]._reader.idle_seconds == seconds
        await upstream.aclose()


async def test_a_call_cancelled_before_it_starts_takes_no_connection_from_the_pool() -> None:
    async with UpstreamServer() as server:
        upstream = client(server.base_url)
        await upstream.send("/chat/completions", b"{}")
        calling = asyncio.create_task(upstream.send("/chat/completions", b"{}"))
        calling.cancel()
        await asyncio.wait([calling])
        assert len(upstream._idle) == 1
        await upstream.send("/chat/completions", b"{}")
        assert len(server.connections) == 1
        await upstream.aclose()


async def test_without_reuse_each_request_says_close() -> None:
    heads: list[bytes] = []

    class Recording(UpstreamServer):
        def answer(self, peer: Peer, body: bytes) -> None:
            heads.append(peer._head)
            super().answer(peer, body)

    async with Recording() as server:
        upstream = client(server.base_url, reuse_connections=False)
        for _ in range(3):
            await upstream.send("/chat/completions", b"{}")
        assert len(server.connections) == 3
        await upstream.aclose()
    assert all(b"\r\nconnection: close\r\n" in head_sent for head_sent in heads)
    assert len(heads) == 3


# A proxy that opens the tunnel


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\n\r\n" + SECOND,
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 20_000,
        b"SSH-2.0\r\n\r\n",
    ],
)
async def test_a_proxys_bytes_are_never_an_answer(reply: bytes) -> None:
    received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        request = b""
        with contextlib.suppress(ConnectionError):
            request = await reader.read()
        writer.transport.abort()
        received.set_result(request)

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as refusing:
        port = refusing.sockets[0].getsockname()[1]
        upstream = client("http://upstream.invalid/v1", proxy_url=f"http://127.0.0.1:{port}")
        with pytest.raises(UpstreamFailed) as failed:
            await upstream.send("/chat/completions", b"{}")
        assert not failed.value.reached
        await upstream.aclose()
        assert await received == b"", "no request was sent"


async def test_the_first_bytes_of_a_tunnel_reach_its_own_protocol_alone() -> None:
    tunnel = proxy._Tunnel()
    paused: list[bool] = []

    class Pausing(NoTransport):
        def pause_reading(self) -> None:
            paused.append(True)

    tunnel.connection_made(Pausing())
    tunnel.data_received(b"HTTP/1.1 200 OK\r\n\r\n")
    assert tunnel.opened.done()
    assert paused == [True]


# Properties


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=300),
    cuts=st.lists(st.integers(0, 400), max_size=6),
    coding=st.sampled_from(["gzip", "deflate"]),
)
def test_a_compressed_body_decodes_alike_however_it_is_cut(data: bytes, cuts: list[int], coding: str) -> None:
    packed = gzip.compress(data) if coding == "gzip" else raw_deflate(data)
    decoder = BodyDecoder(coding, bytes_max=300)
    edges = [0, *sorted(cuts), len(packed)]
    decoded = b"".join(decoder.decode(packed[a:b]) for a, b in pairwise(edges) if packed[a:b])
    decoder.finish()
    assert decoded == data


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=200),
    coding=st.sampled_from(["gzip", "deflate"]),
    start=st.sampled_from([b"", GZIP, GZIP[:12], b"\x78\x9c"]),
)
def test_no_bytes_break_the_decoder(data: bytes, coding: str, start: bytes) -> None:
    decoder = BodyDecoder(coding, bytes_max=64)
    try:
        decoded = decoder.decode(start + data)
        decoder.finish()
    except (UndecodableBody, DecodedBodyTooLarge):
        return
    assert len(decoded) <= 64


class NoTransport(asyncio.Transport):
    closing = False

    def write(self, data: Any) -> None:
        pass

    def abort(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return 0


async def read_all(pieces: list[bytes]) -> UpstreamResponse | UpstreamFailed:
    """What a connection makes of `pieces`, with the end of the connection after them."""
    connection = UpstreamConnection(
        responses=PacedQueue(deliver),
        body_bytes_max=4096,
        idle_seconds=4.0,
        on_idle=lambda _: None,
        on_lost=lambda _: None,
        on_surplus=lambda: None,
    )
    transport = NoTransport()
    connection._transport = transport
    answer = connection.send(b"", deadline=asyncio.get_running_loop().time() + 60)
    for piece in pieces:
        if not transport.closing:
            connection.data_received(piece)
    if not transport.closing:
        connection.eof_received()
    connection.connection_lost(None)
    try:
        return await answer
    except UpstreamFailed as error:
        return error


SENT = [b"".join(row.pieces) for row in ROWS if 0 < len(b"".join(row.pieces)) < 2_000]


@settings(max_examples=400, deadline=None)
@given(data=st.sampled_from(SENT), at=st.integers(0, 2_000), noise=st.binary(max_size=4), cut=st.integers(0, 2_000))
def test_no_bytes_break_a_connection(data: bytes, at: int, noise: bytes, cut: int) -> None:
    mutated = data[:at] + noise + data[at + len(noise) // 2 :]
    asyncio.run(read_all([piece for piece in (mutated[:cut], mutated[cut:]) if piece]))


@settings(max_examples=300, deadline=None)
@given(data=st.sampled_from(SENT), cuts=st.lists(st.integers(0, 2_000), max_size=5))
def test_an_answer_does_not_depend_on_how_it_is_cut_into_packets(data: bytes, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges) if data[a:b]]
    whole, cut = asyncio.run(read_all([data])), asyncio.run(read_all(pieces))
    if isinstance(whole, UpstreamFailed):
        assert isinstance(cut, UpstreamFailed)
        assert cut.message == whole.message
    else:
        assert cut == whole


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5", 4),
        (b"timeout=5, max=100", 4),
        (b'max=100,TIMEOUT = "5"', 4),
        (b"timeout=1", 0.5),
        (b"timeout=0", 0),
        (b"timeout=-1", float("inf")),
        (b"xtimeout=5", float("inf")),
        (b"", float("inf")),
    ],
)
def test_the_keep_alive_field_is_read_with_a_margin(value: bytes, seconds: float) -> None:
    assert keep_alive_seconds(value) == seconds


@pytest.mark.parametrize(
    ("retry_after", "milliseconds", "seconds"),
    [
        (b"7", b"", 7),
        (b" 7 ", b"", 7),
        (b"7", b"1500", 1.5),
        (b"7", b"soon", 7),
        (b"0.5", b"", 0.5),
        (b"999999999", b"", 86_400),
        (b"9999999999999999999999", b"", None),
        (b"\xff", b"", None),
        (b"Wed, 21 Oct 99999 07:28:00 GMT", b"", None),
    ],
)
def test_the_retry_after_fields_are_read(retry_after: bytes, milliseconds: bytes, seconds: float | None) -> None:
    assert retry_after_seconds(retry_after, milliseconds) == seconds


def test_an_http_date_is_read_as_the_time_until_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_445_412_470.0)
    assert retry_after_seconds(b"Wed, 21 Oct 2015 07:28:00 GMT", b"") == 10
