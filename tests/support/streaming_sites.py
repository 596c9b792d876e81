"""A whole gateway that streams, in front of an upstream whose streams the test writes."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from support import postgres
from support.endpoint_cases import CHAT_CASE, SERVED, EndpointCase
from support.gateways import Running, running
from support.http import request
from support.redis_server import shared_redis
from support.streaming_client import StreamClient
from support.streaming_upstream import Exchange, StreamingUpstream
from tok0n.adapters.redis.refill import EPOCH

TOKENS = 1_000_000


class Site(msgspec.Struct, kw_only=True):
    """A gateway and its upstream."""

    gateway: Running
    upstream: StreamingUpstream

    def client(self, case: EndpointCase = CHAT_CASE) -> StreamClient:
        """Return a client that asks for a stream."""
        return StreamClient(self.gateway.base_url, self.gateway.api_key, case=case)

    async def posted(self) -> int:
        """Return the account's tokens."""
        return (await self.gateway.account()).balance.posted

    async def receipt(self, client: StreamClient) -> dict[str, Any]:
        """Wait until the client's request is resolved. Returns its receipt."""
        headers = {"authorization": f"Bearer {self.gateway.api_key}"}
        async with asyncio.timeout(20):
            while True:
                answer = await request(
                    self.gateway.base_url, "GET", f"/v1/requests/{client.request_id}", headers=headers
                )
                receipt: dict[str, Any] = answer.json
                if receipt["status"] != "pending":
                    return receipt

    async def clients_left(self) -> None:
        """Wait until the gateway has no connection to a client."""
        await until(lambda: not self.gateway.server.state.connections)

    async def settled(self) -> None:
        """Wait until no stream, task or connection is left."""
        await self.clients_left()
        await until(
            lambda: not (len(self.gateway.streams) or self.gateway.server.state.background or self.upstream.open)
        )


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def open_site(
    folder: Path, *, engine: str = "sqlite", overrides: Mapping[str, object] | None = None, **more: Any
) -> AsyncIterator[Site]:
    """With `engine` "sqlite" the limiter is in memory, with "postgres" in Redis. At the end, nothing may be left."""
    chosen: dict[str, object] = {"server.streaming": True} | dict(overrides or {})
    async with contextlib.AsyncExitStack() as stack:
        upstream = await stack.enter_async_context(StreamingUpstream())
        if engine == "postgres":
            chosen["database.url"] = await stack.enter_async_context(postgres.database(f"t{secrets.token_hex(8)}"))
            redis = await asyncio.to_thread(shared_redis)
            await redis.command("SET", EPOCH, (await redis.command("INFO", "server"))["run_id"])
            more["backend"] = redis.url
        gateway = await stack.enter_async_context(
            running(folder, upstream_url=upstream.base_url, tokens=TOKENS, overrides=chosen, **{"more": SERVED} | more)
        )
        site = Site(gateway=gateway, upstream=upstream)
        yield site
        await site.settled()
        assert (await gateway.account()).balance.pending == 0
        assert await gateway.audit_is_clean()
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "stream" or "Responder." in repr(task)]


async def begun(site: Site, client: StreamClient, events: bytes) -> Exchange:
    """Have the upstream begin the client's stream with events that have content."""
    exchange = await site.upstream.next()
    exchange.send(events)
    await client.begun()
    return exchange
