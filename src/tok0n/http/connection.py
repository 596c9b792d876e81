"""One HTTP/1.1 connection: its state, its deadlines, and the order of its responses.

Theory of operation. Exactly one request is in progress at a time. Bytes of a further request stay in the parser, and
the socket is not read again until the response is out, so a connection holds one read of pipelined requests at most.

    IDLE ──first byte──> HEAD ──head──> BODY ──last byte──> ANSWERING ──response sent──> IDLE
      └────────────────────────(a request in one read)────────┘
    HEAD, BODY, ANSWERING ──error or `connection: close`──> CLOSING

In CLOSING nothing that arrives is interpreted. The connection reads and drops bytes for a moment, because closing a
socket with unread bytes makes the kernel discard the response that the client has not read yet.

One timer serves all deadlines. States only move the deadline; the timer looks at it when it fires.
"""

import asyncio
import enum
import functools
import urllib.parse
from collections.abc import Hashable
from typing import TYPE_CHECKING

import structlog

from tok0n.http.asgi import FastPath, Scope, WholeAnswer
from tok0n.http.buffered import HOLDER_IS_FULL, Hold
from tok0n.http.exchange import STATUS_LINE, Exchange
from tok0n.http.head import BadRequest
from tok0n.http.parser import RequestParser

if TYPE_CHECKING:
    from tok0n.http.server import ServerState

log = structlog.get_logger()

IDLE_SECONDS = 75.0
"""Longer than the 60 seconds after which common load balancers drop an idle connection themselves."""

BODY_WINDOW_SECONDS = 10.0
BODY_WINDOW_BYTES_MIN = 10 * 1024
"""A body must arrive with at least this many bytes in every window."""

SHORT_READ_BYTES_MAX = 16 * 1024
"""A longer read, and any read after a request's first, goes through the fair queue."""

LINGER_SECONDS = 2.0
LINGER_BYTES_MAX = 16 * 1024 * 1024
"""How long, and for how many bytes, a connection in CLOSING reads on."""


class State(enum.Enum):
    """See the module's docstring."""

    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    ANSWERING = enum.auto()
    CLOSING = enum.auto()


_IDLE, _HEAD, _BODY, _ANSWERING, _CLOSING = State


