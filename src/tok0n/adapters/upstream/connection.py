"""One HTTP/1.1 connection to an upstream: one request at a time, its answer whole or not at all.

A connection that saw anything unusual (an error, a deadline, a cancelled caller, a byte outside an answer) is aborted
and never used again.
"""

import asyncio
import select
from collections.abc import Callable
from typing import NoReturn

import httptools

from tok0n.adapters.upstream.decoding import BodyDecoder, DecodedBodyTooLarge, UndecodableBody, decoder_for
from tok0n.adapters.upstream.fields import keep_alive_seconds, retry_after_seconds
from tok0n.domain.errors import UpstreamFailed
from tok0n.http.pacing import PacedQueue
from tok0n.ports.upstream import UpstreamAnswer

HEAD_BYTES_MAX = 64 * 1024
"""The limit of an answer's bytes that are no body: heads, trailers and chunk extensions together."""

HEADER_LINES_MAX = 128
"""The limit of an answer's header lines, those of interim answers and of trailers included."""

CHUNK_LINE_BYTES_MAX = 20
"""The length of a chunk's framing without extensions: 16 digits and two line ends. It does not count as head."""

INTERIM_ANSWERS_MAX = 8
"""How many 1xx answers may come before the real one (RFC 9110, section 15.2)."""

_UNUSUAL_HEADERS = frozenset(
    {b"transfer-encoding", b"content-encoding", b"keep-alive", b"retry-after", b"retry-after-ms"}
)
_ORDINARY_HEADERS = frozenset(
    {b"date", b"Date", b"server", b"Server", b"content-type", b"Content-Type", b"connection", b"Connection"}
)
"""Frequent headers that need no look: a shortcut only, any other name that is not known is passed over as well."""

STATUS_MIN = 100
_TOO_MANY_REQUESTS = 429
_LINE_ENDS = frozenset({b"\r", b"\n"})
_CARRIAGE_RETURN = 13


Answered = tuple[asyncio.Future[UpstreamAnswer], UpstreamAnswer]
"""Who waits, and what came."""


class _Surplus(Exception):
    """Another message follows the answer: it stops the parser."""


class _Stopped(Exception):
    """The exchange has failed: it stops the parser."""


