"""An upstream over a real socket whose streams a test writes piece by piece. It answers whole requests at once."""

import asyncio
from types import TracebackType
from typing import Self

from support.endpoint_cases import case_of
from support.scripted_upstream import http, reset

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


class Exchange:
    """One request for a stream, and its response, which the test writes. `is_left`: the gateway has left it."""

    def __init__(self, head: bytes, request: bytes, writer: asyncio.StreamWriter) -> None:
        self.case = case_of(head)
        self.request = request
        self.ended = asyncio.Event()
        self.is_left = False
        self._writer = writer
        self._has_begun = False

    def send(self, events: bytes) -> None:
        """Send events in one chunk of the transfer coding."""
        head = b"" if self._has_begun else HEAD
        self._has_begun = True
        self._writer.write(head + b"%x\r\n%b\r\n" % (len(events), events))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._has_begun = True
        self._writer.write(data)

    async def drain(self) -> None:
        """Wait until the gateway has read enough of what was sent."""
        await self._writer.drain()

    def complete(self, events: bytes = b"") -> None:
        """Send the last events, and end the body."""
        if events:
            self.send(events)
        self._writer.write(b"0\r\n\r\n")
        self.ended.set()

    def close(self) -> None:
        """Close the connection without the end of the body."""
        self._writer.close()
        self.ended.set()

    async def reset(self) -> None:
        """Reset the connection."""
        await reset(self._writer)
        self.ended.set()


class StreamingUpstream:
    """Listens on a free port. Unless `answers_streams` is false, it answers streams at once too."""

    def __init__(self, *, answers_streams: bool = False) -> None:
        self.answers_streams = answers_streams
        self.completed = 0
        """How many streams have ended completely."""
        self.open: set[Exchange] = set()
        self._exchanges: asyncio.Queue[Exchange] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=4096)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def next(self) -> Exchange:
        """Wait for a request for a stream."""
        async with asyncio.timeout(20):
            return await self._exchanges.get()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                await self._respond(head, await reader.readexactly(length), reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()

    async def _respond(
        self, head: bytes, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        exchange = Exchange(head, request, writer)
        if b'"stream":true' not in request:
            writer.write(http(exchange.case.answer_body))
            return
        if self.answers_streams:
            exchange.complete(exchange.case.streaming.whole)
            return
        self.open.add(exchange)
        self._exchanges.put_nowait(exchange)
        leaving = asyncio.create_task(reader.read(1))
        ending = asyncio.create_task(exchange.ended.wait())
        try:
            await asyncio.wait([leaving, ending], return_when=asyncio.FIRST_COMPLETED)
            exchange.is_left = not exchange.ended.is_set()
        finally:
            self.open.discard(exchange)
            leaving.cancel()
            ending.cancel()
            await asyncio.gather(leaving, ending, return_exceptions=True)
        if exchange.is_left:
            raise ConnectionResetError
        self.completed += 1
