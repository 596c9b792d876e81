"""An HTTP/1.1 connection to an upstream, for one request at a time. Delivers only complete responses.

After anything unusual (an error, a timeout, a cancelled caller, bytes outside a response), the connection is aborted.
"""

import asyncio
import select
from collections.abc import Callable

from tok0n.adapters.upstream.response import InvalidResponse, ResponseReader
from tok0n.domain.errors import UpstreamFailed
from tok0n.http.pacing import PacedQueue
from tok0n.ports.upstream import UpstreamResponse

Delivery = tuple[asyncio.Future[UpstreamResponse], UpstreamResponse]
"""The future of a caller, and the response to deliver."""


class UpstreamConnection(asyncio.Protocol):
    """A pooled connection. Its callbacks notify the pool if it becomes idle, is lost, or gets surplus bytes."""

    __slots__ = (
        "_deadline",
        "_loop",
        "_on_idle",
        "_on_lost",
        "_on_surplus",
        "_poll",
        "_reader",
        "_responses",
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
        self._waiter: asyncio.Future[UpstreamResponse] | None = None
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

    def cancel(self, waiter: asyncio.Future[UpstreamResponse]) -> None:
        """Abort the connection if this response has not arrived."""
        if self._waiter is waiter:
            self.abort()

    def close(self) -> None:
        """Close the connection. A request in progress fails."""
        self._fail("did not respond before the gateway stopped", "closed by the gateway")

    def abort(self) -> None:
        """Close the connection immediately. No caller may wait on it."""
        self._waiter = None
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
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self._reject_surplus()
            return
        try:
            if self._reader.feed(data):
                self._finish()
        except InvalidResponse as error:
            self._fail(error.problem, error.detail)

    def eof_received(self) -> None:
        if self._reader.ends_with_connection:
            try:
                self._finish()
            except InvalidResponse as error:
                self._fail(error.problem, error.detail)

    def _finish(self) -> None:
        """Deliver the response, and return the connection to the pool. Raises `InvalidResponse`."""
        waiter, transport, reader = self._waiter, self._transport, self._reader
        if waiter is None or transport is None:
            return
        self._responses.add((waiter, reader.response()))
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
        waiter = self._waiter
        self.abort()
        if waiter is not None and not waiter.done():
            waiter.set_exception(
                UpstreamFailed(f"The upstream provider {problem}.", detail=detail, outcome_unknown=True)
            )


def deliver(delivery: Delivery) -> None:
    """Resolve a caller's future with its response, unless it was cancelled."""
    waiter, response = delivery
    if not waiter.done():
        waiter.set_result(response)
