"""A raw HTTP/1.1 client and an upstream that answers at once: small, fast, and hiding nothing from a test."""

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import msgspec

from support.endpoint_cases import CHAT_CASE, EndpointCase, case_of

USAGE_TOTAL = CHAT_CASE.charged


class Answer(msgspec.Struct, kw_only=True):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json["error"]
        return error


class Connection:
    """One keep-alive connection to `base_url`'s host."""

    def __init__(self, base_url: str) -> None:
        self.host, port = base_url.split("/")[2].split(":")
        self.port = int(port)

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=2**24)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.writer.close()

    async def send(self, raw: bytes) -> Answer:
        """Write bytes as they are, and read one answer. Raises `IncompleteReadError` when there is none."""
        self.writer.write(raw)
        await self.writer.drain()
        return await self.read()

    async def read(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answer(status=int(status_line.split()[1]), headers=headers, body=body)

    async def request(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str | bytes] | None = None
    ) -> Answer:
        lines = [f"{method} {path} HTTP/1.1".encode(), b"host: test", f"content-length: {len(body)}".encode()]
        for name, value in (headers or {}).items():
            lines.append(name.encode() + b": " + (value if isinstance(value, bytes) else value.encode()))
        return await self.send(b"\r\n".join(lines) + b"\r\n\r\n" + body)

    async def chat(self, api_key: str, body: bytes) -> Answer:
        return await self.call(CHAT_CASE, api_key, body)

    async def call(self, case: EndpointCase, api_key: str, body: bytes | None = None) -> Answer:
        """Call an endpoint."""
        headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
        return await self.request("POST", case.path, case.body() if body is None else body, headers)


async def request(
    base_url: str, method: str, path: str, body: bytes = b"", headers: Mapping[str, str | bytes] | None = None
) -> Answer:
    """One request on a connection of its own."""
    async with Connection(base_url) as connection:
        return await connection.request(method, path, body, headers)


async def chat(base_url: str, api_key: str, body: bytes) -> Answer:
    """One chat completion on a connection of its own."""
    return await call(CHAT_CASE, base_url, api_key, body)


async def call(case: EndpointCase, base_url: str, api_key: str, body: bytes | None = None) -> Answer:
    """One call of an endpoint on a connection of its own."""
    async with Connection(base_url) as connection:
        return await connection.call(case, api_key, body)


def chat_body(content: str = "Hello", **more: object) -> bytes:
    """A small valid request for the model "demo"."""
    fields = {"model": "demo", "messages": [{"role": "user", "content": content}], "max_completion_tokens": 50}
    return msgspec.json.encode(fields | more)


class InstantUpstream:
    """Answers every request at once, and counts those whose answer was handed to the socket."""

    def __init__(self) -> None:
        self.answered = 0
        self.charges = 0
        """What the answers cost together."""
        self.gate = asyncio.Event()
        self.gate.set()
        self.arrived = asyncio.Event()

    async def __aenter__(self) -> Self:
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.gate.set()
        self.server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                request = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in request.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                body = await reader.readexactly(length)
                self.arrived.set()
                await self.gate.wait()
                case = case_of(request)
                self.answered += 1
                self.charges += case.charged
                await self.respond(case, body, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def respond(self, case: EndpointCase, request: bytes, writer: asyncio.StreamWriter) -> None:
        """Respond to one request."""
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        writer.write(head % len(case.answer_body) + case.answer_body)
