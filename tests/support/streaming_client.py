"""A raw client of one stream: it sees each chunk of the transfer coding, and every way in which a response can end."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from support.endpoint_cases import CHAT_CASE, EndpointCase, Event, parse_events
from support.http import Answer, Connection
from support.scripted_upstream import reset

SECONDS_MAX = 20.0


class StreamClient:
    """Asks for one stream on a connection of its own, which it closes when the context ends."""

    def __init__(
        self, base_url: str, api_key: str, body: bytes | None = None, *, case: EndpointCase = CHAT_CASE
    ) -> None:
        self.case = case
        self._connection = Connection(base_url)
        self._api_key = api_key
        self._body = body or case.body(is_stream=True)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.received = bytearray()
        """The bytes of the body without its transfer coding."""
        self.is_complete = False
        """Whether the last chunk of the transfer coding has come."""

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        self.writer = self._connection.writer
        self.reader = self._connection.reader
        head = f"POST {self.case.path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self._api_key}\r\n"
        self.writer.write(f"{head}content-length: {len(self._body)}\r\n\r\n".encode() + self._body)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()

    async def begun(self) -> Self:
        """Read the head of the stream."""
        async with asyncio.timeout(SECONDS_MAX):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.split("\r\n")
        self.status = int(status_line.split()[1])
        self.headers = dict(line.split(": ", 1) for line in lines if line)
        assert self.status == 200, head
        return self

    async def rejected(self) -> Answer:
        """Read the error that came instead of a stream."""
        async with asyncio.timeout(SECONDS_MAX):
            return await self._connection.read()

    async def until(self, is_enough: Callable[[list[Event]], bool]) -> list[Event]:
        """Read until the events received are enough. Returns them."""
        async with asyncio.timeout(SECONDS_MAX):
            while not is_enough(self.events):
                assert await self._read_chunk(), "the stream has ended"
        return self.events

    async def text(self, text: str) -> None:
        """Read until the content received ends with `text`."""
        await self.until(lambda _: self.content.endswith(text))

    async def ended(self) -> list[Event]:
        """Read to the end of the body, or of the connection. Returns the events."""
        async with asyncio.timeout(SECONDS_MAX):
            while await self._read_chunk():
                pass
        return self.events

    async def closed(self) -> bool:
        """Wait until the server closes the connection. Returns whether it sent nothing before that."""
        async with asyncio.timeout(SECONDS_MAX):
            return await self.reader.read(1) == b""

    async def reset(self) -> None:
        """Reset the connection."""
        await reset(self.writer)

    @property
    def request_id(self) -> str:
        """The id of the request."""
        return self.headers["x-request-id"]

    @property
    def events(self) -> list[Event]:
        """The whole events received, without comments."""
        return parse_events(self.received)

    @property
    def content(self) -> str:
        """The text of all events received."""
        return self.case.streaming.text(self.events)

    @property
    def has_end(self) -> bool:
        """Whether the last event says that the answer is complete, and so is the body."""
        return self.is_complete and bool(self.events) and self.case.streaming.is_end(self.events[-1])

    async def _read_chunk(self) -> bool:
        """Read one chunk of the transfer coding. Returns False after the last one, or if the connection ends."""
        try:
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        self.received += data[:-2]
        self.is_complete = not size
        return size > 0
