"""Clients that read streams one after the other. Orders and answer are JSON.

Orders: port, head and body of the request, connections, seconds, stagger_seconds. The connections begin spread over
`stagger_seconds`. The time to the first event ends with its first byte. A stream without its end is an error.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from typing import Any, cast

import uvloop
from bench import summary

LAST_SECONDS_MAX = 20.0


class Client:
    """All connections, and what was seen on them."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        body = orders["body"].encode()
        self.request = orders["head"].encode() + b"content-length: %d\r\n\r\n" % len(body) + body
        self.first: list[float] = []
        self.whole: list[float] = []
        self.events = 0
        self.other: Counter[str] = Counter()
        self.is_over = False
        self.open = 0
        self.quiet: asyncio.Event | None = None

    def ended(self) -> None:
        """A connection has read its last stream."""
        self.open -= 1
        if self.quiet is not None and not self.open:
            self.quiet.set()

    async def run(self) -> dict[str, Any]:
        """Connect, warm up for as long as the connections need to begin, measure, and wait for the last streams."""
        orders, loop = self.orders, asyncio.get_running_loop()
        for _ in range(orders["connections"]):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", orders["port"])
            await asyncio.sleep(orders["stagger_seconds"] / orders["connections"])
        await asyncio.sleep(orders["warm_up_seconds"])
        self.first.clear()
        self.whole.clear()
        self.events = 0
        began = time.monotonic()
        await asyncio.sleep(orders["seconds"])
        seconds, events, streams = time.monotonic() - began, self.events, len(self.whole)
        whole = list(self.whole)
        self.is_over = True
        self.quiet = asyncio.Event()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.quiet.wait(), LAST_SECONDS_MAX)
        self.other["never ended"] += self.open
        return {
            "seconds": seconds,
            "events": events,
            "streams": streams,
            "first_event": summary(self.first or [0.0]),
            "whole": summary(whole or [0.0]),
            "errors": {what: count for what, count in self.other.items() if count},
        }


class Connection(asyncio.Protocol):
    """One connection, with one stream at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._began = 0.0
        self._has_first = False
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._client.open += 1
        self._send()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        client = self._client
        client.events += data.count(b"data: {")
        if not self._has_first:
            if not self._tail and not data.startswith(b"HTTP/1.1 200"):
                client.other[data[:12].decode("latin-1")] += 1
                self._transport.close()
                return
            self._has_first = b"data: " in data
            if self._has_first:
                client.first.append(time.monotonic() - self._began)
        self._tail = (self._tail + data)[-20:]
        if self._tail.endswith(b"0\r\n\r\n") and b"[DONE]" in self._tail:
            client.whole.append(time.monotonic() - self._began)
            if client.is_over:
                client.ended()
                self._transport.close()
            else:
                self._send()

    def connection_lost(self, _: Exception | None) -> None:
        """Called by the loop."""
        if not self._client.is_over:
            self._client.other["connection lost"] += 1
            self._client.ended()

    def _send(self) -> None:
        self._began = time.monotonic()
        self._has_first = False
        self._tail = b""
        self._transport.write(self._client.request)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(Client(json.load(sys.stdin)).run())))
