"""One request and its response: collects the body as it arrives, and writes the response in one piece where it can.

The connection feeds it and is told when the response was sent. The application sees it as ASGI, or as a `FastRequest`.
"""

import asyncio
import http
from collections.abc import Hashable
from typing import TYPE_CHECKING

import structlog

from tok0n.http.asgi import BODY_HOLD, AsgiApp, Headers, Message, Scope, WholeAnswer
from tok0n.http.buffered import Hold
from tok0n.http.head import RequestHead

if TYPE_CHECKING:
    from tok0n.http.connection import Connection

log = structlog.get_logger()

UNREAD_BODY_BYTES_MAX = 64 * 1024
"""How much of a body waits for the application before the connection stops reading."""

UNCOUNTED_BODY_BYTES = 4 * 1024
"""Smaller bodies are not counted: their connections are bounded, and counting would cost more than they do."""

STATUS_LINE = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}

_WITHOUT_BODY = frozenset({204, 304})
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Exchange:
    """One request and its response."""

    __slots__ = (
        "_app_waiter",
        "_connection",
        "_head",
        "_hold",
        "_holder",
        "_is_body_delivered",
        "_is_chunked",
        "_is_counted",
        "_length_left",
        "awaits_continue",
        "body",
        "body_bytes",
        "disconnected",
        "is_body_complete",
        "is_finished",
        "is_started",
        "keep_alive",
        "named",
        "rejection",
        "request",
    )

    def __init__(self, connection: "Connection", request: RequestHead) -> None:
        self._connection = connection
        self.request = request
        self.named = request.named
        self.keep_alive = request.keep_alive
        self.awaits_continue = request.expects_continue
        self.body: bytes | bytearray = b""
        self.is_body_complete = False
        self.is_started = False
        self.is_finished = False
        self.disconnected = False
        self.rejection: int | None = None
        self._is_body_delivered = False
        self._app_waiter: asyncio.Future[None] | None = None
        self._head: bytes | None = None
        self._is_chunked = False
        self._length_left: int | None = None
        self._hold: Hold | None = None
        self._holder: Hashable | None = None
        self._is_counted = True
        self.body_bytes = 0

    @property
    def has_begun(self) -> bool:
        """Whether something of the response may have been sent."""
        return self._head is not None

    @property
    def is_body_unread(self) -> bool:
        """Whether so much of the body waits for the application that no more should be read."""
        return len(self.body) > UNREAD_BODY_BYTES_MAX

    # What the connection does

    def add_body(self, body: bytes) -> None:
        """Take bytes of the body that arrived. They are dropped once the response was sent."""
        if self.is_finished or self.disconnected:
            return
        if not self.body:
            self.body = body
        else:
            if type(self.body) is bytes:
                self.body = bytearray(self.body)
            self.body += body
        self.body_bytes = body_bytes = self.body_bytes + len(body)
        if body_bytes > UNCOUNTED_BODY_BYTES and self._is_counted:
            self._count(len(body))
        if self._app_waiter is not None:
            self._wake_app()

    def complete_body(self) -> None:
        """The body has arrived completely."""
        self.is_body_complete = True
        if type(self.body) is not bytes:
            self.body = bytes(self.body)
        if self._app_waiter is not None:
            self._wake_app()

    def disconnect(self) -> None:
        """The client has left, or was rejected: the application is told, and nothing more is written."""
        self.disconnected = True
        self.body = b""
        self.admitted()
        self._wake_app()

    def _wake_app(self) -> None:
        """Wake the application if it waits for the next ASGI message."""
        if self._app_waiter is not None and not self._app_waiter.done():
            self._app_waiter.set_result(None)

    # Counting the body

    def _count(self, size: int) -> None:
        """Count bytes that arrived; reject the request where they are too many."""
        if self._hold is None:
            size = self.body_bytes
            self._hold = self._connection.hold(self, self._holder)
        code = self._hold.add(size)
        if code is not None:
            self._connection.reject_body(self, code)

    def assign(self, holder: Hashable) -> str | None:
        """See `asgi.BodyHold`."""
        self._holder = holder
        return None if self._hold is None else self._hold.move(holder)

    def admitted(self) -> None:
        """See `asgi.BodyHold`."""
        self._is_counted = False
        if self._hold is not None:
            self._hold.release()
            self._hold = None

    # The application

    async def run(self, app: AsgiApp, scope: Scope) -> None:
        """Have the application respond by ASGI. If it fails, so does the response."""
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            log.exception("unexpected_error")
        finally:
            self.fail_unfinished()

    def answer(self, answer: WholeAnswer) -> None:
        """Send a whole response."""
        status, lines, body = answer
        if not self.is_body_complete:
            self._stop_keep_alive_if_body_is_missing()
        length = (
            b"content-length: %d\r\n\r\n" if self.keep_alive else b"connection: close\r\ncontent-length: %d\r\n\r\n"
        )
        self._head = b""
        self._connection.write(b"".join((STATUS_LINE[status], lines, length % len(body), body)))
        self._finish()

    def scope(self, connection: "Connection", path: str, raw_path: bytes, query: bytes) -> Scope:
        """The request as ASGI describes it."""
        request = self.request
        return {
            "type": "http",
            "asgi": _ASGI,
            "http_version": "1.0" if request.is_http_10 else "1.1",
            "server": connection.server_address,
            "client": connection.client_address,
            "scheme": "http",
            "root_path": "",
            "headers": list(request.headers),
            "state": {},
            "method": request.method.decode("ascii"),
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "extensions": {BODY_HOLD: self},
        }

    async def _receive(self) -> Message:
        connection = self._connection
        if self.awaits_continue and not self.disconnected:
            self.awaits_continue = False
            if self._head is None:
                connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while not self._has_message():
            connection.update_reading()
            self._app_waiter = connection.loop.create_future()
            await self._app_waiter
        if self.disconnected or self.is_finished:
            return {"type": "http.disconnect"}
        body, self.body = bytes(self.body), b""
        self._is_body_delivered = self.is_body_complete
        connection.update_reading()
        return {"type": "http.request", "body": body, "more_body": not self.is_body_complete}

    def _has_message(self) -> bool:
        """Whether there is something for the application to receive."""
        if self.disconnected or self.is_finished or self.body:
            return True
        return self.is_body_complete and not self._is_body_delivered

    async def _send(self, message: Message) -> None:
        if self._connection.is_write_paused and not self.disconnected:
            await self._connection.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._write_head(message["status"], message.get("headers", ()))
        else:
            self._write_body(message.get("body", b""), more=message.get("more_body", False))

    # The response

    def _stop_keep_alive_if_body_is_missing(self) -> None:
        """Without the rest of the body, the next request has no beginning."""
        self.awaits_continue = False
        if not self.is_body_complete:
            self.keep_alive = False

    def _write_head(self, status: int, headers: Headers) -> None:
        """Render the head; it is sent with the first piece of the body."""
        assert self._head is None
        self._stop_keep_alive_if_body_is_missing()
        lines = [STATUS_LINE[status][:-2]]
        length: int | None = None
        for name, value in headers:
            if name == b"connection":
                self.keep_alive = self.keep_alive and value.lower() != b"close"
                continue
            lines.append(b"%b: %b" % (name, value))
            if name == b"content-length":
                length = int(value)
        if self.request.method == b"HEAD" or status in _WITHOUT_BODY:
            self._length_left = 0
        elif length is not None:
            self._length_left = length
        elif self.request.is_http_10:
            self.keep_alive = False
        else:
            self._is_chunked = True
            lines.append(b"transfer-encoding: chunked")
        if not self.keep_alive:
            lines.append(b"connection: close")
        head = b"\r\n".join((*lines, b"\r\n"))
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
            raise ValueError("a header has a line break")
        self._head = head

    def _write_body(self, body: bytes, *, more: bool) -> None:
        assert self._head is not None
        assert not self.is_finished
        head, self._head = self._head, b""
        if self.request.method == b"HEAD":
            self._connection.write(head)
        elif self._is_chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            end = b"" if more else b"0\r\n\r\n"
            self._connection.write(b"".join((head, piece, end)))
        else:
            if self._length_left is not None:
                self._length_left -= len(body)
                assert self._length_left == 0 or (more and self._length_left > 0), "content-length is not the body's"
            self._connection.write(head + body if head else body)
        if not more:
            self._finish()

    def _finish(self) -> None:
        self.is_finished = True
        self.body = b""
        if self._hold is not None:
            self.admitted()
        if self._app_waiter is not None:
            self._wake_app()
        self._connection.on_response_complete(self)

    def fail_unfinished(self) -> None:
        """End an exchange that the application left without a complete response."""
        if self.is_finished or self.disconnected:
            return
        self.keep_alive = False
        self._connection.fail_response(self)
