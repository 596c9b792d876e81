"""One request on one connection, and its answer: what comes is put together, what goes is one write.

It knows its connection (`http_protocol.py`) as what it writes to, and tells it when the answer is sent.
"""

import asyncio
from typing import TYPE_CHECKING, Any

import structlog
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from tok0n.web.asgi import AsgiApp, Headers, Message, Scope, ShortWay, WholeAnswer
from tok0n.web.openai.errors import TABLE, UNEXPECTED, error_body

if TYPE_CHECKING:
    from tok0n.web.http_protocol import HttpProtocol

log = structlog.get_logger()

_WITHOUT_BODY = frozenset({204, 304})


class Exchange:
    """One request and its answer, as ASGI. The names are those that uvicorn's protocol knows its cycle by."""

    __slots__ = (
        "_body",
        "_body_left",
        "_has_news",
        "_head",
        "_is_chunked",
        "_more_body",
        "_protocol",
        "_waiter",
        "awaits_continue",
        "disconnected",
        "headers",
        "keep_alive",
        "method",
        "response_complete",
        "started",
        "url",
        "version",
    )

    def __init__(
        self, protocol: "HttpProtocol", *, url: bytes, headers: Headers, method: bytes, version: str, keep_alive: bool
    ) -> None:
        self._protocol = protocol
        self.url = url
        self.headers = headers
        self.method = method
        self.version = version
        self.awaits_continue = protocol.expect_100_continue
        self._body: bytes | bytearray = b""
        self._more_body = True
        self._has_news = False
        self._waiter: asyncio.Future[None] | None = None
        self._head: bytes | None = None
        self._is_chunked = False
        self._body_left: int | None = None
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_complete = False
        self.started = False

    @property
    def body_came_at_once(self) -> bool:
        """Whether nothing of the body is missing, and nobody waits to be told to send it."""
        return self.came_whole and not self.awaits_continue

    @property
    def came_whole(self) -> bool:
        """Whether nothing of the body is missing."""
        return not self._more_body

    @property
    def has_begun(self) -> bool:
        """Whether something of the answer may have been sent."""
        return self._head is not None

    @property
    def message_event(self) -> "Exchange":
        """What the protocol sets when the client has left."""
        return self

    def set(self) -> None:
        """There is something to receive."""
        self._has_news = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def add(self, body: bytes) -> None:
        """A piece of the request's body has come."""
        if self.response_complete:
            return
        if not self._body:
            self._body = body
        else:
            if type(self._body) is bytes:
                self._body = bytearray(self._body)
            self._body += body
        if len(self._body) > HIGH_WATER_LIMIT:
            self._protocol.flow.pause_reading()
        self.set()

    def body_is_whole(self) -> None:
        """The request's body has come to its end."""
        self._more_body = False
        if len(self._body) > HIGH_WATER_LIMIT and not self._protocol.pipeline:
            self._protocol.flow.resume_reading()  # so that we notice when the client leaves
        self.set()

    async def run(self, app: AsgiApp, scope: Scope) -> None:
        """Have the application answer by ASGI; an answer that it cannot bring to its end ends the connection."""
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            log.exception("unexpected_error")
        finally:
            if not self.response_complete and not self.disconnected:
                self._give_up()

    async def run_short(self, short_way: ShortWay) -> None:
        """Have it answer by its short way; one that fails ends the connection too."""
        flow = self._protocol.flow
        body, self._body = bytes(self._body), b""
        try:
            answer = await short_way.answer(self.headers, body)
            if flow.write_paused and not self.disconnected:
                await flow.drain()
            if not self.disconnected:
                self.answer(answer)
        except Exception:
            log.exception("unexpected_error")
        finally:
            if not self.response_complete and not self.disconnected:
                self._give_up()

    def answer(self, answer: WholeAnswer) -> None:
        """Send a whole answer."""
        status, lines, body = answer
        length = (
            b"content-length: %d\r\n\r\n" if self.keep_alive else b"connection: close\r\ncontent-length: %d\r\n\r\n"
        )
        self._head = b""
        self._protocol.transport.write(b"".join((STATUS_LINE[status], lines, length % len(body), body)))
        self._end()

    def _give_up(self) -> None:
        self.keep_alive = False
        if self._head is not None:
            self._protocol.transport.close()
            return
        body = error_body(message=UNEXPECTED, code="api_error")
        length = str(len(body)).encode()
        self._begin(TABLE["api_error"][0], [(b"content-type", b"application/json"), (b"content-length", length)])
        self._go_on(body, more=False)

    async def _receive(self) -> Message:
        protocol = self._protocol
        if self.awaits_continue and not protocol.transport.is_closing():
            protocol.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.awaits_continue = False
        if not self.disconnected and not self.response_complete:
            protocol.flow.resume_reading()
            if not self._has_news:
                self._waiter = protocol.loop.create_future()
                await self._waiter
            self._has_news = False
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        body, self._body = bytes(self._body), b""
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    async def _send(self, message: Message) -> None:
        if self._protocol.flow.write_paused and not self.disconnected:
            await self._protocol.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start":
            self._begin(message["status"], message.get("headers", ()))
        else:
            self._go_on(message.get("body", b""), more=message.get("more_body", False))

    def _begin(self, status: int, headers: Any) -> None:
        """Write the head down; it is sent with the first piece of the body."""
        assert self._head is None
        self.awaits_continue = False
        parts = [STATUS_LINE[status]]
        length: int | None = None
        closes = False
        for name, value in headers:
            parts += (name, b": ", value, b"\r\n")
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                closes = value.lower() == b"close"
        lines = 1 + len(headers)
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            parts.append(b"connection: close\r\n")
            lines += 1
        if self.method == b"HEAD" or status in _WITHOUT_BODY:
            self._body_left = 0
        elif length is None:
            self._is_chunked = True
            parts.append(b"transfer-encoding: chunked\r\n")
            lines += 1
        else:
            self._body_left = length
        self._head = b"".join((*parts, b"\r\n"))
        if self._head.count(b"\n") != lines + 1 or self._head.count(b"\r") != lines + 1:
            raise ValueError("a header holds a line break")

    def _go_on(self, body: bytes, *, more: bool) -> None:
        assert self._head is not None
        assert not self.response_complete
        head, self._head = self._head, b""
        if self._is_chunked:
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            end = b"" if more else b"0\r\n\r\n"
            self._write(b"".join((head, piece, end)))
        elif self.method == b"HEAD":
            self._write(head)
        else:
            assert self._body_left is not None
            self._body_left -= len(body)
            assert self._body_left == 0 or (more and self._body_left > 0), "content-length is not the body's"
            self._write(head + body if head else body)
        if not more:
            self._end()

    def _write(self, data: bytes) -> None:
        if data:
            self._protocol.transport.write(data)

    def _end(self) -> None:
        self.response_complete = True
        self._body = b""
        self.set()
        if not self.keep_alive:
            self._protocol.transport.close()
        self._protocol.on_response_complete()


Refused = tuple[Exchange, WholeAnswer]
"""Who is refused, and in which words."""


def refuse(refused: Refused) -> None:
    """Send a refusal to who has not left since."""
    exchange, refusal = refused
    if not exchange.disconnected:
        exchange.answer(refusal)
