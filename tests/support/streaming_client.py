"""A raw client of one stream: it sees each chunk of the transfer coding, and every way in which a response can end."""

import asyncio
import json
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from support.http import Answer, Connection, chat_body
from support.scripted_upstream import reset

Event = dict[str, Any] | str
"""A chunk of the stream, or "[DONE]"."""

SECONDS_MAX = 20.0


class StreamClient:
    """Asks for one stream on a connection of its own, which it closes when the context ends."""

    def __init__(
        self, base_url: str, api_key: str, body: bytes | None = None, *, path: str = "/v1/chat/completions"
    ) -> None:
        self._connection = Connection(base_url)
        self._api_key = api_key
        self._path = path
        self._body = body or chat_body(stream=True, stream_options={"include_usage": True})
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
        head = f"POST {self._path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self._api_key}\r\n"
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
        """Decode the whole events received. Comments are dropped."""
        whole, _, _ = bytes(self.received).rpartition(b"\n\n")
        lines = [line.removeprefix(b"data: ") for line in whole.split(b"\n") if line.startswith(b"data: ")]
        return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]

    @property
    def content(self) -> str:
        """The text of all chunks received."""
        choices = [event["choices"] for event in self.events if isinstance(event, dict) and "choices" in event]
        return "".join(choice["delta"].get("content", "") for (choice, *_) in filter(None, choices))

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
