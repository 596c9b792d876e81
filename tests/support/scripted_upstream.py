"""An upstream that does, byte for byte, whatever a test wants: every way there is to fail."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import msgspec

from support.endpoint_cases import CHAT_CASE, EndpointCase, case_of
from support.fakes import ANSWER

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]

USAGE = b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}'


def http(
    body: bytes, *, status: int = 200, headers: str = "content-type: application/json\r\n", length: int | None = None
) -> bytes:
    """One answer as bytes; a wrong `length` makes a body that is cut."""
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\n\r\n".encode() + body


def raw(data: bytes, *, close: bool = False) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        if close:
            writer.close()

    return behave


def ok(body: bytes = ANSWER) -> Behaviour:
    return raw(http(body))


async def well(writer: asyncio.StreamWriter) -> None:
    """Give a good answer: of chat, or as the behaviour of a `ScriptedUpstream` of the endpoint that is asked."""
    await ok()(writer)


def status(code: int, body: bytes = b'{"error":{"message":"It failed.","type":"server_error"}}') -> Behaviour:
    return raw(http(body, status=code))


def usage(text: bytes) -> Behaviour:
    return ok(ANSWER.replace(USAGE, text))


def _counts(case: EndpointCase) -> dict[str, Behaviour]:
    """Return answers with impossible values of the first count of tokens, and of the total."""
    answers: dict[str, Behaviour] = {}
    for member in (case.count, "total_tokens"):
        before, name, rest = case.answer_body.partition(b'"%b":' % member.encode())
        if name:
            rest = rest.lstrip(b"0123456789")
            answers |= {f"{member} {kind}": ok(before + name + value + rest) for kind, value in COUNTS.items()}
    return answers


def after(event: asyncio.Event, behaviour: Behaviour) -> Behaviour:
    """Answer as `behaviour` does, but only once the event is set."""

    async def delayed(writer: asyncio.StreamWriter) -> None:
        await event.wait()
        await behaviour(writer)

    return delayed


async def hang(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def slow_drip(writer: asyncio.StreamWriter) -> None:
    """A byte every few milliseconds: each read succeeds, the whole answer never ends in time."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.005)


