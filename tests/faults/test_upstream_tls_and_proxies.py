"""The upstream client over TLS and through a proxy."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from support.fakes import ANSWER
from support.scripted_upstream import ScriptedUpstream, http
from support.upstream_clients import client, failure

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server() -> AsyncIterator[ScriptedUpstream]:
    async with ScriptedUpstream() as server:
        yield server


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
