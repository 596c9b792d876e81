"""A load that does not wait: so many requests a second, whatever becomes of them. Its orders and its answer are JSON.

Orders: port, head and body of the request, per_second, warm_up_seconds, seconds, connections. Each millisecond it
sends what is due, a request on each connection that has none under way; where all have, it counts what it could not
send. It stops sending after `seconds`, and waits for what is under way. An answer is known by its first bytes: gateways
send it in one piece.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter, deque
from typing import Any, cast

import uvloop
from bench import summary

TICK_SECONDS = 0.001
LAST_SECONDS_MAX = 60.0
CONNECTING_AT_ONCE = 200
_ANSWER = b"HTTP/1.1 "


class Client:
    """All connections, and what was seen on them."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        body = orders["body"].encode()
        self.request = orders["head"].encode() + b"content-length: %d\r\n\r\n" % len(body) + body
        self.idle: deque[Connection] = deque()
        self.under_way = 0
        self.took: dict[str, list[float]] = {}
        self.other: Counter[str] = Counter()
        self.without_retry_after = 0
        self.quiet: asyncio.Event | None = None

    async def run(self) -> dict[str, Any]:
        """Connect, warm up, send, wait; gives what was seen from then on."""
        orders = self.orders
        for start in range(0, orders["connections"], CONNECTING_AT_ONCE):
            count = min(CONNECTING_AT_ONCE, orders["connections"] - start)
            await asyncio.gather(*(self.connect() for _ in range(count)))
        await self.offer(orders["warm_up_seconds"])
        self.took.clear()
        seconds, sent, unsent = await self.offer(orders["seconds"])
        while_offered = {status: len(took) for status, took in self.took.items()}
        self.quiet = asyncio.Event()
        if self.under_way:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.quiet.wait(), LAST_SECONDS_MAX)
        self.other["never answered"] += self.under_way
        return {
            "seconds": seconds,
            "sent": sent,
            "could_not_be_sent": unsent,
            "answered_meanwhile": while_offered,
            "answers": {status: summary(took) for status, took in self.took.items()},
            "other": {what: count for what, count in self.other.items() if count},
            "refusals_without_retry_after": self.without_retry_after,
        }

    def ended(self) -> None:
        """A request is not under way any more."""
        self.under_way -= 1
        if self.quiet is not None and not self.under_way:
            self.quiet.set()

    async def offer(self, for_seconds: float) -> tuple[float, int, int]:
        """Offer what is due; gives how long, how much was sent, and how much could not be."""
        unsent, due, sent = 0, 0.0, 0
        began = now = time.monotonic()
        while now < began + for_seconds:
            await asyncio.sleep(TICK_SECONDS)
            before, now = now, time.monotonic()
            due += (now - before) * self.orders["per_second"]
            while due >= 1:
                due -= 1
                if self.idle:
                    sent += 1
                    self.idle.popleft().send()
                else:
                    unsent += 1
        return now - began, sent, unsent

    async def connect(self) -> None:
        """One more connection; a failure is counted."""
        try:
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.orders["port"])
        except OSError as error:
            self.other[f"not connected: {type(error).__name__}"] += 1


class Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._sent_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)
        self._client.idle.append(self)

    def send(self) -> None:
        """Send the request."""
        self._client.under_way += 1
        self._sent_at = time.monotonic()
        self._transport.write(self._client.request)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._sent_at is None or not data.startswith(_ANSWER):
            return
        client = self._client
        status = data[9:12].decode()
        client.took.setdefault(status, []).append((time.monotonic() - self._sent_at) * 1000)
        if status == "503" and b"\r\nretry-after: " not in data:
            client.without_retry_after += 1
        client.ended()
        self._sent_at = None
        client.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        client = self._client
        if self._sent_at is not None:
            client.ended()
            client.other[f"connection lost: {type(exc).__name__ if exc else 'closed'}"] += 1
            self._sent_at = None
        elif self in client.idle:
            client.idle.remove(self)


if __name__ == "__main__":
    print(json.dumps(uvloop.run(Client(json.load(sys.stdin)).run())))
