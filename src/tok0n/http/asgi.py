"""Run an ASGI application as a handler: each `Request` becomes a scope, and what the application sends a `Response`.

Source: the ASGI specification, HTTP connection scope, version 2.4. Lifespan, WebSockets and trailers are not supported.
"""

import asyncio
from collections.abc import AsyncIterable, Awaitable, Callable, MutableMapping
from typing import Any

import structlog

from tok0n.http.message import Headers, Response
from tok0n.http.request import Request, RequestAborted
from tok0n.http.server import ServerOptions

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger()

_VERSION = {"version": "3.0", "spec_version": "2.4"}


class AsgiBridge:
    """Adapts an ASGI application to `HttpServer`."""

    def __init__(self, app: AsgiApp, options: ServerOptions | None = None) -> None:
        self._app = app
        self.options = options or ServerOptions()

    async def handle(self, request: Request) -> Response:
        """Respond to one request."""
        return await run_asgi(self._app, request)


async def run_asgi(
    app: AsgiApp,
    request: Request,
    *,
    state: dict[str, Any] | None = None,
    log_fields: dict[str, str] | None = None,
) -> Response:
    """Run `app` for one request, and return its response as soon as the first piece of its body has arrived.

    `state` is the state in the scope, for values of the caller.

    If `app` fails after a complete response, as Starlette does after its error page, the log line has `log_fields`.

    Raises `RequestAborted` if the application ends without a response because the client left, and what `app` raises.
    """
    return await _AsgiCycle(app, request, state or {}).response(log_fields or {})


class _AsgiCycle:
    """One run of an application. It has a task of its own, because it may continue after `response` has returned."""

    def __init__(self, app: AsgiApp, request: Request, state: dict[str, Any]) -> None:
        self._app = app
        self._state = state
        self._request = request
        self._status = 0
        self._headers: Headers = []
        self._length: bytes | None = None
        self._stream: _Stream | None = None
        self._is_body_received = False
        self._response: asyncio.Future[Response] = asyncio.get_running_loop().create_future()

    async def response(self, log_fields: dict[str, str]) -> Response:
        """Start the application, and wait for the first piece of its response or for its end."""
        task = asyncio.ensure_future(self._app(_scope(self._request, self._state), self._receive, self._send))
        first: set[asyncio.Future[Any]] = {task, self._response}
        try:
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait({task})
            raise
        if not self._response.done():
            if self._request.is_aborted:
                task.exception()  # asyncio warns about unretrieved exceptions.
                raise RequestAborted
            task.result()
            raise RuntimeError("the application sent no response")
        self._request.track(task)
        if self._stream is None:
            task.add_done_callback(lambda ended: _log_failure(ended, log_fields))
        else:
            self._stream.start(task)
        return self._response.result()

    async def _receive(self) -> Message:
        if self._is_body_received:
            return {"type": "http.disconnect"}
        try:
            body = await self._request.receive()
        except RequestAborted:
            self._is_body_received = True
            return {"type": "http.disconnect"}
        self._is_body_received = self._request.is_complete and not self._request.body
        return {"type": "http.request", "body": body, "more_body": not self._is_body_received}

    async def _send(self, message: Message) -> None:
        if self._request.is_aborted:
            raise OSError("the client has left")  # the ASGI specification requires this
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = self._own_headers(message.get("headers", ()))
            return
        body, is_last = message.get("body", b""), not message.get("more_body", False)
        if not self._response.done():
            if is_last:
                if self._length is not None and int(self._length) != len(body) and self._request.method != b"HEAD":
                    raise ValueError("the body is not as long as its content-length")
                self._response.set_result(Response(self._status, self._headers, body))
                return
            if self._length is not None:
                self._headers.append((b"content-length", self._length))
            self._stream = _Stream()
            self._response.set_result(Response(self._status, self._headers, self._stream))
        assert self._stream is not None
        await self._stream.put(body, is_last=is_last)

    def _own_headers(self, headers: Headers) -> Headers:
        """Return the application's headers without those that the server adds."""
        kept = []
        for name, value in headers:
            if name == b"connection":
                self._request.keep_alive = self._request.keep_alive and value.lower() != b"close"
            elif name == b"content-length":
                self._length = value
            else:
                kept.append((name, value))
        return kept


class _Stream:
    """The pieces of a body that an application streams. It waits with each piece until the server takes it."""

    def __init__(self) -> None:
        self._pieces: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._is_ended = False
        self._task: asyncio.Future[None] | None = None

    def start(self, task: "asyncio.Future[None]") -> None:
        """Record the task of the application: the stream also ends when the task does."""
        self._task = task
        task.add_done_callback(lambda _: self._pieces.put_nowait(None))

    async def put(self, piece: bytes, *, is_last: bool) -> None:
        """Pass on a piece, and wait until the server takes it. The last one is not waited for."""
        if piece:
            self._pieces.put_nowait(piece)
        if is_last:
            self._is_ended = True
            self._pieces.put_nowait(None)
        else:
            await self._pieces.join()

    def __aiter__(self) -> "_Stream":
        return self

    async def __anext__(self) -> bytes:
        piece = await self._pieces.get()
        self._pieces.task_done()
        if piece is not None:
            return piece
        if self._is_ended:
            raise StopAsyncIteration
        assert self._task is not None
        self._task.result()
        raise RuntimeError("the application ended before its response")

    async def aclose(self) -> None:
        """Cancel the application unless it has sent its whole response."""
        assert self._task is not None
        if not self._is_ended:
            self._task.cancel()
        self._task.add_done_callback(_ignore_failure)


def _ignore_failure(task: "asyncio.Future[None]") -> None:
    """Retrieve the exception, because asyncio warns about unretrieved ones. The response is already truncated."""
    if not task.cancelled():
        task.exception()


def _log_failure(task: "asyncio.Future[None]", fields: dict[str, str]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("unexpected_error", exc_info=task.exception(), **fields)


def _scope(request: Request, state: dict[str, Any]) -> Scope:
    head = request.head
    return {
        "type": "http",
        "asgi": _VERSION,
        "http_version": "1.0" if head.is_http_10 else "1.1",
        "server": request.server_address,
        "client": request.client_address,
        "scheme": "http",
        "root_path": "",
        "headers": list(head.headers),
        "state": state,
        "method": head.method.decode("ascii"),
        "path": request.path,
        "raw_path": request.raw_path,
        "query_string": request.query,
    }


async def read_at_most(stream: AsyncIterable[bytes], bytes_max: int) -> bytes | None:
    """Return a request's complete body, or None as soon as it exceeds `bytes_max`."""
    parts: list[bytes] = []
    size = 0
    async for part in stream:
        size += len(part)
        if size > bytes_max:
            return None
        parts.append(part)
    return b"".join(parts)
