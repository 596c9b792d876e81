"""The upstream client: what it sends, what it accepts, and what a cancelled call leaves behind (nothing)."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.fakes import ANSWER
from support.scripted_upstream import FAULTS, REDIRECT, Behaviour, ScriptedUpstream, hang, http, ok, raw
from support.upstream_clients import client, failure
from tok0n.domain.errors import UpstreamFailed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as server:
        yield server


def peak_bytes(*, reset: bool = False) -> int:
    """The most memory that this process held since the last reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def endless(start: bytes, piece: bytes) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            writer.write(piece)
            await writer.drain()

    return behave


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CLOSED, INVALID, LARGE, LATE = "closed the connection", "an invalid response", "that is too large", "timed out"
BROKEN: dict[str, tuple[Behaviour, str]] = {
    "timeout": (FAULTS["timeout"], LATE),
    "slow drip": (FAULTS["slow drip"], LATE),
    "reset": (FAULTS["reset"], CLOSED),
    "closed without a word": (FAULTS["closed without a word"], CLOSED),
    "cut head": (FAULTS["cut head"], CLOSED),
    "cut body": (FAULTS["cut body"], CLOSED),
    "cut chunked body": (FAULTS["cut chunked body"], CLOSED),
    "not http": (FAULTS["not http"], INVALID),
    "upgrade": (FAULTS["upgrade"], INVALID),
    "compressed": (FAULTS["compressed"], INVALID),
    "endless headers": (FAULTS["endless headers"], INVALID),
    "endless interim answers": (FAULTS["endless interim answers"], INVALID),
    "endless trailer": (endless(CHUNKED + b"2\r\n{}\r\n0\r\nx: ", b"y" * 0x10000), INVALID),
    "endless chunk extension": (endless(CHUNKED + b"2;", b"y" * 0x10000), INVALID),
    "huge body, announced": (FAULTS["huge body, announced"], LARGE),
    "huge body, chunked": (FAULTS["huge body, chunked"], LARGE),
    "huge body, no length": (endless(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 0x10000), LARGE),
    "huge body, tiny chunks": (endless(CHUNKED, b"2\r\n  \r\n" * 10_000), LARGE),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_answer_has_an_unknown_outcome_and_costs_little_memory(
    name: str, server: ScriptedUpstream
) -> None:
    server.behaviour, words = BROKEN[name]
    before = peak_bytes(reset=True)
    failed = await failure(
        client(server.base_url, timeout_seconds=0.3 if words == LATE else 30.0, body_bytes_max=4 * 1024 * 1024)
    )
    assert peak_bytes() - before < 32 * 1024 * 1024
    assert (failed.reached, failed.outcome_unknown) == (True, True)
    assert words in failed.message
    assert "127.0.0.1" not in failed.message
    assert (len(server.requests), server.connections) == (1, 1)


async def test_a_redirect_is_an_answer_and_never_followed(server: ScriptedUpstream) -> None:
    server.behaviour = REDIRECT
    upstream = client(server.base_url)
    assert (await upstream.send("/chat/completions", b"{}")).status == 307
    await upstream.aclose()
    assert len(server.requests) == 1


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_an_answer_without_a_length_ends_with_its_connection(server: ScriptedUpstream, version: bytes) -> None:
    server.behaviour = raw(b"HTTP/" + version + b" 200 OK\r\n\r\n" + ANSWER, close=True)
    upstream = client(server.base_url)
    for _ in range(2):
        assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    await upstream.aclose()
    assert server.connections == 2


async def test_an_empty_answer_is_an_answer(server: ScriptedUpstream) -> None:
    server.behaviour = ok(b"")
    upstream = client(server.base_url)
    assert (await upstream.send("/chat/completions", b"{}")).body == b""
    await upstream.aclose()


async def test_an_answer_in_pieces_is_whole(server: ScriptedUpstream) -> None:
    pieces = b"".join(b"3\r\n" + ANSWER[at : at + 3] + b"\r\n" for at in range(0, len(ANSWER) // 3 * 3, 3))
    rest = ANSWER[len(ANSWER) // 3 * 3 :]
    last = b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b""
    server.behaviour = raw(CHUNKED + pieces + last + b"0\r\n\r\n")
    upstream = client(server.base_url)
    for _ in range(2):
        assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    await upstream.aclose()
    assert server.connections == 1


async def test_it_sends_what_it_must_and_nothing_else(server: ScriptedUpstream) -> None:
    upstream = client(server.base_url, headers={"OpenAI-Organization": "org-1"})
    answer = await upstream.send("/chat/completions", b'{"a":1}')
    await upstream.aclose()
    assert (answer.status, answer.body) == (200, ANSWER)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /v1/chat/completions HTTP/1.1"
    names = {line.split(b":")[0] for line in head.split(b"\r\n")[1:]}
    assert names == {
        b"host",
        b"user-agent",
        b"accept",
        b"accept-encoding",
        b"content-type",
        b"content-length",
        b"authorization",
        b"openai-organization",
    }
    assert body == b'{"a":1}'


async def test_a_cancelled_call_leaves_no_connection_and_no_task(server: ScriptedUpstream) -> None:
    server.behaviour = hang
    upstream = client(server.base_url)
    before = asyncio.all_tasks()
    calling = asyncio.create_task(upstream.send("/chat/completions", b"{}"))
    await server.until(lambda: len(server.requests) == 1)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await server.until(lambda: server.closed_connections == 1)
    server.behaviour = ok()
    assert (await upstream.send("/chat/completions", b"{}")).status == 200
    assert server.connections == 2
    await upstream.aclose()
    await server.until(lambda: server.closed_connections == 2)
    assert asyncio.all_tasks() == before


@contextlib.asynccontextmanager
async def silent() -> AsyncIterator[tuple[int, asyncio.Event, asyncio.Event]]:
    """A peer that reads and never says a word: its port, "something came" and "the client has closed"."""
    came, closed = asyncio.Event(), asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(65536):
                came.set()
        writer.transport.abort()
        closed.set()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as peer:
        yield peer.sockets[0].getsockname()[1], came, closed


@pytest.mark.parametrize("phase", ["handshake", "tunnel"])
async def test_a_call_cancelled_while_connecting_leaves_no_connection_and_no_task(phase: str) -> None:
    async with silent() as (port, came, closed):
        before = asyncio.all_tasks()
        upstream = (
            client(f"https://127.0.0.1:{port}/v1")
            if phase == "handshake"
            else client("http://upstream.invalid/v1", proxy_url=f"http://127.0.0.1:{port}")
        )
        calling = asyncio.create_task(upstream.send("/chat/completions", b"{}"))
        await asyncio.wait_for(came.wait(), 5)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await asyncio.wait_for(closed.wait(), 5)
        await upstream.aclose()
        assert {task for task in asyncio.all_tasks() - before if "listen" not in repr(task)} == set()


async def test_a_call_cancelled_within_its_answer_leaves_no_connection(server: ScriptedUpstream) -> None:
    server.behaviour = raw(http(ANSWER, length=len(ANSWER) + 10))
    upstream = client(server.base_url)
    calling = asyncio.create_task(upstream.send("/chat/completions", b"{}"))
    await server.until(lambda: len(server.requests) == 1)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await server.until(lambda: server.closed_connections == 1)
    await upstream.aclose()


async def test_closing_ends_the_calls_under_way_and_refuses_later_ones(server: ScriptedUpstream) -> None:
    server.behaviour = hang
    upstream = client(server.base_url)
    calling = asyncio.create_task(upstream.send("/chat/completions", b"{}"))
    await server.until(lambda: len(server.requests) == 1)
    await upstream.aclose()
    with pytest.raises(UpstreamFailed) as failed:
        await asyncio.wait_for(calling, 5)
    assert failed.value.outcome_unknown
    assert not (await failure(upstream)).reached
    assert server.connections == 1


async def test_closing_while_connecting_leaves_no_connection() -> None:
    asked, gate, closed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def tunnel_at_last(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await gate.wait()
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b"", "no request was sent"
        writer.transport.abort()
        closed.set()

    async with await asyncio.start_server(tunnel_at_last, "127.0.0.1", 0) as proxy:
        upstream = client(
            "http://upstream.invalid/v1", proxy_url=f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        )
        calling = asyncio.create_task(failure(upstream))
        await asyncio.wait_for(asked.wait(), 5)
        await upstream.aclose()
        gate.set()
        assert not (await asyncio.wait_for(calling, 5)).reached
        await asyncio.wait_for(closed.wait(), 5)
