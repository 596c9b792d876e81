"""A body that is read in pieces: what arrived is readable at once, and every ending is a complete body or an error."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator

import pytest

from support.fakes import ANSWER
from support.scripted_upstream import ScriptedUpstream, hang, huge, raw, reset
from support.upstream_clients import client
from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.adapters.upstream.response_stream import UNREAD_BYTES_MAX
from tok0n.domain.errors import UpstreamFailed

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n"
PATH = "/chat/completions"


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as server:
        yield server


@pytest.fixture
async def upstream(server: ScriptedUpstream) -> AsyncIterator[HttpUpstream]:
    upstream = client(server.base_url)
    yield upstream
    await upstream.aclose()


async def test_each_piece_is_readable_before_the_next_is_sent(server: ScriptedUpstream, upstream: HttpUpstream) -> None:
    steps = asyncio.Queue[bytes]()

    async def paced(writer: asyncio.StreamWriter) -> None:
        while data := await steps.get():
            writer.write(data)

    server.behaviour = paced
    steps.put_nowait(HEAD + b"\r\n")
    async with upstream.stream(PATH, b"{}", timeout_seconds=30) as response:
        assert response.status == 200
        for number in range(3):
            steps.put_nowait(chunk(b"piece %d" % number))
            assert await response.read() == b"piece %d" % number
        steps.put_nowait(b"0\r\n\r\n")
        assert await response.read() == b""
        assert await response.read() == b""
    steps.put_nowait(b"")
    server.behaviour = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    assert (await upstream.send(PATH, b"{}")).body == b"{}"
    assert server.connections == 1


async def test_compressed_pieces_are_readable_as_they_arrive(server: ScriptedUpstream, upstream: HttpUpstream) -> None:
    steps = asyncio.Queue[bytes]()

    async def paced(writer: asyncio.StreamWriter) -> None:
        while data := await steps.get():
            writer.write(data)

    server.behaviour = paced
    packer = zlib.compressobj(wbits=31)
    steps.put_nowait(HEAD + b"content-encoding: gzip\r\n\r\n")
    async with upstream.stream(PATH, b"{}", timeout_seconds=30) as response:
        for number in range(3):
            packed = packer.compress(b"piece %d" % number) + packer.flush(zlib.Z_SYNC_FLUSH)
            steps.put_nowait(chunk(packed))
            assert await response.read() == b"piece %d" % number
        steps.put_nowait(chunk(packer.flush()) + b"0\r\n\r\n")
        assert await response.read() == b""
    steps.put_nowait(b"")


@pytest.mark.parametrize(
    ("rest", "problem"),
    [(b"", "closed the connection"), (b"zz\r\n", "an invalid response")],
    ids=["cut", "not a chunk"],
)
async def test_the_bytes_before_a_failure_are_read_first(
    server: ScriptedUpstream, upstream: HttpUpstream, rest: bytes, problem: str
) -> None:
    server.behaviour = raw(HEAD + b"\r\n" + chunk(b"first") + chunk(b"second") + rest, close=True)
    async with upstream.stream(PATH, b"{}", timeout_seconds=30) as response:
        received = b""
        while len(received) < len(b"firstsecond"):
            received += await response.read()
        with pytest.raises(UpstreamFailed, match=problem) as failed:
            await response.read()
    assert received == b"firstsecond"
    assert failed.value.outcome_unknown
    assert failed.value.reached


@pytest.mark.parametrize("behaviour", [hang, reset], ids=["silence", "reset"])
async def test_without_a_head_there_is_no_response(
    server: ScriptedUpstream, upstream: HttpUpstream, behaviour: object
) -> None:
    server.behaviour = behaviour  # type: ignore[assignment]
    with pytest.raises(UpstreamFailed, match=r"timed out|closed the connection"):
        async with upstream.stream(PATH, b"{}", timeout_seconds=0.2):
            pytest.fail("the upstream sent no head")


async def test_leaving_early_closes_the_connection(server: ScriptedUpstream, upstream: HttpUpstream) -> None:
    server.behaviour = huge(chunked=True)
    async with upstream.stream(PATH, b"{}", timeout_seconds=30) as response:
        assert await response.read()
    await server.until(lambda: server.closed_connections == 1)


async def test_an_upstream_waits_for_a_caller_that_does_not_read(
    server: ScriptedUpstream, upstream: HttpUpstream
) -> None:
    server.behaviour = huge(chunked=True)
    async with upstream.stream(PATH, b"{}", timeout_seconds=30) as response:
        while not response._is_paused:
            await asyncio.sleep(0)
        assert len(await response.read()) < UNREAD_BYTES_MAX + 2**20
        assert await response.read()


async def test_a_caller_that_reads_late_gets_the_whole_body(server: ScriptedUpstream, upstream: HttpUpstream) -> None:
    body = bytes(range(256)) * 4 * (UNREAD_BYTES_MAX // 256)
    server.behaviour = raw(HEAD + b"\r\n" + chunk(body) + b"0\r\n\r\n")
    async with upstream.stream(PATH, b"{}", timeout_seconds=30) as response:
        while not response._is_paused:
            await asyncio.sleep(0)
        assert await response.read_all() == body
    server.behaviour = raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    assert (await upstream.send(PATH, b"{}")).body == b"{}"
    assert server.connections == 1


async def test_a_body_has_no_size_limit_in_pieces_and_has_one_as_a_whole(server: ScriptedUpstream) -> None:
    upstream = client(server.base_url, body_bytes_max=1000)
    server.behaviour = raw(HEAD + b"\r\n" + chunk(b" " * 700) * 3 + b"0\r\n\r\n")
    async with upstream.stream(PATH, b"{}", timeout_seconds=30) as response:
        received = 0
        while piece := await response.read():
            received += len(piece)
    assert received == 2100
    with pytest.raises(UpstreamFailed, match="too large"):
        async with upstream.stream(PATH, b"{}", timeout_seconds=30) as response:
            await response.read_all()
    await upstream.aclose()


async def test_a_decompression_bomb_fails_at_the_limit_of_a_piece(
    server: ScriptedUpstream, upstream: HttpUpstream
) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    server.behaviour = raw(HEAD + b"content-encoding: gzip\r\n\r\n" + chunk(bomb) + b"0\r\n\r\n")
    async with upstream.stream(PATH, b"{}", timeout_seconds=30) as response:
        with pytest.raises(UpstreamFailed, match="too large"):
            await response.read_all()


async def test_the_deadline_of_a_stream_does_not_delay_that_of_the_next_request(
    server: ScriptedUpstream,
) -> None:
    upstream = client(server.base_url, timeout_seconds=0.2)
    server.behaviour = raw(HEAD + b"\r\n" + chunk(ANSWER) + b"0\r\n\r\n")
    async with upstream.stream(PATH, b"{}", timeout_seconds=1000) as response:
        assert await response.read_all() == ANSWER
    server.behaviour = hang
    with pytest.raises(UpstreamFailed, match="timed out"):
        await upstream.send(PATH, b"{}")
    assert server.connections == 1
    await upstream.aclose()
