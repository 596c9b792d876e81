"""SIGTERM and streams: they may finish within `shutdown_seconds`, and a client learns that its stream was cut.

Each test stops a server that has streams of every endpoint.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from support.endpoint_cases import SERVED, STREAMS, EndpointCase
from support.gateways import EMAIL, ServerProcess, prepared
from support.http import Connection
from support.streaming_client import StreamClient
from support.streaming_sites import TOKENS
from support.streaming_upstream import Exchange, StreamingUpstream
from tok0n.bootstrap.resources import open_store
from tok0n.settings import Settings

pytestmark = pytest.mark.anyio

CHARGED = sum(case.charged for case in STREAMS)
"""What a stream of each endpoint costs together."""


def beginning(case: EndpointCase) -> bytes:
    return case.streaming.beginning + case.streaming.content("Hello.")


class Stopping(msgspec.Struct, kw_only=True):
    """A server process and its upstream."""

    server: ServerProcess
    upstream: StreamingUpstream
    api_key: str
    settings: Settings

    async def clients(self, stack: contextlib.AsyncExitStack) -> list[tuple[StreamClient, Exchange]]:
        """Ask for a stream of each endpoint. Returns the clients, each with its upstream's side."""
        opened = []
        for case in STREAMS:
            client = StreamClient(self.server.base_url, self.api_key, case=case)
            opened.append((await stack.enter_async_context(client), await self.upstream.next()))
        return opened

    async def begun(self, stack: contextlib.AsyncExitStack) -> list[tuple[StreamClient, Exchange]]:
        """As `clients`, and begin the streams."""
        opened = await self.clients(stack)
        for client, exchange in opened:
            exchange.send(beginning(client.case))
            await client.begun()
            await client.text("Hello.")
        return opened

    async def terminate(self) -> None:
        """Send SIGTERM, and wait until the server accepts no connection."""
        self.server.process.terminate()
        async with asyncio.timeout(10):
            with contextlib.suppress(ConnectionError):
                while True:
                    async with Connection(self.server.base_url):
                        pass

    async def charged(self) -> int:
        """Wait for the end of the process. Returns what was charged."""
        async with asyncio.timeout(20):
            assert await self.server.process.wait() == 0
        assert b"Traceback" not in self.server.log.read_bytes()
        async with open_store(self.settings) as store:
            balance = (await store.accounts.get(EMAIL)).balance
            assert balance.pending == 0
            assert (await store.ledger.audit()).ok
        assert not self.upstream.open
        return TOKENS - balance.posted


@contextlib.asynccontextmanager
async def stopping(folder: Path, *, shutdown_seconds: float) -> AsyncIterator[Stopping]:
    more = f"{SERVED}[server]\nstreaming = true\nshutdown_seconds = {shutdown_seconds}\n"
    async with StreamingUpstream() as upstream:
        settings, api_key = await prepared(folder, upstream_url=upstream.base_url, tokens=TOKENS, more=more)
        async with ServerProcess(folder) as server:
            yield Stopping(server=server, upstream=upstream, api_key=api_key, settings=settings)


async def test_streams_finish_after_sigterm_also_those_whose_client_left(tmp_path: Path) -> None:
    async with stopping(tmp_path, shutdown_seconds=30) as site, contextlib.AsyncExitStack() as stack:
        staying, leaving = await site.begun(stack), await site.begun(stack)
        for client, _ in leaving:
            await client.reset()
        await site.terminate()
        for client, exchange in staying + leaving:
            exchange.send(client.case.streaming.content(" Bye."))
        for client, _ in staying:
            await client.text(" Bye.")
        for client, exchange in staying + leaving:
            exchange.complete(client.case.streaming.end)
        for client, _ in staying:
            await client.ended()
            assert (client.content, client.has_end) == ("Hello. Bye.", True), client.case.name
        assert await site.charged() == 2 * CHARGED


async def test_at_the_deadline_complete_answers_are_charged_and_others_end_with_an_error_event(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(stopping(tmp_path, shutdown_seconds=1))
        reading, complete, unread = [await site.begun(stack) for _ in range(3)]
        for client, exchange in complete:
            exchange.send(client.case.streaming.complete)
        for client, exchange in unread:
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            exchange.complete(client.case.streaming.content("x" * 2**23) + client.case.streaming.end)
        await site.terminate()
        for client, _ in reading:
            events = await client.ended()
            _, message = client.case.streaming.error(events[-1])
            assert "stopped" in message, client.case.name
            assert client.is_complete is client.case.endpoint.failure_ends_stream, client.case.name
        for client, _ in complete:
            await client.ended()
            assert client.has_end, client.case.name
        assert await site.charged() == 2 * CHARGED


async def test_at_the_deadline_streams_without_a_client_or_content_are_released(tmp_path: Path) -> None:
    async with stopping(tmp_path, shutdown_seconds=1) as site, contextlib.AsyncExitStack() as stack:
        for client, _ in await site.begun(stack):
            await client.reset()
        held = await site.clients(stack)
        for client, exchange in held:
            exchange.send(client.case.streaming.beginning)
        await site.terminate()
        for client, _ in held:
            rejected = await client.rejected()
            name = client.case.error_name("api_error")
            assert (rejected.status, client.case.read_error(rejected.body)) == (500, name), client.case.name
        assert await site.charged() == 0
