"""SIGTERM and streams: they may finish within `shutdown_seconds`, and a client learns that its stream was cut."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from support.gateways import EMAIL, ServerProcess, prepared
from support.http import Connection
from support.streaming import DONE, REPORT, ROLE, STOP, chunk
from support.streaming_client import StreamClient
from support.streaming_sites import TOKENS
from support.streaming_upstream import Exchange, StreamingUpstream
from tok0n.bootstrap.resources import open_store
from tok0n.settings import Settings

pytestmark = pytest.mark.anyio

CHARGED = 12
HELLO = ROLE + chunk("Hello.")
END = STOP + REPORT + DONE


class Stopping(msgspec.Struct, kw_only=True):
    """A server process and its upstream."""

    server: ServerProcess
    upstream: StreamingUpstream
    api_key: str
    settings: Settings

    def client(self) -> StreamClient:
        return StreamClient(self.server.base_url, self.api_key)

    async def begun(self, client: StreamClient) -> Exchange:
        exchange = await self.upstream.next()
        exchange.send(HELLO)
        await client.begun()
        await client.text("Hello.")
        return exchange

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
    more = f"[server]\nstreaming = true\nshutdown_seconds = {shutdown_seconds}\n"
    async with StreamingUpstream() as upstream:
        settings, api_key = await prepared(folder, upstream_url=upstream.base_url, tokens=TOKENS, more=more)
        async with ServerProcess(folder) as server:
            yield Stopping(server=server, upstream=upstream, api_key=api_key, settings=settings)


async def test_streams_finish_after_sigterm_also_those_whose_client_left(tmp_path: Path) -> None:
    async with stopping(tmp_path, shutdown_seconds=30) as site, site.client() as client, site.client() as leaver:
        exchanges = [await site.upstream.next() for _ in range(2)]
        for exchange in exchanges:
            exchange.send(HELLO)
        await client.begun()
        await leaver.begun()
        await leaver.reset()
        await site.terminate()
        for exchange in exchanges:
            exchange.send(chunk(" Bye."))
        await client.text(" Bye.")
        for exchange in exchanges:
            exchange.complete(END)
        assert (await client.ended())[-1] == "[DONE]"
        assert client.is_complete
        assert client.content == "Hello. Bye."
        assert await site.charged() == 2 * CHARGED


async def test_at_the_deadline_complete_answers_are_charged_and_others_end_with_an_error_event(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        site = await stack.enter_async_context(stopping(tmp_path, shutdown_seconds=1))
        reader = await stack.enter_async_context(site.client())
        await site.begun(reader)
        complete = await stack.enter_async_context(site.client())
        (await site.begun(complete)).send(STOP + REPORT)
        unread = await stack.enter_async_context(site.client())
        exchange = await site.begun(unread)
        unread.writer.transport.pause_reading()  # type: ignore[attr-defined]
        exchange.complete(chunk("x" * 2**23) + END)
        await site.terminate()
        *_, error = await reader.ended()
        assert isinstance(error, dict)
        assert "stopped" in error["error"]["message"]
        assert not reader.is_complete
        assert (await complete.ended())[-1] == "[DONE]"
        assert complete.is_complete
        assert await site.charged() == 2 * CHARGED


async def test_at_the_deadline_streams_without_a_client_or_content_are_released(tmp_path: Path) -> None:
    async with stopping(tmp_path, shutdown_seconds=1) as site, site.client() as leaver:
        await site.begun(leaver)
        await leaver.reset()
        async with site.client() as held:
            (await site.upstream.next()).send(ROLE)
            await site.terminate()
            rejected = await held.rejected()
            assert (rejected.status, rejected.error["code"]) == (500, "api_error")
            assert await site.charged() == 0
