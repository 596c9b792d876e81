"""Streams through real proxies, with the configuration that docs/operations.md shows and with others."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.endpoint_cases import DONE, REPORT, STOP, chunk
from support.gateways import Running, running
from support.proxies import DOCUMENTED, PROXIES, proxy
from support.scripted_upstream import ScriptedUpstream
from tok0n.domain.endpoints.chat_stream import KEEP_ALIVE
from tok0n.services import relay

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
SECONDS_MAX = 10
TOKENS = 10_000_000
NAMES = (*DOCUMENTED, *PROXIES)


@pytest.mark.parametrize("name", NAMES)
async def test_each_event_and_comment_passes_a_proxy_before_the_next_one_is_sent(
    name: str, tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "KEEP_ALIVE_SECONDS", 0.5)
    is_first_read = asyncio.Event()

    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + framed(chunk("first")))
        await is_first_read.wait()
        writer.write(framed(chunk("second") + STOP + REPORT + DONE) + framed(b""))

    upstream.behaviour = behave
    async with streaming(name, tmp_path, upstream) as (gateway, port), connected(gateway, port) as reader:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"content-type: text/event-stream; charset=utf-8" in head.lower()
        await reader.readuntil(b"first")
        await reader.readuntil(KEEP_ALIVE)
        is_first_read.set()
        await reader.readuntil(b"second")
        await reader.readuntil(DONE)


@pytest.mark.parametrize("name", DOCUMENTED)
async def test_a_documented_proxy_passes_a_large_request_and_its_whole_response(
    name: str, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async with (
        streaming(name, tmp_path, upstream) as (gateway, port),
        connected(gateway, port, content="a" * 2 * 2**20, stream=False) as reader,
    ):
        assert b" 200 " in await reader.readuntil(b"\r\n")
        assert b"x-tok0n-charged: 12" in (await reader.readuntil(b"\r\n\r\n")).lower()
        assert len(upstream.bodies[0]) > 2 * 2**20


@pytest.mark.parametrize("name", NAMES)
async def test_the_bill_stops_when_a_client_leaves_a_proxy_if_the_upstream_reports_usage_continuously(
    name: str, tmp_path: Path, upstream: ScriptedUpstream
) -> None:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD)
        while not writer.is_closing():
            usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
            writer.write(framed(chunk("word", usage=usage)))
            await asyncio.sleep(0.01)

    upstream.behaviour = behave
    async with streaming(name, tmp_path, upstream, upstream_more="continuous_usage = true") as (gateway, port):
        async with connected(gateway, port) as reader:
            await reader.readuntil(b"word")
        await upstream.until(lambda: upstream.closed_connections > 0)
        async with asyncio.timeout(SECONDS_MAX):
            while (balance := (await gateway.account()).balance).pending:
                await asyncio.sleep(0.01)
        assert balance.posted == TOKENS - 12
        assert await gateway.audit_is_clean()


def framed(piece: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece)


@contextlib.asynccontextmanager
async def streaming(
    name: str, folder: Path, upstream: ScriptedUpstream, *, upstream_more: str = ""
) -> AsyncIterator[tuple[Running, int]]:
    """A gateway that streams, and the port of the proxy in front of it."""
    async with (
        running(
            folder,
            upstream_url=upstream.base_url,
            tokens=TOKENS,
            upstream_more=upstream_more,
            overrides={"server.streaming": True},
        ) as gateway,
        proxy(name, folder, upstream_port=int(gateway.url.rpartition(":")[2])) as port,
    ):
        yield gateway, port


@contextlib.asynccontextmanager
async def connected(
    gateway: Running, port: int, *, content: str = "Hello!", stream: bool = True
) -> AsyncIterator[asyncio.StreamReader]:
    """Send a request; gives what its response can be read from."""
    message = {"role": "user", "content": content}
    body = json.dumps({"model": "demo", "messages": [message], "stream": stream}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {gateway.api_key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        async with asyncio.timeout(SECONDS_MAX):
            yield reader
    finally:
        writer.close()
