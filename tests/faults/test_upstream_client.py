"""The upstream client by itself: what it leaves behind (nothing), whom it trusts, and what it never does."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from support.fakes import ANSWER
from support.scripted_upstream import ScriptedUpstream, hang, http, ok, raw
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
        await upstream.complete(b"{}")
    await upstream.aclose()
    assert "sk-secret" not in failed.value.message + failed.value.detail
    return failed.value


async def test_it_sends_what_it_must_and_nothing_else(server: ScriptedUpstream) -> None:
    upstream = client(server.base_url, headers={"OpenAI-Organization": "org-1"})
    answer = await upstream.complete(b'{"a":1}')
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
    calling = asyncio.create_task(upstream.complete(b"{}"))
    await server.until(lambda: len(server.requests) == 1)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await server.until(lambda: server.closed_connections == 1)
    server.behaviour = ok()
    assert (await upstream.complete(b"{}")).status == 200
    assert server.connections == 2
    await upstream.aclose()
    await server.until(lambda: server.closed_connections == 2)
    assert asyncio.all_tasks() == before


async def test_a_connection_that_the_peer_closed_is_not_used_again(server: ScriptedUpstream) -> None:
    server.behaviour = raw(http(ANSWER), close=True)
    upstream = client(server.base_url)
    for _ in range(3):
        closed = server.closed_connections
        assert (await upstream.complete(b"{}")).status == 200
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
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    ],
)
async def test_an_unclean_connection_is_not_used_again(server: ScriptedUpstream, data: bytes) -> None:
    server.behaviour = raw(data)
    upstream = client(server.base_url)
    for _ in range(2):
        with contextlib.suppress(UpstreamFailed):
            assert (await upstream.complete(b"{}")).status == 200
    assert server.connections == 2
    await upstream.aclose()


async def test_an_idle_connection_is_closed_after_its_time(server: ScriptedUpstream) -> None:
    upstream = client(server.base_url, idle_seconds=0.02)
    await upstream.complete(b"{}")
    await server.until(lambda: server.closed_connections == 1)
    await upstream.aclose()


async def test_beyond_its_connections_it_refuses_at_once(server: ScriptedUpstream) -> None:
    server.behaviour = hang
    upstream = client(server.base_url, connections_max=1)
    calling = asyncio.create_task(upstream.complete(b"{}"))
    await server.until(lambda: len(server.requests) == 1)
    with pytest.raises(Overloaded):
        await upstream.complete(b"{}")
    calling.cancel()
    await asyncio.wait([calling])
    await upstream.aclose()


async def test_interim_answers_are_passed_over(server: ScriptedUpstream) -> None:
    server.behaviour = raw(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + http(ANSWER))
    upstream = client(server.base_url)
    assert (await upstream.complete(b"{}")).body == ANSWER
    await upstream.aclose()


async def test_a_name_that_does_not_resolve_was_never_reached() -> None:
    assert not (await failure(client("http://upstream.invalid/v1"))).reached


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
                await upstream.complete(b"{}")
        async with asyncio.timeout(5):
            await upstream.aclose()


async def tls_server(authority: trustme.CA, *, name: str) -> asyncio.Server:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(http(ANSWER))
        await writer.drain()

    return await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)


async def test_tls_is_verified(tmp_path: Path) -> None:
    authority = trustme.CA()
    ca_file = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca_file)
    async with await tls_server(authority, name="127.0.0.1") as trusted:
        url = f"https://127.0.0.1:{trusted.sockets[0].getsockname()[1]}/v1"
        upstream = client(url, ca_file=str(ca_file))
        assert (await upstream.complete(b"{}")).body == ANSWER
        await upstream.aclose()
        stranger = await failure(client(url))
        assert not stranger.reached
        assert "CERTIFICATE_VERIFY_FAILED" in stranger.detail
    async with await tls_server(authority, name="other.example") as other:
        url = f"https://127.0.0.1:{other.sockets[0].getsockname()[1]}/v1"
        assert not (await failure(client(url, ca_file=str(ca_file)))).reached


async def test_no_proxy_is_taken_from_the_environment(
    server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    upstream = client(server.base_url)
    assert (await upstream.complete(b"{}")).status == 200
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
            assert (await upstream.complete(b"{}")).body == ANSWER
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
            assert (await upstream.complete(b"{}")).body == ANSWER
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
