"""What the conformance tests share: rows of raw requests, and a server that reports which requests it executed."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tok0n.api.errors import EdgeError, error_answer
from tok0n.http.asgi import Receive, Scope, Send, WholeAnswer, header_lines, respond
from tok0n.http.head import RequestHead
from tok0n.http.server import Edge, HttpServer, bind


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


@dataclass
class EchoServer:
    """An application that answers with what it saw, and remembers what it executed."""

    url: str = ""
    executed: list[dict[str, Any]] = field(default_factory=list)
    edge: Edge = field(default_factory=Edge)

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]]
        seen = {
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "headers": headers,
            "body": body.decode("latin-1"),
        }
        self.executed.append(seen)
        if scope["path"] == "/unknown-length":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"two ", "more_body": True})
            await send({"type": "http.response.body", "body": b"pieces"})
        else:
            await respond(send, 200, [(b"content-type", b"application/json")], json.dumps(seen).encode())


def render_error(code: str, message: str, _: RequestHead | None) -> WholeAnswer:
    status, headers, body = error_answer(EdgeError(code, message))
    return status, header_lines([*headers, (b"x-request-id", b"req_test")]), body


@asynccontextmanager
async def echo_server() -> AsyncIterator[EchoServer]:
    """An `EchoServer` behind our HTTP server, on a free port."""
    app = EchoServer(edge=Edge(render_error=render_error))
    async with HttpServer(app, bind("127.0.0.1", 0), shutdown_seconds=5) as server:
        app.url = server.url
        yield app