class Connection(asyncio.Protocol):
    """One connection. `ServerState` has what all connections share."""

    def __init__(self, server: "ServerState") -> None:
        self._server = server
        self.loop = server.loop
        self._limits = server.limits
        self._fast_path: FastPath | None = server.fast_path
        self._fast_target = b"" if server.fast_path is None else server.fast_path.path
        self._parser = RequestParser(
            head_bytes_max=server.limits.head_bytes_max, header_lines_max=server.limits.header_lines_max
        )
        self._state = _IDLE
        self._exchange: Exchange | None = None
        self._is_advancing = False
        self._is_reading = True
        self._is_queued = False
        self._has_ended = False
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._body_deadline = 0.0
        self._window_bytes = 0
        self._linger_bytes = 0
        self._unread_hold: Hold | None = None
        self._eviction: str | None = None
        self._peer: Hashable = None
        self._task: asyncio.Task[None] | None = None
        self._next: Exchange | None = None
        self._task_waiter: asyncio.Future[None] | None = None
        self._write_waiters: list[asyncio.Future[None]] = []
        self.is_write_paused = False
        self.client_address: tuple[str, int] | None = None
        self.server_address: tuple[str, int] | None = None
        self._transport: asyncio.Transport

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or reject it when its client has too many."""
        self._transport = transport  # type: ignore[assignment]  # a stream protocol is given a stream transport
        self.client_address = _address(transport, "peername")
        self.server_address = _address(transport, "sockname")
        self._peer = self._server.peer_key(self.client_address)
        if not self._server.add(self, self._peer):
            self._reject("overloaded", "This client has too many open connections. Close some, or reuse them.")
            return
        self._arm(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio gives it
        """Tell the exchange, and forget everything."""
        self._server.remove(self, self._peer)
        self._state = _CLOSING
        self._release_unread()
        if self._exchange is not None and not self._exchange.is_finished:
            self._exchange.disconnect()
        if self._timer is not None:
            self._timer.cancel()
        self._wake_task()
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read what arrived, unless a response is in progress: then it waits."""
        state = self._state
        if state is _CLOSING:
            self._drop(data)
            self._advance_fairly()
            return
        self._parser.feed(data)
        if state is _ANSWERING:
            self._hold_unread()
            self.update_reading()
        elif state is _IDLE and len(data) <= SHORT_READ_BYTES_MAX:
            self._advance()
        else:
            if state is _BODY:
                self._window_bytes += len(data)
            self._advance_fairly()

    def eof_received(self) -> bool:
        """The client sends no more. A client whose request is complete still gets its response."""
        if self._state is not _ANSWERING:
            return False
        self._has_ended = True
        return True

    def pause_writing(self) -> None:
        """The client does not read as fast as we write."""
        self.is_write_paused = True

    def resume_writing(self) -> None:
        """The client has read."""
        self.is_write_paused = False
        waiters, self._write_waiters = self._write_waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    # Reading

    def _advance(self) -> None:
        """Read requests until bytes are missing or a response is awaited. Never nested, however many are pipelined."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._state is not _CLOSING and self._read_on():
                pass
        except BadRequest as error:
            self._reject(error.code, error.message)
        finally:
            self._is_advancing = False
        if self._parser.buffer or not self._is_reading or self._state is not _ANSWERING:
            self.update_reading()

    def _advance_fairly(self) -> None:
        """Advance now if this iteration of the event loop has time left. Otherwise stop reading until one has."""
        queue = self._server.fair_queue
        if queue.has_budget():
            queue.run(self._advance)
            return
        self._is_queued = True
        queue.enqueue(self._peer, self._advance_queued)
        if self._state is not _CLOSING:
            self._hold_unread()
        self.update_reading()

    def _advance_queued(self) -> None:
        self._is_queued = False
        self._release_unread()
        self._advance()

    def _read_on(self) -> bool:
        """Read one head and what arrived of its body; tell whether more can be read. Raises `BadRequest`."""
        parser = self._parser
        exchange = self._exchange
        if exchange is None:
            request = parser.read_head()
            if request is None:
                self._await_head()
                return False
            if self._unread_hold is not None:
                self._release_unread()
            exchange = self._exchange = Exchange(self, request)
        if not parser.is_complete:
            exchange.add_body(parser.read_body())
            if self._state is _CLOSING:  # rejected: the server cannot hold more
                return False
            if not parser.is_complete:
                self._await_body(exchange)
                return False
        self._state = _ANSWERING
        self._deadline = float("inf")
        exchange.complete_body()
        if not exchange.is_started:
            self._start(exchange)
        if not parser.buffer:
            return False
        if self._exchange is not None:
            self._hold_unread()
        return self._exchange is None

    def _await_head(self) -> None:
        if not self._parser.buffer:
            if self._has_ended:
                self._close()
            return
        if self._state is not _HEAD:
            self._state = _HEAD
            self._arm(self._limits.head_seconds)
        self._hold_unread()
        if self._has_ended:
            self._close()

    def _await_body(self, exchange: Exchange) -> None:
        if self._state is not _BODY:
            self._state = _BODY
            self._window_bytes = exchange.body_bytes
            now = self.loop.time()
            self._body_deadline = now + self._limits.body_seconds
            self._arm(min(BODY_WINDOW_SECONDS, self._limits.body_seconds))
        if self._has_ended:
            exchange.disconnect()
            self._close()
        elif not exchange.is_started:
            self._start(exchange)

    def _hold_unread(self) -> None:
        """Count an incomplete head, or pipelined requests, towards the bytes that wait to be admitted."""
        if self._unread_hold is None:
            self._unread_hold = self._server.buffered.hold(self._peer, on_evict=self._evict_unread)
        more = self._parser.buffered_bytes - self._unread_hold.size
        code = self._unread_hold.add(more) if more > 0 else None
        if code is not None:
            self._evict_unread(code)

    def _evict_unread(self, code: str) -> None:
        """Drop what is not read yet, and reject it once the response in progress is out."""
        self._release_unread()
        if self._state is _ANSWERING:
            self._parser.drop()
            self._eviction = code
        else:
            self._reject(code, _FULL[code])

    def _release_unread(self) -> None:
        if self._unread_hold is not None:
            self._unread_hold.release()
            self._unread_hold = None

    def update_reading(self) -> None:
        """Read from the socket only while what arrives can be used."""
        exchange = self._exchange
        if self._is_queued:
            wants = False
        elif self._state is _ANSWERING:
            wants = not self._parser.buffer and self._eviction is None
        else:
            wants = exchange is None or not exchange.is_body_unread
        if wants is not self._is_reading and not self._has_ended and not self._transport.is_closing():
            self._is_reading = wants
            if wants:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    # Responding

    def _start(self, exchange: Exchange) -> None:
        """Have the application respond. The body is complete, or the rest of it will follow."""
        exchange.is_started = True
        request = exchange.request
        if (
            request.target == self._fast_target
            and request.method == b"POST"
            and exchange.is_body_complete
            and not exchange.awaits_continue
        ):
            assert self._fast_path is not None
            if not self._is_rejected(exchange, self._fast_path):
                self._server.queue.add(self)
            return
        if request.method == b"CONNECT":
            self._reject("method_not_allowed", "This server is not a proxy.")
            return
        target = path_and_query(request.target)
        if target is None:
            self._reject("invalid_request", "The request target must be a path, such as /v1/models.")
            return
        raw_path, query = target
        path = raw_path.decode("ascii")
        if "%" in path:
            path = urllib.parse.unquote(path)
        run = functools.partial(self._run_app, exchange, exchange.scope(self, path, raw_path, query))
        queue = self._server.fair_queue
        if queue.has_budget():
            queue.run(run)
        else:
            queue.enqueue(self._server.client_key(self.client_address, request.headers), run)

    def _run_app(self, exchange: Exchange, scope: Scope) -> None:
        """Have the application respond by ASGI, unless the client has left."""
        if exchange.disconnected:
            return
        task = self.loop.create_task(exchange.run(self._server.app, scope))
        self._server.tasks.add(task)
        task.add_done_callback(self._server.tasks.discard)

    def _is_rejected(self, exchange: Exchange, fast_path: FastPath) -> bool:
        """Under overload most requests are rejected, so a rejection must cost little: no task runs for it.

        A rejected client may retry immediately, so rejections are paced as well.
        """
        if self.is_write_paused:
            return False
        rejection = fast_path.refusal(exchange.named, is_overloaded=self._server.queue.is_overloaded())
        if rejection is None:
            return False
        self._server.rejections.add((exchange, rejection))
        return True

    def dispatch(self) -> None:
        """Have the task of this connection respond to the request in progress. Called by the queue."""
        self._next = self._exchange
        if self._task is None:
            assert self._fast_path is not None
            self._task = self.loop.create_task(self._serve(self._fast_path))
            self._server.tasks.add(self._task)
        else:
            self._wake_task()

    async def _serve(self, fast_path: FastPath) -> None:
        """Respond to one request after another, for as long as the connection lives."""
        assert self._task is not None
        try:
            while True:
                exchange, self._next = self._next, None
                if self._transport.is_closing():
                    return  # a client that left before its request was started pays nothing
                if exchange is None:
                    self._task_waiter = self.loop.create_future()
                    await self._task_waiter
                    continue
                try:
                    answer = await fast_path.answer(exchange)  # type: ignore[arg-type]  # its body is complete: bytes
                    exchange.body = b""
                    if self.is_write_paused and not exchange.disconnected:
                        await self.drain()
                    if not exchange.disconnected:
                        exchange.answer(answer)
                except Exception:
                    log.exception("unexpected_error")
                finally:
                    exchange.fail_unfinished()
        finally:
            self._server.tasks.discard(self._task)
            self._transport.close()

    def _wake_task(self) -> None:
        if self._task_waiter is not None and not self._task_waiter.done():
            self._task_waiter.set_result(None)

    def write(self, data: bytes) -> None:
        """Write bytes of the response."""
        if data:
            self._transport.write(data)

    async def drain(self) -> None:
        """Wait until the client has read enough of what was written, or has left."""
        while self.is_write_paused:
            waiter = self.loop.create_future()
            self._write_waiters.append(waiter)
            await waiter

    def on_response_complete(self, exchange: Exchange) -> None:
        """Read the next request, or close. Called by the exchange once its response was written."""
        self._server.total_requests += 1
        if self._transport.is_closing() or self._state is _CLOSING:
            return
        if not exchange.keep_alive:
            if exchange.is_body_complete and not self._parser.buffer:
                self._close()
            else:
                self._linger()
            return
        self._exchange = None
        self._parser.start_next()
        self._state = _IDLE
        if self._eviction is not None:
            self._reject(self._eviction, _FULL[self._eviction])
            return
        self._deadline = self.loop.time() + IDLE_SECONDS
        if self._timer is None:
            self._timer = self.loop.call_at(self._deadline, self._on_timer)
        if self._parser.buffer:
            self._advance()
        elif self._has_ended:
            self._close()

    # Closing

    def hold(self, exchange: Exchange, holder: Hashable | None) -> Hold:
        """A hold for the body of a request, of the given holder or of its client."""
        if holder is None:
            holder = self._server.client_key(self.client_address, exchange.request.headers)
        return self._server.buffered.hold(holder, on_evict=lambda code: self.reject_body(exchange, code))

    def reject_body(self, exchange: Exchange, code: str) -> None:
        """Reject a request of whose body the server cannot hold more."""
        if exchange is self._exchange:
            self._reject(code, _FULL[code])

    def fail_response(self, exchange: Exchange) -> None:
        """End a response that the application left incomplete."""
        if exchange.has_begun:
            self._close()
        else:
            message = "The server had an unexpected error."
            exchange.answer(self._server.render_error("api_error", message, exchange.request))

    def _reject(self, code: str, message: str) -> None:
        """Answer the request in progress with an error, unless its response has begun, and close."""
        if self._state is _CLOSING:
            return
        exchange = self._exchange
        if exchange is not None and exchange.has_begun:
            self._state = _CLOSING
            self._transport.abort()
            return
        request = None if exchange is None else exchange.request
        status, lines, body = self._server.render_error(code, message, request)
        self._release_unread()
        if exchange is not None:
            exchange.rejection = status
            exchange.disconnect()
        head = b"connection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.write(b"".join((STATUS_LINE[status], lines, head, body)))
        self._linger()

    def _linger(self) -> None:
        """Send what was written, and drop what arrives for a moment before closing."""
        self._state = _CLOSING
        if not self._transport.is_closing():
            if self._transport.can_write_eof():
                self._transport.write_eof()
            if not self._is_reading and not self._has_ended:
                self._is_reading = True
                self._transport.resume_reading()
            self._arm(LINGER_SECONDS)

    def _drop(self, data: bytes) -> None:
        self._linger_bytes += len(data)
        if self._linger_bytes > LINGER_BYTES_MAX:
            self._close()

    def _close(self) -> None:
        self._state = _CLOSING
        self._transport.close()

    def shut_down(self) -> None:
        """Close the connection now, or after the response in progress."""
        if self._exchange is None:
            self._close()
        else:
            self._exchange.keep_alive = False

    def abort(self) -> None:
        """Close the connection now."""
        self._transport.abort()

    # Deadlines

    def _arm(self, seconds: float) -> None:
        """Let the deadline be in so many seconds."""
        self._deadline = self.loop.time() + seconds
        if self._timer is not None:
            if self._timer.when() <= self._deadline:
                return
            self._timer.cancel()
        self._timer = self.loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self.loop.time()
        if now < self._deadline:
            if self._deadline != float("inf"):
                self._timer = self.loop.call_at(self._deadline, self._on_timer)
            return
        {_IDLE: self._close, _HEAD: self._expire_head, _BODY: self._expire_body, _CLOSING: self._close}[self._state]()

    def _expire_head(self) -> None:
        seconds = self._limits.head_seconds
        self._reject("request_timeout", f"The request line and headers must arrive within {seconds:g} seconds.")

    def _expire_body(self) -> None:
        """Reject a body that is too slow; one that we do not read or did not ask for is not."""
        exchange = self._exchange
        assert exchange is not None  # in BODY
        is_slow = self._window_bytes < BODY_WINDOW_BYTES_MIN and self._is_reading and not exchange.awaits_continue
        now = self.loop.time()
        if now >= self._body_deadline:
            self._reject("request_timeout", f"The body must arrive within {self._limits.body_seconds:g} seconds.")
        elif is_slow:
            rate = BODY_WINDOW_BYTES_MIN // BODY_WINDOW_SECONDS
            self._reject("request_timeout", f"The body must arrive with at least {rate:g} bytes a second.")
        else:
            self._window_bytes = 0
            self._arm(min(BODY_WINDOW_SECONDS, self._body_deadline - now))


_FULL = {
    HOLDER_IS_FULL: "The request bodies that this client or account is sending are too large together. Retry later.",
    "overloaded": "The server holds as many request bodies as it can. Retry later.",
}

Rejected = tuple[Exchange, WholeAnswer]


def send_rejection(rejected: Rejected) -> None:
    """Send a rejection, unless the client has left."""
    exchange, rejection = rejected
    if not exchange.disconnected:
        exchange.answer(rejection)


def _address(transport: asyncio.BaseTransport, name: str) -> tuple[str, int] | None:
    """The IP address and port of one end; None for a Unix socket."""
    address = transport.get_extra_info(name)
    return (str(address[0]), int(address[1])) if isinstance(address, tuple) else None


def path_and_query(target: bytes) -> tuple[bytes, bytes] | None:
    """Path and query of a request target in origin or absolute form; None for any other."""
    if not target.startswith(b"/"):
        scheme, separator, rest = target.partition(b"://")
        if not separator or scheme.lower() not in {b"http", b"https"} or not rest or rest.startswith((b"/", b"?")):
            return None
        authority, slash, path = rest.partition(b"/")
        if b"?" in authority:
            return b"/", authority.partition(b"?")[2] + slash + path
        target = slash + path or b"/"
    if b"#" in target:
        return None
    path, _, query = target.partition(b"?")
    return path, query