class UpstreamConnection(asyncio.Protocol):
    """Made by the pool, which learns through its callbacks when it is idle, lost, or sent bytes outside an answer."""

    # Slots, because Python keeps more than 30 attributes in a slower kind of dict.
    __slots__ = (
        "_answer",
        "_answers",
        "_body",
        "_body_bytes_max",
        "_body_bytes_received",
        "_bytes_received",
        "_chunk_line_bytes",
        "_chunked_bytes",
        "_complete",
        "_content_encoding",
        "_deadline",
        "_decoder",
        "_has_framing",
        "_has_length",
        "_has_surplus",
        "_head_is_complete",
        "_header_lines",
        "_idle_seconds",
        "_idle_seconds_max",
        "_interim_answers",
        "_is_plain",
        "_keep_alive",
        "_keep_alive_field",
        "_last_piece",
        "_loop",
        "_on_idle",
        "_on_lost",
        "_on_surplus",
        "_parser",
        "_poll",
        "_retry_after",
        "_retry_after_ms",
        "_status",
        "_timer",
        "_transport",
        "is_tls",
        "poll",
        "reusable_until",
    )

    _bytes_received: int
    _body_bytes_received: int
    _header_lines: int
    _chunked_bytes: int
    _chunk_line_bytes: int
    _interim_answers: int
    _content_encoding: bytes
    _decoder: BodyDecoder | None
    _body: bytes | bytearray

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
        self._body_bytes_max = body_bytes_max
        self._on_idle = on_idle
        self._on_lost = on_lost
        self._on_surplus = on_surplus
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: asyncio.Future[UpstreamAnswer] | None = None
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._idle_seconds_max = idle_seconds
        self._idle_seconds = idle_seconds
        self._keep_alive_field = b""
        self._status = 0
        self._poll = select.poll()
        self.poll = self._poll.poll
        self.is_tls = False
        self.reusable_until = 0.0
        self._is_plain = False
        self._forget_answer()

    def send(self, request: bytes, *, deadline: float) -> asyncio.Future[UpstreamAnswer]:
        """Write a whole request now; the future has its whole answer before `deadline`, in the loop's time.

        The future raises `UpstreamFailed`; from here on something may have reached the upstream. A caller that stops
        waiting calls `cancel`.
        """
        assert self._transport is not None
        assert self._answer is None
        answer: asyncio.Future[UpstreamAnswer] = self._loop.create_future()
        self._answer = answer
        self._deadline = deadline
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._expire)
        self._transport.write(request)
        return answer

    def cancel(self, answer: asyncio.Future[UpstreamAnswer]) -> None:
        """Close, because nobody waits for this answer any more; no effect if it has arrived."""
        if self._answer is answer:
            self.abort()

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
        if not self._bytes_received and data[:9] != b"HTTP/1.1 ":
            self._is_plain = False
            if not data.startswith(b"H"):
                self._fail("returned an invalid answer", "not HTTP")
                return
        self._bytes_received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self._complete:
                self._fail("returned an invalid answer", f"not HTTP: {type(error).__name__}: {error}")
                return
            self._has_surplus = True
        if self._bytes_received - self._body_bytes_received > HEAD_BYTES_MAX or self._header_lines > HEADER_LINES_MAX:
            self._check_head_size()
        if self._complete:
            if data[-1] <= _CARRIAGE_RETURN and not self._has_surplus:
                self._has_surplus = self._has_line_ends_after(data)
            self._finish()

    def _has_line_ends_after(self, data: bytes) -> bool:
        """Whether line ends follow the answer in `data`. They are surplus, although the parser passes over them."""
        if self._has_length and self._last_piece:
            return not data.endswith(self._last_piece)
        return data[-5:-4] in _LINE_ENDS

    def _check_head_size(self) -> None:
        """Fail if heads and trailers exceed their limits. The framing of chunks does not count."""
        head_bytes = self._bytes_received - self._body_bytes_received - self._chunk_line_bytes
        if head_bytes > (HEAD_BYTES_MAX if self._complete else HEAD_BYTES_MAX + CHUNK_LINE_BYTES_MAX):
            self._fail("returned an invalid answer", f"head and trailers of more than {HEAD_BYTES_MAX} bytes")
        elif self._header_lines > HEADER_LINES_MAX:
            self._fail("returned an invalid answer", f"more than {HEADER_LINES_MAX} header lines")

    def eof_received(self) -> None:
        """Called by the loop: the end of an answer that has no other (RFC 9112, section 6.3, rule 8).

        The end of its JSON shows whether such an answer was cut.
        """
        if self._head_is_complete and not self._has_framing:
            self._finish()

    def on_message_begin(self) -> None:
        """Called by the parser; a second message ends the reading."""
        if self._complete:
            raise _Surplus

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, for trailers too."""
        self._header_lines += 1
        if name in _ORDINARY_HEADERS or self._head_is_complete:
            return
        name = name.lower()
        if name == b"content-length":
            self._has_framing = True
            self._has_length = True
            if int(value[:20]) > self._body_bytes_max:
                self._stop_too_large()
        elif name in _UNUSUAL_HEADERS:
            self._read_unusual_header(name, value)

    def _read_unusual_header(self, name: bytes, value: bytes) -> None:
        if name == b"keep-alive":
            if value != self._keep_alive_field:
                self._keep_alive_field = value
                self._idle_seconds = min(self._idle_seconds_max, keep_alive_seconds(value))
            return
        self._is_plain = False
        if name == b"transfer-encoding":
            if value.strip().lower() != b"chunked" or self._has_framing:
                self._stop("a transfer coding other than chunked")
            self._has_framing = True
        elif name == b"content-encoding":
            self._content_encoding += b"," + value
        elif name == b"retry-after":
            self._retry_after = value
        else:
            self._retry_after_ms = value

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._head_is_complete = True
        self._status = self._parser.get_status_code()
        if self._status < STATUS_MIN:
            self._stop(f"status {self._status}")
        if not self._is_plain:
            self._read_unusual_head()

    def _read_unusual_head(self) -> None:
        version = self._parser.get_http_version()
        if version not in {"1.0", "1.1"}:
            self._stop(f"HTTP version {version}")
        if version == "1.0" and self._has_framing and not self._has_length:
            self._stop("Transfer-Encoding in HTTP/1.0")
        if self._content_encoding:
            try:
                self._decoder = decoder_for(self._content_encoding, bytes_max=self._body_bytes_max)
            except UndecodableBody as error:
                self._stop(str(error))

    def on_chunk_complete(self) -> None:
        """Called by the parser after each chunk, the last one included: its shortest framing does not count as head."""
        chunk_bytes = self._body_bytes_received - self._chunked_bytes
        self._chunked_bytes = self._body_bytes_received
        self._chunk_line_bytes += max(1, (chunk_bytes.bit_length() + 3) // 4) + 4

    def on_body(self, body: bytes) -> None:
        """Called by the parser with each piece of the body."""
        self._body_bytes_received += len(body)
        self._last_piece = body
        if self._body_bytes_received > self._body_bytes_max:
            self._stop_too_large()
        if self._decoder is not None:
            body = self._decoded(self._decoder, body)
        if not self._body:
            self._body = body
        else:
            if type(self._body) is bytes:
                self._body = bytearray(self._body)
            self._body += body

    def _decoded(self, decoder: BodyDecoder, body: bytes) -> bytes:
        try:
            return decoder.decode(body)
        except DecodedBodyTooLarge:
            self._stop_too_large()
        except UndecodableBody as error:
            self._stop(str(error))

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self._status >= 200:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()
            return
        self._interim_answers += 1
        self._head_is_complete = False
        self._has_framing = False
        self._has_length = False
        self._is_plain = False
        self._content_encoding = b""
        self._decoder = None
        if self._interim_answers > INTERIM_ANSWERS_MAX:
            self._stop("too many interim answers")

    def _finish(self) -> None:
        answer, transport = self._answer, self._transport
        if answer is None or transport is None:
            return
        if self._decoder is not None:
            try:
                self._decoder.finish()
            except UndecodableBody as error:
                self._fail("returned an invalid answer", str(error))
                return
        status = self._status
        seconds = None
        if status == _TOO_MANY_REQUESTS:
            seconds = retry_after_seconds(self._retry_after, self._retry_after_ms)
        whole = UpstreamAnswer(status=status, body=bytes(self._body), retry_after_seconds=seconds)
        self._answers.add((answer, whole))
        self._answer = None
        keep = self._keep_alive
        if self._has_surplus:
            self._on_surplus()
            keep = False
        self._forget_answer()
        if keep and not transport.get_write_buffer_size() and not transport.is_closing():
            self.reusable_until = self._loop.time() + self._idle_seconds
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

    def _stop(self, detail: str) -> NoReturn:
        """Fail with an invalid answer, from within the parser."""
        self._fail("returned an invalid answer", detail)
        raise _Stopped

    def _stop_too_large(self) -> NoReturn:
        self._fail("returned an answer that is too large", f"more than {self._body_bytes_max} bytes")
        raise _Stopped

    def _fail(self, what: str, detail: str) -> None:
        answer = self._answer
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(UpstreamFailed(f"The upstream provider {what}.", detail=detail, outcome_unknown=True))

    def _forget_answer(self) -> None:
        self._complete = False
        self._keep_alive = False
        self._has_surplus = False
        self._bytes_received = 0
        self._body_bytes_received = 0
        self._header_lines = 0
        self._head_is_complete = False
        self._has_framing = False
        self._has_length = False
        self._last_piece = b""
        self._body = b""
        if self._is_plain:
            return
        self._is_plain = True
        self._chunked_bytes = 0
        self._chunk_line_bytes = 0
        self._interim_answers = 0
        self._content_encoding = b""
        self._decoder = None
        self._retry_after = b""
        self._retry_after_ms = b""


def deliver(answered: Answered) -> None:
    """Give an answer to who waits for it, and has not been cancelled since."""
    waiting, answer = answered
    if not waiting.done():
        waiting.set_result(answer)