def huge(*, chunked: bool, total_bytes: int = 2 * 1024**3) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter) -> None:
        head = "transfer-encoding: chunked" if chunked else "x: y"
        writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n{'' if chunked else f'content-length: {total_bytes}'}".encode())
        writer.write(b"\r\n" if chunked else b"\r\n\r\n")
        piece = b" " * 0x10000
        for _ in range(total_bytes // len(piece)):
            writer.write(b"10000\r\n" + piece + b"\r\n" if chunked else piece)
            await writer.drain()

    return behave


async def endless_headers(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while not writer.is_closing():
        writer.write(b"x-more: " + b"y" * 1000 + b"\r\n")
        await writer.drain()


async def endless_interim(writer: asyncio.StreamWriter) -> None:
    while not writer.is_closing():
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()


REDIRECT = raw(b"HTTP/1.1 307 X\r\nlocation: /v1/chat/completions\r\ncontent-length: 0\r\n\r\n")
"""To the same server, so that a client that follows it is seen to ask again."""


def faults_of(case: EndpointCase) -> dict[str, Behaviour]:
    """Return every failure of an upstream that any endpoint can meet, except "refused", which needs no server."""
    answer = case.answer_body
    usage = msgspec.json.encode(case.answer("Hello.").get("usage"))
    return {
        "timeout": hang,
        "reset": reset,
        "closed without a word": raw(b"", close=True),
        "cut body": raw(http(answer, length=len(answer) + 10), close=True),
        "cut chunked body": raw(b"HTTP/1.1 200 X\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{}   \r\n", close=True),
        "cut head": raw(b"HTTP/1.1 200 X\r\ncontent-le", close=True),
        "slow drip": slow_drip,
        "huge body, announced": huge(chunked=False),
        "huge body, chunked": huge(chunked=True),
        "endless headers": endless_headers,
        "endless interim answers": endless_interim,
        "redirect": REDIRECT,
        "not http": raw(b"SSH-2.0-OpenSSH\r\n\r\n", close=True),
        "upgrade": raw(b"HTTP/1.1 101 X\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"),
        "compressed": raw(http(b"\x1f\x8b", headers="content-encoding: gzip\r\n")),
        "created": raw(http(answer, status=201)),
        "no content": raw(b"HTTP/1.1 204 X\r\n\r\n"),
        "401": status(401, b'{"error":{"message":"Incorrect API key provided: sk-operator-secret-123456"}}'),
        "402": status(402),
        "403": status(403),
        "404": status(404),
        "429": status(429),
        "500": status(500),
        "503": status(503),
        "400 of the operator's": status(
            400, b'{"error":{"message":"Your organization is gone","type":"invalid_request_error","code":"billing_x"}}'
        ),
        "400 without words": status(400, b"<html>"),
        "html": raw(http(b"<html><body>hello</body></html>", headers="content-type: text/html\r\n")),
        "empty": ok(b""),
        "broken json": ok(answer[:-5]),
        "100,000-deep json": ok(b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "a list": ok(b"[]"),
        "an object": ok(b'{"usage":%b}' % usage),
        "invalid utf-8": ok(answer[:-1] + b',"x":"\xff\xfe"}'),
        "an error in a 200": ok(b'{"error":{"message":"It failed."}}'),
        "usage null": ok(answer.replace(usage, b"null") if usage in answer else b"{}"),
        **_counts(case),
    }


COUNTS = {
    "negative": b"-1",
    "string": b'"9"',
    "bool": b"true",
    "float": b"9.0",
    "2^63": b"9223372036854775808",
    "2^53 + 1": b"9007199254740993",
    "30 digits": b"9" * 30,
    "NaN": b"NaN",
    "1e999": b"1e999",
    "1e2": b"1e2",
}
"""Counts of tokens that no report may have."""

FAULTS: dict[str, Behaviour] = faults_of(CHAT_CASE) | {
    "no choices": ok(b'{"usage":' + USAGE + b"}"),
    "choices empty": ok(b'{"choices":[],"usage":' + USAGE + b"}"),
    "choices strange": ok(b'{"choices":[1],"usage":' + USAGE + b"}"),
    "no message": ok(b'{"choices":[{"index":0}],"usage":' + USAGE + b"}"),
    "usage missing": ok(ANSWER.replace(b',"usage":' + USAGE, b"")),
    "usage empty": usage(b"{}"),
    "usage a list": usage(b"[]"),
    "usage zero": usage(b'{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}'),
    "usage total too small": usage(b'{"prompt_tokens":9,"completion_tokens":3,"total_tokens":11}'),
    "usage without a total": usage(b'{"prompt_tokens":9,"completion_tokens":3}'),
}
"""Every failure of an upstream of chat. All of them are a 502."""


class ScriptedUpstream:
    """Listens on a free port. Each request is answered by `behaviour`, which a test may change at any time.

    Without a behaviour, each endpoint gets a good answer.
    """

    def __init__(self, behaviour: Behaviour | None = None) -> None:
        self.behaviour = behaviour or well
        self.requests: list[bytes] = []
        self.connections = 0
        self.closed_connections = 0
        self.changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=2**24)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.base_url = f"http://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def bodies(self) -> list[bytes]:
        return [request.partition(b"\r\n\r\n")[2] for request in self.requests]

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something that this upstream sees is so."""
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self.changed.set()
        try:
            await self._serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.closed_connections += 1
            self.changed.set()
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            head = await reader.readuntil(b"\r\n\r\n")
            lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
            body = await reader.readexactly(int(lengths[0].split(b":")[1]))
            self.requests.append(head + body)
            self.changed.set()
            behaviour = ok(case_of(head).answer_body) if self.behaviour is well else self.behaviour
            behaving = asyncio.ensure_future(behaviour(writer))
            leaving = asyncio.ensure_future(reader.read(1)) if behaviour is hang else None
            if leaving is None:
                await behaving
                continue
            await asyncio.wait([behaving, leaving], return_when=asyncio.FIRST_COMPLETED)
            behaving.cancel()
            return
