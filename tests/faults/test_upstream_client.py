"""The upstream client by itself: what it leaves behind (nothing), whom it trusts, and what it never does."""

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from support.fakes import ANSWER
from support.scripted_upstream import FAULTS, REDIRECT, Behaviour, ScriptedUpstream, hang, http, ok, raw
from tok0n.adapters.upstream.http import HttpUpstream
from tok0n.domain.errors import Overloaded, UpstreamFailed

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as server:
        yield server


def client(base_url: str, **more: object) -> HttpUpstream:
    options = {"name": "test", "base_url": base_url, "api_key": "sk-secret-123456", "timeout_seconds": 5.0}
    return HttpUpstream(**(options | more))  # type: ignore[arg-type]


async def failure(upstream: HttpUpstream) -> UpstreamFailed:
    with pytest.raises(UpstreamFailed) as failed:
        await upstream.send("/chat/completions", b"{}")
    await upstream.aclose()
    assert "sk-secret" not in failed.value.message + failed.value.detail
    return failed.value


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
CLOSED, INVALID, LARGE, LATE = "closed the connection", "an invalid answer", "that is too large", "timed out"
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


async def test_calls_at_once_have_a_connection_each_and_later_ones_share_them(server: ScriptedUpstream) -> None:
    gate = asyncio.Event()

    async def gated(writer: asyncio.StreamWriter) -> None:
        await gate.wait()
        writer.write(http(ANSWER))

    server.behaviour = gated
    upstream = client(server.base_url)
    calls = [asyncio.create_task(upstream.send("/chat/completions", b"{}")) for _ in range(2)]
    await server.until(lambda: len(server.requests) == 2)
    gate.set()
    assert [answer.body for answer in await asyncio.gather(*calls)] == [ANSWER] * 2
    assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    assert server.connections == 2
    await upstream.aclose()


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody(server: ScriptedUpstream) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def remember(writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(http(ANSWER))

    server.behaviour = remember
    upstream = client(server.base_url)
    await upstream.send("/chat/completions", b"{}")
    writers[0].write(http(b"another customer's answer"))
    await server.until(lambda: server.closed_connections == 1)
    assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    assert server.connections == 2
    await upstream.aclose()


async def test_a_connection_that_the_peer_closed_is_not_used_again(server: ScriptedUpstream) -> None:
    server.behaviour = raw(http(ANSWER), close=True)
    upstream = client(server.base_url)
    for _ in range(3):
        closed = server.closed_connections
        assert (await upstream.send("/chat/completions", b"{}")).status == 200
        await server.until(lambda closed=closed: server.closed_connections > closed)  # type: ignore[misc]
        await asyncio.sleep(0)
    assert server.connections == 3
    await upstream.aclose()


@pytest.mark.parametrize(
    "data",
    [
        http(ANSWER, headers="connection: close\r\n"),
        http(ANSWER) + b"more than was announced",
        http(ANSWER) + http(ANSWER),
        b"HTTP/1.0 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER),
    ],
)
async def test_an_unclean_connection_is_not_used_again(server: ScriptedUpstream, data: bytes) -> None:
    server.behaviour = raw(data)
    upstream = client(server.base_url)
    for _ in range(2):
        assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER, "what is whole is not lost"
    assert server.connections == 2
    await upstream.aclose()


async def test_an_idle_connection_is_closed_after_its_time(server: ScriptedUpstream) -> None:
    upstream = client(server.base_url, idle_seconds=0.02)
    await upstream.send("/chat/completions", b"{}")
    await server.until(lambda: server.closed_connections == 1)
    await upstream.aclose()


async def test_beyond_its_connections_it_refuses_at_once(server: ScriptedUpstream) -> None:
    server.behaviour = hang
    upstream = client(server.base_url, connections_max=1)
    calling = asyncio.create_task(upstream.send("/chat/completions", b"{}"))
    await server.until(lambda: len(server.requests) == 1)
    with pytest.raises(Overloaded):
        await upstream.send("/chat/completions", b"{}")
    calling.cancel()
    await asyncio.wait([calling])
    await upstream.aclose()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_without_a_file_for_a_connection_it_is_we_who_are_overloaded(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    upstream = client(server.base_url)

    async def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.get_running_loop(), "create_connection", refuse)
        with pytest.raises(Overloaded) as refused:
            await upstream.send("/chat/completions", b"{}")
    assert os.strerror(number) in refused.value.detail
    server.behaviour = raw(http(ANSWER))
    assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    await upstream.aclose()


async def test_interim_answers_are_passed_over(server: ScriptedUpstream) -> None:
    server.behaviour = raw(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + http(ANSWER))
    upstream = client(server.base_url)
    assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
    await upstream.aclose()


@pytest.mark.parametrize("host", ["upstream.invalid", "a" * 70 + ".invalid"])
async def test_a_name_that_does_not_resolve_was_never_reached(host: str) -> None:
    failed = await failure(client(f"http://{host}/v1"))
    assert (failed.reached, failed.outcome_unknown) == (False, False)
    assert host not in failed.message


async def test_a_refused_connection_was_never_reached() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        failed = await failure(client(f"http://127.0.0.1:{closed.getsockname()[1]}/v1"))
    assert (failed.reached, failed.outcome_unknown) == (False, False)


@pytest.mark.parametrize(
    "base_url",
    [
        "ftp://127.0.0.1/v1",
        "127.0.0.1/v1",
        "http:///v1",
        "http://user:sk-secret@127.0.0.1/v1",
        "http://127.0.0.1/v1?key=sk-secret",
        "http://127.0.0.1/v1#sk-secret",
        "http://127.0.0.1/v 1 sk-secret",
        "http://127.0.0.1/\r\nx: sk-secret",
    ],
)
def test_an_address_that_cannot_be_sent_is_refused_without_repeating_it(base_url: str) -> None:
    with pytest.raises(ValueError, match="base URL") as refused:
        client(base_url)
    assert "sk-secret" not in str(refused.value)


def test_a_header_that_would_begin_another_is_refused() -> None:
    with pytest.raises(ValueError, match="character"):
        client("http://127.0.0.1/v1", headers={"x-a": "1\r\nx-b: 2"})


async def test_a_peer_that_never_finishes_the_handshake_was_never_reached(server: ScriptedUpstream) -> None:
    failed = await failure(client(server.base_url.replace("http:", "https:"), connect_seconds=0.1))
    assert (failed.reached, failed.outcome_unknown) == (False, False)


async def test_a_peer_that_hangs_up_at_once_is_a_failure_and_leaves_nothing() -> None:
    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        upstream = client(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        for _ in range(100):
            with pytest.raises(UpstreamFailed):
                await upstream.send("/chat/completions", b"{}")
        async with asyncio.timeout(5):
            await upstream.aclose()


async def tls_server(authority: trustme.CA, *, name: str, framed: bool = True) -> asyncio.Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(ANSWER) if framed else b"HTTP/1.1 200 OK\r\n\r\n" + ANSWER)
        await writer.drain()
        if not framed:
            writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    async with await tls_server(authority, name="127.0.0.1") as trusted:
        url = f"https://127.0.0.1:{trusted.sockets[0].getsockname()[1]}/v1"
        upstream = client(url, ca_file=str(ca_file))
        assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
        await upstream.aclose()
        stranger = await failure(client(url))
        assert not stranger.reached
        assert "CERTIFICATE_VERIFY_FAILED" in stranger.detail
    async with await tls_server(authority, name="other.example") as other:
        url = f"https://127.0.0.1:{other.sockets[0].getsockname()[1]}/v1"
        assert not (await failure(client(url, ca_file=str(ca_file)))).reached


async def test_an_answer_without_a_length_ends_with_its_connection_over_tls_too(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    async with await tls_server(authority, name="127.0.0.1", framed=False) as server:
        upstream = client(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", ca_file=str(ca_file))
        assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
        await upstream.aclose()


async def test_no_proxy_is_taken_from_the_environment(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    upstream = client(server.base_url)
    assert (await upstream.send("/chat/completions", b"{}")).status == 200
    await upstream.aclose()


async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)


@contextlib.asynccontextmanager
async def tunnelling(target_port: int) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A CONNECT proxy: its port, and the heads of the requests that it saw."""
    heads: list[bytes] = []
    tunnels: list[asyncio.Task[None]] = []

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tunnels.append(task)
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", target_port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        relays = [asyncio.create_task(relay(reader, up_writer)), asyncio.create_task(relay(up_reader, writer))]
        await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
        for ending in relays:
            ending.cancel()
        up_writer.transport.abort()
        writer.transport.abort()

    async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy:
        yield proxy.sockets[0].getsockname()[1], heads
        await asyncio.wait(tunnels)


async def test_a_proxy_of_the_settings_is_used(server: ScriptedUpstream) -> None:
    async with tunnelling(server.port) as (port, heads):
        upstream = client(server.base_url, proxy_url=f"http://user:p%40ss@127.0.0.1:{port}")
        for _ in range(2):
            assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
        await upstream.aclose()
    assert len(heads) == 1
    assert heads[0].startswith(f"CONNECT 127.0.0.1:{server.port} HTTP/1.1\r\n".encode())
    assert b"proxy-authorization: Basic dXNlcjpwQHNz\r\n" in heads[0]


async def test_tls_is_verified_through_a_proxy_too(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    async with await tls_server(authority, name="127.0.0.1") as secure:
        secure_port = secure.sockets[0].getsockname()[1]
        async with tunnelling(secure_port) as (port, _):
            url, proxy_url = f"https://127.0.0.1:{secure_port}/v1", f"http://127.0.0.1:{port}"
            upstream = client(url, ca_file=str(ca_file), proxy_url=proxy_url)
            assert (await upstream.send("/chat/completions", b"{}")).body == ANSWER
            await upstream.aclose()
            assert not (await failure(client(url, proxy_url=proxy_url))).reached


async def test_a_proxy_that_refuses_is_told_as_unreachable(server: ScriptedUpstream) -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
        await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as proxy:
        port = proxy.sockets[0].getsockname()[1]
        failed = await failure(client(server.base_url, proxy_url=f"http://127.0.0.1:{port}"))
    assert not failed.reached
    assert server.requests == []
