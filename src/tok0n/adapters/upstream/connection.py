"""One HTTP/1.1 connection to an upstream: one request at a time, its answer whole or not at all.

A connection that saw anything unusual (an error, a deadline, a cancelled caller, a byte that nobody asked for) is
aborted and never used again.
"""

import asyncio
from collections.abc import Callable

import httptools

from tok0n.domain.errors import UpstreamFailed
from tok0n.ports import UpstreamAnswer
from tok0n.turns import Turns

HEAD_BYTES_MAX = 64 * 1024
"""How many bytes may come that are no body: head, trailer and chunk extensions, each time before the body goes on."""

INTERIM_ANSWERS_MAX = 8
"""How many 1xx answers may come before the real one (RFC 9110, section 15.2)."""

_LENGTHS_THAT_MATTER = frozenset(map(len, ("content-length", "transfer-encoding", "content-encoding")))


Answered = tuple[asyncio.Future[UpstreamAnswer], UpstreamAnswer]
"""Who waits, and what came."""


class _Surplus(Exception):
    """Another message follows the answer: it stops the parser."""


class UpstreamConnection(asyncio.Protocol):
    """Made by the pool, which is told through `on_idle` and `on_lost` what becomes of it."""

    def __init__(
        self,
        *,
        answers: Turns[Answered],
        body_bytes_max: int,
        on_idle: Callable[["UpstreamConnection"], None],
        on_lost: Callable[["UpstreamConnection"], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._answers = answers
        self._body_bytes_max = body_bytes_max
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[UpstreamAnswer] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._complete = False
        self._body: bytes | bytearray = b""
        self.idle_since = 0.0
        self._forget_answer()

    async def exchange(self, request: bytes, *, deadline: float) -> UpstreamAnswer:
        """Send a whole request and read its whole answer before `deadline`, in the loop's time.

        Raises `UpstreamFailed`; from here on something may have reached the upstream.
        """
        assert self._transport is not None
        assert self._answer is None
        answer: asyncio.Future[UpstreamAnswer] = self._loop.create_future()
        self._answer = answer
        self._deadline = deadline
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._expire)
        try:
            self._transport.write(request)
            return await answer
        except asyncio.CancelledError:
            if self._answer is answer:
                self.abort()
            raise

    def close(self) -> None:
        """Close at once; a call under way fails."""
        self._fail("did not answer before the gateway stopped", "closed by the gateway")

    def abort(self) -> None:
        """Close at once. Only for a connection that nobody waits on."""
        self._answer = None
        self._forget_answer()
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = transport  # type: ignore[assignment]  # a stream protocol is given a stream transport

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
            self.abort()
            return
        self._bytes_since_body += len(data)
        if self._bytes_since_body > HEAD_BYTES_MAX + len(data):
            self._fail("returned an invalid answer", "head or trailer too large")
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._complete:
                self._has_surplus = True
            else:
                self._fail("returned an invalid answer", f"not HTTP: {type(error).__name__}")
        if self._complete:
            self._finish()

    def eof_received(self) -> None:
        """Called by the loop: the end of an answer that has no other (RFC 9112, section 6.3, rule 8).

        Whether such an answer was cut shows in its JSON, which has no end then.
        """
        if self._head_is_complete and not self._has_framing:
            self._finish()

    def on_message_begin(self) -> None:
        """Called by the parser; it reads no second message, which nobody asked for, into the answer."""
        if self._complete:
            raise _Surplus

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser. Most headers are told by their length to be none that matter."""
        if len(name) not in _LENGTHS_THAT_MATTER:
            return
        name = name.lower()
        if name == b"content-length":
            self._has_framing = True
            if value.isdigit() and int(value[:20]) > self._body_bytes_max:
                self._fail_too_large()
        elif name == b"transfer-encoding":
            self._has_framing = True
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            self._fail("returned an invalid answer", "compressed, although we accept identity only")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._head_is_complete = True
        self._status = self._parser.get_status_code()

    def on_body(self, body: bytes) -> None:
        """Called by the parser with each piece of the body."""
        self._bytes_since_body = 0
        if len(self._body) + len(body) > self._body_bytes_max:
            self._fail_too_large()
        elif not self._body:
            self._body = body
        else:
            if type(self._body) is bytes:
                self._body = bytearray(self._body)
            self._body += body

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._status >= 200:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()
            return
        self._interim_answers += 1
        self._head_is_complete = False
        self._has_framing = False
        if self._interim_answers > INTERIM_ANSWERS_MAX:
            self._fail("returned an invalid answer", "too many interim answers")

    def _finish(self) -> None:
        answer, transport = self._answer, self._transport
        if answer is None or transport is None:
            return
        self._answers.add((answer, UpstreamAnswer(status=self._status, body=bytes(self._body))))
        keep = self._keep_alive and not self._has_surplus and not transport.get_write_buffer_size()
        self._answer = None
        self._forget_answer()
        if keep and not transport.is_closing():
            self.idle_since = self._loop.time()
            self._on_idle(self)
        else:
            transport.abort()

    def _expire(self) -> None:
        """One timer for many exchanges: it looks whether the one of now has run out, instead of starting with each."""
        self._timer = None
        if self._answer is None:
            return
        if self._loop.time() >= self._deadline:
            self._fail("timed out", "deadline passed")
        else:
            self._timer = self._loop.call_at(self._deadline, self._expire)

    def _fail_too_large(self) -> None:
        self._fail("returned an answer that is too large", f"more than {self._body_bytes_max} bytes")

    def _fail(self, what: str, detail: str) -> None:
        answer = self._answer
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(UpstreamFailed(f"The upstream provider {what}.", detail=detail, outcome_unknown=True))

    def _forget_answer(self) -> None:
        self._complete = False
        self._keep_alive = False
        self._has_surplus = False
        self._status = 0
        self._bytes_since_body = 0
        self._head_is_complete = False
        self._has_framing = False
        self._interim_answers = 0
        self._body = b""


def deliver(answered: Answered) -> None:
    """Give an answer to who waits for it, and has not been cancelled since."""
    waiting, answer = answered
    if not waiting.done():
        waiting.set_result(answer)
