"""An HTTP/1.1 connection: reads requests, runs the handler, and writes the responses in order.

`states` has the theory of operation. The connection's `Responder` runs the handler.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Hashable
from typing import TYPE_CHECKING

from tok0n.http.buffered import FULL_MESSAGES, ByteCount
from tok0n.http.head import BadRequest
from tok0n.http.message import render_complete
from tok0n.http.parser import RequestParser
from tok0n.http.request import Address, Request, address_of
from tok0n.http.responder import Responder
from tok0n.http.states import TRANSITIONS, ConnectionEvent, State
from tok0n.http.target import decode_path, path_and_query
from tok0n.http.watchdog import BodyRate, Watchdog

if TYPE_CHECKING:
    from tok0n.http.server import ServerState

SHORT_READ_BYTES_MAX = 16 * 1024
"""A longer read, and any read after a request's first, goes through the fair queue."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""The value of `SO_LINGER` with which closing a socket sends RST instead of FIN."""

_IDLE, _HEAD, _BODY, _RESPONDING, _CLOSING = State
_START, _AWAIT_BODY, _COMPLETE, _NEXT, _CLOSE = ConnectionEvent


class Connection(asyncio.Protocol):
    """One connection. `ServerState` has what all connections share."""

    def __init__(self, server: "ServerState") -> None:
        self._server = server
        self.loop = server.loop
        self.background = server.background
        self._limits = limits = server.limits
        self._parser = RequestParser(head_bytes_max=limits.head_bytes_max, header_lines_max=limits.header_lines_max)
        self._state = _IDLE
        self._watchdog = Watchdog(server.loop, self._on_deadline)
        self._request: Request | None = None
        self._responder = Responder(
            server, on_finish=self._on_response_sent, on_failure=self._cut_response, abort=self.abort
        )
        self._body_rate: BodyRate | None = None
        self._is_advancing = False
        self._is_reading = True
        self._is_queued = False
        self._client_sent_eof = False
        self._discarded_bytes = 0
        self._unread_count: ByteCount | None = None
        self._eviction: str | None = None
        self._peer: Hashable = None
        self.client_address: Address = None
        self.server_address: Address = None
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection, or reject it if its client has too many."""
        self._transport = self._responder.transport = transport  # type: ignore[assignment]  # a stream protocol's
        self.client_address = address_of(transport, "peername")
        self.server_address = address_of(transport, "sockname")
        self._peer = self._server.peer_key(self.client_address)
        is_allowed = self._server.add(self, self._peer)
        if self._server.is_closing:
            self.abort()
        elif is_allowed:
            self._watchdog.arm(self._limits.head_seconds)
        else:
            self._reject("overloaded", "This client has too many open connections. Close some, or reuse them.")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio gives it
        """Cut off the request in progress, and release all resources."""
        self._server.remove(self, self._peer)
        self._state = TRANSITIONS[self._state, _CLOSE]
        self._release_unread()
        self._watchdog.cancel()
        if self._request is not None:
            self._request.abort()
        self.resume_writing()  # wakes the responder's task, which then ends

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, or buffer them while a response is in progress."""
        state = self._state
        if state is _CLOSING:
            self._discard(data)
            return
        self._parser.feed(data)
        if state is _RESPONDING:
            self._count_unread()
            self.update_reading()
        elif state is _IDLE and len(data) <= SHORT_READ_BYTES_MAX:
            self._advance()
        else:
            if self._body_rate is not None:
                self._body_rate.count(len(data))
            self._advance_fairly()

    def eof_received(self) -> bool:
        """Keep the connection open if the client has sent a complete request and waits for its response."""
        if self._state is not _RESPONDING:
            return False
        self._client_sent_eof = True
        return True

    def pause_writing(self) -> None:
        """Record that the client reads more slowly than we write."""
        self._responder.pause()

    def resume_writing(self) -> None:
        """Record that the client has read, or left."""
        self._responder.resume()

    def _advance(self) -> None:
        """Read requests until bytes are missing or a response is in progress. A loop, so pipelining never nests it."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while self._state is not _CLOSING and self._read_request():
                pass
        except BadRequest as error:
            self._reject(error.code, error.message)
        finally:
            self._is_advancing = False
        if self._parser.buffer or not self._is_reading or self._state is not _RESPONDING:
            self.update_reading()

    def _advance_fairly(self) -> None:
        """Advance now if this iteration of the event loop has time left. Otherwise stop reading until one has."""
        queue = self._server.fair_queue
        if queue.has_budget():
            queue.run(self._advance)
            return
        self._is_queued = True
        if self._state is not _CLOSING:
            self._count_unread()
        self.update_reading()
        queue.enqueue(self._peer, self._advance_queued)

    def _advance_queued(self) -> None:
        self._is_queued = False
        self._release_unread()
        self._advance()

    def _read_request(self) -> bool:
        """Read a head and the received bytes of its body. Returns whether more can be read. Raises `BadRequest`."""
        parser = self._parser
        request = self._request
        if request is None:
            head = parser.read_head()
            if head is None:
                self._on_incomplete_head()
                return False
            if self._unread_count is not None:
                self._release_unread()
            request = self._request = Request(self, head)
        if not parser.is_complete:
            request.add_body(parser.read_body())
            if self._state is _CLOSING:  # rejected: the server can't hold the body
                return False
            if not parser.is_complete:
                self._on_incomplete_body(request)
                return False
        self._state = TRANSITIONS[self._state, _COMPLETE]
        self._watchdog.disarm()
        request.complete_body()
        if not request.is_started:
            self._start(request)
        if not parser.buffer:
            return False
        if self._request is not None:
            self._count_unread()
        return self._request is None

    def _on_incomplete_head(self) -> None:
        if self._parser.buffer:
            if self._state is _IDLE:
                self._state = TRANSITIONS[_IDLE, _START]
                self._watchdog.arm(self._limits.head_seconds)
            self._count_unread()
        if self._client_sent_eof:
            self._close()

    def _on_incomplete_body(self, request: Request) -> None:
        if self._state is not _BODY:
            self._state = TRANSITIONS[self._state, _AWAIT_BODY]
            now = self.loop.time()
            self._body_rate = BodyRate(self._limits, now=now, received_bytes=request.body_bytes)
            self._watchdog.arm(self._body_rate.window_seconds(now))
        if self._client_sent_eof:
            request.abort()
            self._close()
        elif not request.is_started:
            self._start(request)

    def _count_unread(self) -> None:
        """Count an incomplete head, or pipelined requests, toward the buffered bytes."""
        if self._unread_count is None:
            self._unread_count = self._server.buffered.new_count(self._peer, on_evict=self._evict_unread)
        more = self._parser.buffered_bytes - self._unread_count.size
        code = self._unread_count.add(more) if more > 0 else None
        if code is not None:
            self._evict_unread(code)

    def _evict_unread(self, code: str) -> None:
        """Drop the unread bytes, and reject their request after the response in progress."""
        self._release_unread()
        if self._state is _RESPONDING:
            self._parser.drop()
            self._eviction = code
        else:
            self._reject(code, FULL_MESSAGES[code])

    def _release_unread(self) -> None:
        if self._unread_count is not None:
            self._unread_count.release()
            self._unread_count = None

    def update_reading(self) -> None:
        """Read from the socket only while the connection can use what arrives."""
        if self._state is _RESPONDING:
            can_use = not self._parser.buffer and self._eviction is None
        else:
            can_use = self._request is None or not self._request.is_body_unread
        can_use = can_use and not self._is_queued
        if can_use is not self._is_reading and not self._client_sent_eof and not self._transport.is_closing():
            self._is_reading = can_use
            if can_use:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def new_count(self, request: Request, owner: Hashable | None) -> ByteCount:
        """Return a count for the body of a request."""
        if owner is None:
            owner = self._server.client_key(self.client_address, request.headers)
        return self._server.buffered.new_count(owner, on_evict=lambda code: self.reject_body(request, code))

    def reject_body(self, request: Request, code: str) -> None:
        """Reject the request if it is still in progress."""
        if request is self._request:
            self._reject(code, FULL_MESSAGES[code])

    def send_continue(self) -> None:
        """Ask the client for the body."""
        if not self._responder.has_begun:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _start(self, request: Request) -> None:
        """Queue the request for the handler. The rest of its body may follow."""
        request.is_started = True
        server, head = self._server, request.head
        paced_path = server.paced_targets.get(head.target)
        if paced_path is not None and head.method == b"POST" and request.is_complete:
            request.path, request.raw_path, request.query = paced_path, head.target, b""
            request.is_overloaded = server.queue.is_overloaded()
            # Rejections don't wait behind the queue. A rejected client may retry immediately, so they are paced too.
            (server.rejections if request.is_overloaded else server.queue).add(self)
            return
        if head.method == b"CONNECT":
            self._reject("method_not_allowed", "This server is not a proxy.")
            return
        target = path_and_query(head.target)
        if target is None:
            self._reject("invalid_request", "The request target must be a path, such as /v1/models.")
            return
        request.raw_path, request.query = target
        request.path = decode_path(request.raw_path)
        if server.fair_queue.has_budget():
            server.fair_queue.run(self.dispatch)
        else:
            server.fair_queue.enqueue(server.client_key(self.client_address, request.headers), self.dispatch)

    def dispatch(self) -> None:
        """Respond to the request in progress. Called by a queue of the server."""
        assert self._request is not None
        self._responder.start(self._request)

    def _on_response_sent(self, request: Request) -> None:
        """Read the next request, or close the connection, after a response is sent."""
        request.finish()
        self._request = None
        if self._transport.is_closing() or self._state is _CLOSING:
            return
        if not request.keep_alive:
            # Closing with unread bytes makes the kernel send a reset, which can destroy the response before it is read.
            if request.is_complete and not self._parser.buffer and self._eviction is None:
                self._close()
            else:
                self._linger()
            return
        self._parser.start_next()
        self._body_rate = None
        self._state = TRANSITIONS[self._state, _NEXT]
        if self._eviction is not None:
            self._reject(self._eviction, FULL_MESSAGES[self._eviction])
            return
        self._watchdog.arm(self._limits.idle_seconds)
        if self._parser.buffer:
            self._advance()
        elif self._client_sent_eof:
            self._close()

    def _reject(self, code: str, message: str) -> None:
        """Respond to the request in progress with an error, unless its response has begun, and close the connection."""
        if self._state is _CLOSING:
            return
        request = self._request
        if self._responder.has_begun:
            self.abort()
            return
        self._release_unread()
        self._parser.drop()
        response = self._server.render_error(code, message, None if request is None else request.head)
        assert isinstance(response.body, bytes)
        if request is not None:
            request.rejected_as = response.status
            request.abort()
        is_head = request is not None and request.head.method == b"HEAD"
        self._transport.write(render_complete(response, response.body, keep_alive=False, is_head=is_head))
        self._linger()

    def _linger(self) -> None:
        """Send buffered data, then discard input for a moment before closing the connection."""
        self._state = TRANSITIONS[self._state, _CLOSE]
        if self._transport.is_closing():
            return
        if self._transport.can_write_eof():
            with contextlib.suppress(OSError):  # the client has left
                self._transport.write_eof()
        if not self._is_reading and not self._client_sent_eof:
            self._is_reading = True
            self._transport.resume_reading()
        self._watchdog.arm(self._limits.discard_seconds)

    def _discard(self, data: bytes) -> None:
        self._discarded_bytes += len(data)
        if self._discarded_bytes > self._limits.discard_bytes_max:
            self._close()
        self._advance_fairly()

    def _close(self) -> None:
        self._state = TRANSITIONS[self._state, _CLOSE]
        self._transport.close()

    def shut_down(self) -> None:
        """Close the connection now, or after the response in progress."""
        if self._request is None:
            self._close()
        else:
            self._request.keep_alive = False

    def abort(self) -> None:
        """Reset the connection now, and drop unsent data."""
        self._state = TRANSITIONS[self._state, _CLOSE]
        with contextlib.suppress(OSError, ValueError):  # the connection is already lost: uvloop raises ValueError
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def _cut_response(self, request: Request) -> None:
        """Close the connection after a part of a response, in a way that shows the client that the rest is missing.

        In HTTP/1.1, the framing shows it. In HTTP/1.0, a closed connection is the regular end of a body.
        """
        if request.head.is_http_10:
            self.abort()
        else:
            self._close()

    def _on_deadline(self) -> None:
        if self._state is _HEAD:
            seconds = self._limits.head_seconds
            self._reject("request_timeout", f"The request line and headers must arrive within {seconds:g} seconds.")
        elif self._state is _BODY:
            self._check_body_rate()
        else:
            self._close()

    def _check_body_rate(self) -> None:
        rate, request = self._body_rate, self._request
        assert rate is not None and request is not None  # noqa: PT018  in BODY
        now = self.loop.time()
        violation = rate.violation(now, is_awaited=self._is_reading and not request.awaits_continue)
        if violation is None:
            self._watchdog.arm(rate.window_seconds(now))
        else:
            self._reject("request_timeout", violation)
