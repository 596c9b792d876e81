"""Rows of raw requests, and a server that reports which requests it executed."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from support.echo import pieces, read_all
from tok0n.api.errors import EdgeError, error_response
from tok0n.http.head import RequestHead
from tok0n.http.message import Response
from tok0n.http.request import Request
from tok0n.http.server import HttpServer, ServerOptions, bind

HOST = b"Host: h\r\n"
GET = b"GET /a HTTP/1.1\r\n" + HOST
POST = b"POST /a HTTP/1.1\r\n" + HOST
LENGTH_2 = b"Content-Length: 2\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Row:
    """Bytes in, and the one right outcome.

    `pieces` arrive one after another, each in a packet of its own. `status` is that of the last response. `bodies` are
    the bodies that the application sees, of each request that it executes. `keeps` tells whether the connection can be
    used for another request.
    """

    name: str
    pieces: tuple[bytes, ...]
    status: int = 200
    code: str | None = None
    bodies: tuple[bytes, ...] = (b"",)
    keeps: bool = True
    half_closes: bool = False


def apart(data: bytes) -> tuple[bytes, ...]:
    """Each byte in a packet of its own."""
    return tuple(data[index : index + 1] for index in range(len(data)))


def rejected(name: str, *pieces: bytes, code: str = "invalid_request", status: int = 400) -> Row:
    """A row whose request is rejected, and whose connection is closed."""
    return Row(name=name, pieces=pieces, status=status, code=code, bodies=(), keeps=False)


@dataclass
class EchoServer:
    """An application that answers with what it saw, and remembers what it executed."""

    url: str = ""
    executed: list[dict[str, Any]] = field(default_factory=list)
    options: ServerOptions = field(default_factory=ServerOptions)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def handle(self, request: Request) -> Response:
        body = bytes(await read_all(request))
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers]
        seen = {
            "method": request.method.decode("ascii"),
            "path": request.path,
            "query": request.query.decode("latin-1"),
            "headers": headers,
            "body": body.decode("latin-1"),
        }
        self.executed.append(seen)
        if request.path == "/unknown-length":
            return Response(200, [], pieces(b"two ", b"pieces"))
        return Response(200, [(b"content-type", b"application/json")], json.dumps(seen).encode())


def render_error(code: str, message: str, _: RequestHead | None) -> Response:
    response = error_response(EdgeError(code, message))
    response.headers.append((b"x-request-id", b"req_test"))
    return response


@asynccontextmanager
async def echo_server() -> AsyncIterator[EchoServer]:
    """An `EchoServer` behind our HTTP server, on a free port."""
    app = EchoServer(options=ServerOptions(render_error=render_error))
    async with HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server:
        app.url = server.url
        yield app
