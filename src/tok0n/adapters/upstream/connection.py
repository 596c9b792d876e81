"""One HTTP/1.1 connection to an upstream: one request at a time, its answer whole or not at all.

A connection that saw anything unusual (an error, a deadline, a cancelled caller, a byte outside an answer) is aborted
and never used again.
"""

import asyncio
import select
from collections.abc import Callable

from tok0n.adapters.upstream.response import InvalidResponse, ResponseReader
from tok0n.domain.errors import UpstreamFailed
from tok0n.http.pacing import PacedQueue
from tok0n.ports.upstream import UpstreamResponse

Answered = tuple[asyncio.Future[UpstreamResponse], UpstreamResponse]
"""Who waits, and what came."""


class UpstreamConnection(asyncio.Protocol):
    """Made by the pool, which learns through its callbacks when it is idle, lost, or sent bytes outside an answer."""

    __slots__ = (
        "_answer",
        "_answers",
        "_deadline",
        "_loop",
        "_on_idle",
        "_on_lost",
        "_on_surplus",
        "_poll",
        "_reader",
        "_timer",
        "_transport",
        "is_tls",
        "poll",
        "reusable_until",
    )

    def __init__(
        self,
        *,
        answers: PacedQueue[Answered],
        body_bytes_max: int,
        idle_seconds: float,
        on_idle: Callable[["UpstreamConnection"], None],
        on_lost: Callable[["UpstreamConnection"], None],
        on_surplus: Callable[[], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._answers = answers
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._on_surplus = on_surplus
        self._transport: asyncio.Transport | None = None
        self._reader = ResponseReader(body_bytes_max=body_bytes_max, idle_seconds_max=idle_seconds)
        self._answer: asyncio.Future[UpstreamResponse] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._poll = select.poll()
        self.poll = self._poll.poll
        self.is_tls = False
        self.reusable_until = 0.0

    def send(self, request: bytes, *, deadline: float) -> asyncio.Future[UpstreamResponse]:
        """Write a whole request now; the future has its whole answer before `deadline`, in the loop's time.

        The future raises `UpstreamFailed`; from here on something may have reached the upstream. A caller that stops
        waiting calls `cancel`.
        """
        assert self._transport is not None
        assert self._answer is None
        answer: asyncio.Future[UpstreamResponse] = self._loop.create_future()
        self._answer = answer
        self._deadline = deadline
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._expire)
        self._transport.write(request)
        return answer

    def cancel(self, answer: asyncio.Future[UpstreamResponse]) -> None:
        """Close, because nobody waits for this answer any more; no effect if it has arrived."""
        if self._answer is answer:
            self.abort()

    def close(self) -> None:
        """Close at once; a call under way fails."""
        self._fail("did not answer before the gateway stopped", "closed by the gateway")

    def abort(self) -> None:
        """Close at once. Only for a connection that nobody waits on."""
        self._answer = None
        self._reader.reset()
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def has_input(self) -> bool:
        """Whether the socket has bytes, or an end, that the event loop has not read yet.

        On a TLS connection these can be a session ticket, which is no answer. `poll(0)` says the same, without a
        call in between.
        """
        return bool(self.poll(0))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = transport  # type: ignore[assignment]  # a stream protocol is given a stream transport
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self.is_tls = transport.get_extra_info("sslcontext") is not None

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop: the peer closed, or we did."""
        self._fail("closed the connection", f"connection lost: {exc}" if exc else "connection closed early")
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost(self)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._answer is None:
            self._reject_surplus()
            return
        try:
            if self._reader.feed(data):
                self._finish()
        except InvalidResponse as error:
            self._fail(error.what, error.detail)

    def eof_received(self) -> None:
        """Called by the loop."""
        if self._reader.ends_with_connection:
            try:
                self._finish()
            except InvalidResponse as error:
                self._fail(error.what, error.detail)

    def _finish(self) -> None:
        """Deliver the response, and return the connection to the pool. Raises `InvalidResponse`."""
        waiter, transport, reader = self._answer, self._transport, self._reader
        if waiter is None or transport is None:
            return
        self._answers.add((waiter, reader.response()))
        self._answer = None
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
        """Bytes outside an answer: close, and report the upstream unless the gateway had closed already."""
        if self.usable:
            self._on_surplus()
        self.abort()

    def _expire(self) -> None:
        """One timer for many exchanges: it looks whether the one of now has run out, instead of starting with each."""
        self._timer = None
        if self._answer is None:
            return
        if self._loop.time() >= self._deadline:
            self._fail("timed out", "deadline passed")
        else:
            self._timer = self._loop.call_at(self._deadline, self._expire)

    def _fail(self, what: str, detail: str) -> None:
        answer = self._answer
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(UpstreamFailed(f"The upstream provider {what}.", detail=detail, outcome_unknown=True))


def deliver(answered: Answered) -> None:
    """Give an answer to who waits for it, and has not been cancelled since."""
    waiting, answer = answered
    if not waiting.done():
        waiting.set_result(answer)
