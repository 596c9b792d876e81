"""An application that responds with what it received, and a connection to a server of it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from support.http import Connection
from tok0n.http.asgi import Send
from tok0n.http.limits import HttpLimits
from tok0n.http.message import Headers, Response
from tok0n.http.request import Request, RequestAborted
from tok0n.http.server import HttpApp, HttpServer, ServerOptions, bind

PACED_PATH = "/paced"

LARGE_BODY_BYTES = 32 * 1024 * 1024
"""More than the kernel buffers while the client reads nothing."""

BY_NAME = ServerOptions(
    paced_paths=[PACED_PATH], client_key=lambda address, headers: dict(headers).get(b"x-client", address)
)
"""Identifies a client by a header, and a connection without a request by its address."""


class Echo:
    """Responds with the body of the request, or in the way that the path names."""

    def __init__(self, options: ServerOptions | None = None, *, limits: HttpLimits | None = None) -> None:
        self.options = options or ServerOptions(paced_paths=[PACED_PATH], limits=limits or HttpLimits())
        self.client_has_left = asyncio.Event()

    async def handle(self, request: Request) -> Response:  # noqa: C901  one case for each path
        try:
            body = await read_all(request)
        except RequestAborted:
            self.client_has_left.set()
            raise
        match request.path:
            case "/pieces":
                return Response(200, [], pieces(b"one", b"", b"two"))
            case "/no-content":
                return Response(204, [], pieces(b"one"))
            case "/large":
                return Response(200, [], bytes(LARGE_BODY_BYTES))
            case "/split-header":
                return Response(200, [(b"x-a", b"b\r\nx-c: d")], b"")
            case "/too-short":
                return Response(200, [(b"content-length", b"9")], pieces(b"one"))
            case "/too-long":
                return Response(200, [(b"content-length", b"2")], pieces(b"one"))
            case "/fails":
                raise ValueError("it fails")
            case "/fails-late":
                return Response(200, [], failing_pieces())
            case "/stalls":
                return Response(200, [], stalling_pieces())
            case _:
                headers = [(b"x-path", request.path.encode()), (b"x-query", request.query)]
                if request.is_overloaded:
                    headers.append((b"x-overloaded", b"yes"))
                return Response(200, headers, body)


async def read_all(request: Request) -> bytes | bytearray:
    if request.is_complete:
        return request.body
    body = bytearray()
    while piece := await request.receive():
        body += piece
    return body


async def pieces(*parts: bytes) -> AsyncGenerator[bytes, None]:
    for part in parts:
        yield part


async def failing_pieces() -> AsyncGenerator[bytes, None]:
    yield b"one"
    raise ValueError("it fails")


async def stalling_pieces() -> AsyncGenerator[bytes, None]:
    yield b"one"
    await asyncio.Event().wait()


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send one whole response as an ASGI application does."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connect(app: HttpApp) -> AsyncIterator[Connection]:
    async with (
        HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server,
        Connection(server.url) as connection,
    ):
        yield connection
