"""Clients of a real server that read one byte a second: slow reading changes nothing about the charge or the slot."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from support.endpoint_cases import DONE, REPORT, ROLE, STOP, chunk
from support.gateways import EMAIL, ServerProcess, prepared, tok0n_json
from support.http import Answer, chat_body, request
from support.streaming_client import StreamClient
from support.streaming_upstream import Exchange, StreamingUpstream
from tok0n.services.relay import CLIENT_SECONDS_MAX, UNREAD_BYTES_MAX

pytestmark = pytest.mark.anyio

TOKENS = 1_000_000
CHARGED = 12
SLOTS = 2
END = STOP + REPORT + DONE
EVENT = chunk("x" * 8 * 1024)
EVENTS = UNREAD_BYTES_MAX // len(EVENT) - 20
"""More than the socket's buffers hold, and less than makes the server drop the client at once."""

RECEIVE_BUFFER_BYTES = 4096
CLOCKS_SECONDS = CLIENT_SECONDS_MAX + 20


class DrippingReader:
    """A client that asks for a stream and reads one byte of the response a second."""

    def __init__(self, base_url: str, api_key: str) -> None:
        address = urlsplit(base_url)
        assert address.hostname is not None
        assert address.port is not None
        self._address = (address.hostname, address.port)
        self._api_key = api_key
        self.received = bytearray()

    async def __aenter__(self) -> Self:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._socket.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(self._socket, self._address)
        body = chat_body(stream=True)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self._api_key}\r\n"
        await loop.sock_sendall(self._socket, f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    @property
    def is_dropped(self) -> bool:
        """Whether the server's side of the connection is gone. A client whose window is zero may get no reset."""
        ends = [f":{socket_end[1]:04X}" for socket_end in (self._address, self._socket.getsockname())]
        rows = [line.split()[1:3] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return not any(local.endswith(ends[0]) and remote.endswith(ends[1]) for local, remote in rows)

    async def drip(self, *, seconds: float) -> None:
        """Read one byte a second."""
        ends_at = time.monotonic() + seconds
        while time.monotonic() < ends_at:
            await self._read(1)
            await asyncio.sleep(1)

    async def dropped(self) -> float:
        """Read one byte a second until the server drops the connection. Returns after how many seconds it did."""
        began = time.monotonic()
        async with asyncio.timeout(CLOCKS_SECONDS):
            while not self.is_dropped:
                await self.drip(seconds=1)
        return time.monotonic() - began

    async def until(self, end: bytes) -> None:
        """Read at full speed until the response ends with `end`."""
        async with asyncio.timeout(10):
            while not self.received.endswith(end):
                await self._read(65_536)

    async def _read(self, size: int) -> None:
        piece = await asyncio.get_running_loop().sock_recv(self._socket, size)
        assert piece, "the server closed the connection"
        self.received += piece

    @property
    def request_id(self) -> str:
        """The id of the request. Its header must have been read."""
        return self.received.split(b"x-request-id: ")[1].split(b"\r\n")[0].decode()


class Site:
    """A real server whose account has `SLOTS` concurrent requests, and the upstream behind it."""

    def __init__(self, server: ServerProcess, upstream: StreamingUpstream, api_key: str) -> None:
        self.server = server
        self.upstream = upstream
        self.api_key = api_key

    def reader(self) -> DrippingReader:
        return DrippingReader(self.server.base_url, self.api_key)

    async def opened(self, stack: contextlib.AsyncExitStack) -> None:
        """Open a stream. Asks until one is accepted, because a charge can be read a moment before its slot is free."""
        async with asyncio.timeout(20):
            while not await self._is_opened(stack):
                await asyncio.sleep(0.05)

    async def is_full(self) -> bool:
        """Ask for one more stream. Returns whether it is rejected for want of a slot."""
        async with contextlib.AsyncExitStack() as stack:
            return not await self._is_opened(stack)

    async def _is_opened(self, stack: contextlib.AsyncExitStack) -> bool:
        client = await stack.enter_async_context(StreamClient(self.server.base_url, self.api_key))
        exchange = asyncio.create_task(self.upstream.next())
        rejection = asyncio.create_task(client.rejected())
        first, others = await asyncio.wait([exchange, rejection], return_when=asyncio.FIRST_COMPLETED)
        for task in others:
            task.cancel()
        await asyncio.wait([exchange, rejection])
        if rejection in first:
            answer = rejection.result()
            assert (answer.status, "concurrent" in answer.error["message"]) == (429, True), answer
            return False
        exchange.result().send(ROLE + chunk("Hello."))
        await client.begun()
        return True

    async def balance(self) -> dict[str, Any]:
        answer: Answer = await self._get("/v1/balance")
        return dict(answer.json)

    async def receipt(self, request_id: str) -> dict[str, Any]:
        return dict((await self._get(f"/v1/requests/{request_id}")).json)

    async def settled(self, *, streams: int) -> None:
        """Wait until so many streams are charged."""
        async with asyncio.timeout(20):
            while (await self.balance())["posted"] != TOKENS - streams * CHARGED:
                await asyncio.sleep(0.05)

    async def _get(self, path: str) -> Answer:
        headers = {"authorization": f"Bearer {self.api_key}"}
        answer = await request(self.server.base_url, "GET", path, headers=headers)
        assert answer.status == 200, answer
        return answer


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with StreamingUpstream() as upstream:
        _, api_key = await prepared(
            tmp_path, upstream_url=upstream.base_url, tokens=TOKENS, more="[server]\nstreaming = true\n"
        )
        settings = tmp_path / "tok0n.toml"
        name = "concurrent_requests_per_account = "
        settings.write_text(settings.read_text().replace(f"{name}1000000", f"{name}{SLOTS}"))
        async with ServerProcess(tmp_path) as server:
            yield Site(server, upstream, api_key)
        assert tok0n_json("ledger", "audit", cwd=tmp_path)["ok"]
        account = tok0n_json("accounts", "show", EMAIL, cwd=tmp_path)
        assert account["pending"] == 0


def send_long(exchange: Exchange) -> None:
    exchange.send(ROLE)
    for _ in range(EVENTS):
        exchange.send(EVENT)


async def test_a_short_stream_is_read_whole_at_one_byte_a_second(site: Site) -> None:
    async with site.reader() as reader:
        (await site.upstream.next()).complete(ROLE + chunk("Hello.") + END)
        await site.settled(streams=1)
        await reader.drip(seconds=CLOCKS_SECONDS)
        await reader.until(b"0\r\n\r\n")
        assert b"[DONE]" in reader.received
        receipt = await site.receipt(reader.request_id)
    assert (receipt["ended"], receipt["charged"]) == ("completed", CHARGED)


async def test_a_long_stream_that_is_over_is_charged_at_once_and_its_client_is_dropped(site: Site) -> None:
    async with site.reader() as reader, contextlib.AsyncExitStack() as stack:
        exchange = await site.upstream.next()
        send_long(exchange)
        await site.opened(stack)
        assert await site.is_full()
        exchange.complete(END)
        await site.settled(streams=1)
        await site.opened(stack)
        assert await site.is_full(), "the charge freed one slot"
        assert await reader.dropped() > CLIENT_SECONDS_MAX / 2
        assert await site.is_full(), "the drop freed no second slot"
        assert (await site.balance())["posted"] == TOKENS - CHARGED
        await _finish(site, stack)


async def test_a_long_stream_in_progress_keeps_its_slot_after_its_client_is_dropped_until_it_is_charged(
    site: Site,
) -> None:
    async with site.reader() as reader, contextlib.AsyncExitStack() as stack:
        exchange = await site.upstream.next()
        send_long(exchange)
        await site.opened(stack)
        assert await reader.dropped() > CLIENT_SECONDS_MAX / 2
        assert not exchange.is_left
        assert await site.is_full(), "the stream goes on without its client"
        exchange.complete(END)
        await site.settled(streams=1)
        await site.opened(stack)
        assert await site.is_full(), "the charge freed one slot"
        await _finish(site, stack)


async def _finish(site: Site, stack: contextlib.AsyncExitStack) -> None:
    """Complete the streams that the test opened, so that all three are charged."""
    for exchange in list(site.upstream.open):
        exchange.complete(END)
    await site.settled(streams=3)
    await stack.aclose()
