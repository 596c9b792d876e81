"""An HTTP/1.1 connection to an upstream, for one request at a time.

`send` delivers only complete responses, and `stream` delivers a body in pieces.

After anything unusual (an error, a timeout, a cancelled caller, bytes outside a response), the connection is aborted.
"""

import asyncio
import select
from collections.abc import Callable

from tok0n.adapters.upstream.response import InvalidResponse, ResponseReader
from tok0n.adapters.upstream.response_stream import ResponseStream
from tok0n.domain.errors import UpstreamFailed
from tok0n.http.pacing import PacedQueue
from tok0n.ports.upstream import UpstreamResponse

Delivery = tuple[asyncio.Future[UpstreamResponse], UpstreamResponse]
"""The future of a caller, and the response to deliver."""


class UpstreamConnection(asyncio.Protocol):
    """A pooled connection. Its callbacks notify the pool if it becomes idle, is lost, or gets surplus bytes."""

    __slots__ = (
        "_body_bytes_max",
        "_deadline",
        "_loop",
        "_on_idle",
        "_on_lost",
        "_on_surplus",
        "_poll",
        "_reader",
        "_responses",
        "_stream",
        "_timer",
        "_transport",
        "_waiter",
        "is_tls",
        "poll",
        "reusable_until",
    )

    def __init__(
        self,
        *,
        responses: PacedQueue[Delivery],
        body_bytes_max: int,
        idle_seconds: float,
        on_idle: Callable[["UpstreamConnection"], None],
        on_lost: Callable[["UpstreamConnection"], None],
        on_surplus: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._responses = responses
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._on_surplus = on_surplus
        self._transport: asyncio.Transport | None = None
        self._reader = ResponseReader(body_bytes_max=body_bytes_max, idle_seconds_max=idle_seconds)
        self._body_bytes_max = body_bytes_max
        self._waiter: asyncio.Future[UpstreamResponse] | None = None
        self._stream: ResponseStream | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._poll = select.poll()
        self.poll = self._poll.poll
        self.is_tls = False
        self.reusable_until = 0.0

    def send(self, request: bytes, *, deadline: float) -> asyncio.Future[UpstreamResponse]:
        """Write a complete request now, and return the future of its response. `deadline` is in the loop's time.

        The future raises `UpstreamFailed`. The upstream may have received the request. A caller that stops waiting
        must call `cancel`.
        """
        assert self._transport is not None
        assert self._waiter is None
        waiter: asyncio.Future[UpstreamResponse] = self._loop.create_future()
        self._waiter = waiter
        self._deadline = deadline
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._expire)
        self._transport.write(request)
        return waiter

    def stream(self, request: bytes, *, deadline: float) -> ResponseStream:
        """Write a complete request now, and return its response, which is still to arrive. See `send`.

        A caller that stops reading must call `cancel`.
        """
        self._cancel_timer()  # It may be due only at a later deadline.
        self._reader.read_in_pieces()
        self._stream = ResponseStream(
            body_bytes_max=self._body_bytes_max, pause=self._pause_reading, resume=self._resume_reading
        )
        self.send(request, deadline=deadline)
        return self._stream

    def cancel(self, response: asyncio.Future[UpstreamResponse] | ResponseStream) -> None:
        """Abort the connection if this response has not arrived completely."""
        if response is self._waiter or response is self._stream:
            self.abort()

    def close(self) -> None:
        """Close the connection. A request in progress fails."""
        self._fail("did not respond before the gateway stopped", "closed by the gateway")

    def abort(self) -> None:
        """Close the connection immediately. Call it only if no caller is waiting."""
        self._waiter = None
        self._stream = None
        self._reader.reset()
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Whether the connection is open."""
        return self._transport is not None and not self._transport.is_closing()

    def has_input(self) -> bool:
        """Whether the socket has bytes or EOF that the event loop has not read yet.

        On a TLS connection, this can be a session ticket. `poll(0)` returns the same, without another call.
        """
        return bool(self.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream protocol is given a stream transport
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self.is_tls = transport.get_extra_info("sslcontext") is not None

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail("closed the connection", f"connection lost: {exc}" if exc else "connection closed early")
        self._transport = None
        self._cancel_timer()
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self._reject_surplus()
            return
        try:
            is_complete = self._reader.feed(data)
            if self._stream is not None:
                self._feed(self._stream)
            if is_complete:
                self._complete_response()
        except InvalidResponse as error:
            self._fail(error.problem, error.detail)

    def eof_received(self) -> None:
        if self._reader.ends_with_connection:
            try:
                self._complete_response()
            except InvalidResponse as error:
                self._fail(error.problem, error.detail)

    def _feed(self, stream: ResponseStream) -> None:
        """Hand over what the reader has read of a response."""
        reader = self._reader
        if not stream.status and reader.status:
            stream.retry_after_seconds = reader.retry_after_seconds
            stream.status = reader.status
        stream.feed(reader.take())

    def _complete_response(self) -> None:
        """Deliver the response, and keep the connection if it can be reused. Raises `InvalidResponse`."""
        waiter, transport, reader = self._waiter, self._transport, self._reader
        if waiter is None or transport is None:
            return
        if self._stream is None:
            self._responses.add((waiter, reader.response()))
        else:
            reader.check_end()
            self._end(self._stream)
        self._waiter = None
        can_reuse = reader.keep_alive and not reader.has_surplus
        if reader.has_surplus:
            self._on_surplus()
        reader.reset()
        if can_reuse and not transport.get_write_buffer_size() and not transport.is_closing():
            self.reusable_until = self._loop.time() + reader.idle_seconds
            self._on_idle(self)
        else:
            transport.abort()

    def _reject_surplus(self) -> None:
        """Handle bytes outside a response: close the connection, and notify the pool unless it was closing."""
        if self.usable:
            self._on_surplus()
        self.abort()

    def _expire(self) -> None:
        """Check the deadline of the current request. One timer serves many requests, which is cheaper than one each."""
        self._timer = None
        if self._waiter is None:
            return
        if self._loop.time() >= self._deadline:
            self._fail("timed out", "deadline passed")
        else:
            self._timer = self._loop.call_at(self._deadline, self._expire)

    def _fail(self, problem: str, detail: str) -> None:
        waiter, stream = self._waiter, self._stream
        if stream is not None:
            self._feed(stream)
        self.abort()
        if waiter is None or waiter.done():
            return
        error = UpstreamFailed(f"The upstream provider {problem}.", detail=detail, outcome_unknown=True)
        if stream is None:
            waiter.set_exception(error)
        else:
            stream.end(error)

    def _end(self, stream: ResponseStream) -> None:
        """End a complete response. The next request on this connection gets its own timer."""
        self._stream = None
        self._cancel_timer()
        stream.end()

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _pause_reading(self) -> None:
        if self.usable and self._transport is not None:
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self.usable and self._transport is not None:
            self._transport.resume_reading()


def deliver(delivery: Delivery) -> None:
    """Resolve a caller's future with its response, unless it was cancelled."""
    waiter, response = delivery
    if not waiter.done():
        waiter.set_result(response)
