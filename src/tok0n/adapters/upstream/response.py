"""Parse the responses on a connection to an upstream strictly: each is complete, or an error.

Has no socket and no clock. `httptools` parses, and this module checks what `httptools` doesn't: sizes, framing,
encodings and bytes after the end.
"""

from typing import NoReturn

import httptools

from tok0n.adapters.upstream.decoding import BodyDecoder, DecodedBodyTooLarge, UndecodableBody, decoder_for
from tok0n.adapters.upstream.fields import keep_alive_seconds, retry_after_seconds
from tok0n.ports.upstream import UpstreamResponse

HEAD_BYTES_MAX = 64 * 1024
"""The most bytes of a response outside its body: heads, trailers and chunk extensions together."""

HEADER_LINES_MAX = 128
"""The most header lines of a response, including interim responses and trailers."""

CHUNK_LINE_BYTES_MAX = 20
"""The bytes of a chunk's framing without extensions: 16 digits and two line ends. They don't count as head."""

INTERIM_RESPONSES_MAX = 8
"""The most 1xx responses before the final one (RFC 9110, section 15.2)."""

_UNUSUAL_HEADERS = frozenset(
    {b"transfer-encoding", b"content-encoding", b"keep-alive", b"retry-after", b"retry-after-ms"}
)
_ORDINARY_HEADERS = frozenset(
    {b"date", b"Date", b"server", b"Server", b"content-type", b"Content-Type", b"connection", b"Connection"}
)
"""Frequent headers to skip quickly. Any other unknown header is skipped too."""

INVALID = "returned an invalid response"
TOO_LARGE = "returned a response that is too large"

STATUS_MIN = 100
FINAL_STATUS_MIN = 200
_TOO_MANY_REQUESTS = 429
_LINE_ENDS = frozenset({b"\r", b"\n"})
_CARRIAGE_RETURN = 13


class InvalidResponse(Exception):
    """The response can't be used. `problem` completes "The upstream provider …". `detail` is for the log."""

    def __init__(self, problem: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail


class _Surplus(Exception):
    """Stops the parser: another message follows the response."""


class ResponseReader:
    """Reads one response after another. After `InvalidResponse`, the connection must not be used again."""

    # Slots, because Python keeps more than 30 attributes in a slower kind of dict.
    __slots__ = (
        "_body",
        "_body_bytes_max",
        "_body_bytes_received",
        "_bytes_received",
        "_chunk_line_bytes",
        "_chunked_bytes",
        "_complete",
        "_content_encoding",
        "_decoder",
        "_failure",
        "_has_framing",
        "_has_length",
        "_head_is_complete",
        "_header_lines",
        "_idle_seconds_max",
        "_in_pieces",
        "_interim_responses",
        "_is_plain",
        "_keep_alive_field",
        "_last_piece",
        "_parser",
        "_retry_after",
        "_retry_after_ms",
        "_status",
        "has_surplus",
        "idle_seconds",
        "keep_alive",
    )

    _bytes_received: int
    _body_bytes_received: int
    _header_lines: int
    _chunked_bytes: int
    _chunk_line_bytes: int
    _interim_responses: int
    _content_encoding: bytes
    _decoder: BodyDecoder | None
    _body: bytes | bytearray

    def __init__(self, *, body_bytes_max: int, idle_seconds_max: float) -> None:
        self._body_bytes_max = body_bytes_max
        self._parser = httptools.HttpResponseParser(self)
        self._idle_seconds_max = idle_seconds_max
        self.idle_seconds = idle_seconds_max
        """How long the upstream keeps the connection open after this response."""
        self._keep_alive_field = b""
        self._status = 0
        self._is_plain = False
        self._failure: InvalidResponse | None = None
        self.reset()

    def feed(self, data: bytes) -> bool:
        """Parse received bytes. Returns whether the response is complete. Raises `InvalidResponse`."""
        if not self._bytes_received and data[:9] != b"HTTP/1.1 ":
            self._is_plain = False
            if not data.startswith(b"H"):
                raise InvalidResponse(INVALID, "not HTTP")
        self._bytes_received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self._failure is not None:
                raise self._failure from None
            if not self._complete:
                raise InvalidResponse(INVALID, f"not HTTP: {type(error).__name__}: {error}") from error
            self.has_surplus = True
        if self._bytes_received - self._body_bytes_received > HEAD_BYTES_MAX or self._header_lines > HEADER_LINES_MAX:
            self._check_head_size()
        if self._complete and data[-1] <= _CARRIAGE_RETURN and not self.has_surplus:
            self.has_surplus = self._has_line_ends_after(data)
        return self._complete

    def read_in_pieces(self) -> None:
        """Let the caller take the next response's body with `take` after each `feed`. Its length has no limit then."""
        self._in_pieces = True

    def take(self) -> bytes:
        """Remove and return the part of the body that `feed` has read."""
        piece, self._body = bytes(self._body), b""
        self._last_piece = b""  # A stream that is silent for long keeps no bytes.
        return piece

    @property
    def status(self) -> int:
        """The status of the final response, or 0 before its head is complete."""
        return self._status if self._head_is_complete and self._status >= FINAL_STATUS_MIN else 0

    @property
    def retry_after_seconds(self) -> float | None:
        """When the upstream accepts requests again, if the response is a 429 that says so."""
        if self._status != _TOO_MANY_REQUESTS:
            return None
        return retry_after_seconds(self._retry_after, self._retry_after_ms)

    @property
    def ends_with_connection(self) -> bool:
        """Whether the response ends with the connection (RFC 9112, section 6.3, rule 8).

        If such a response is truncated, its JSON is invalid.
        """
        return self._head_is_complete and not self._has_framing

    def response(self) -> UpstreamResponse:
        """Return the complete response. Raises `InvalidResponse` if its compressed body is truncated."""
        self.check_end()
        return UpstreamResponse(
            status=self._status, body=bytes(self._body), retry_after_seconds=self.retry_after_seconds
        )

    def check_end(self) -> None:
        """Raise `InvalidResponse` if the compressed body is truncated."""
        if self._decoder is not None:
            try:
                self._decoder.finish()
            except UndecodableBody as error:
                raise InvalidResponse(INVALID, str(error)) from error

    def reset(self) -> None:
        """Prepare for the next response."""
        self._complete = False
        self._in_pieces = False
        self.keep_alive = False
        self.has_surplus = False
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
        self._interim_responses = 0
        self._content_encoding = b""
        self._decoder = None
        self._retry_after = b""
        self._retry_after_ms = b""

    def _has_line_ends_after(self, data: bytes) -> bool:
        """Whether line ends follow the response in `data`. They are surplus bytes, although the parser skips them."""
        if self._has_length and self._last_piece:
            return not data.endswith(self._last_piece)
        return data[-5:-4] in _LINE_ENDS

    def _check_head_size(self) -> None:
        """Raise `InvalidResponse` if heads and trailers exceed their limits. The framing of chunks doesn't count."""
        head_bytes = self._bytes_received - self._body_bytes_received - self._chunk_line_bytes
        if head_bytes > (HEAD_BYTES_MAX if self._complete else HEAD_BYTES_MAX + CHUNK_LINE_BYTES_MAX):
            raise InvalidResponse(INVALID, f"head and trailers of more than {HEAD_BYTES_MAX} bytes")
        if self._header_lines > HEADER_LINES_MAX:
            raise InvalidResponse(INVALID, f"more than {HEADER_LINES_MAX} header lines")

    # The parser calls the following methods.

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Surplus

    def on_header(self, name: bytes, value: bytes) -> None:
        # The parser calls this for trailers too.
        self._header_lines += 1
        if name in _ORDINARY_HEADERS or self._head_is_complete:
            return
        name = name.lower()
        if name == b"content-length":
            self._has_framing = True
            self._has_length = True
            if int(value[:20]) > self._body_bytes_max and not self._in_pieces:
                self._stop_too_large()
        elif name in _UNUSUAL_HEADERS:
            self._read_unusual_header(name, value)

    def _read_unusual_header(self, name: bytes, value: bytes) -> None:
        if name == b"keep-alive":
            if value != self._keep_alive_field:
                self._keep_alive_field = value
                self.idle_seconds = min(self._idle_seconds_max, keep_alive_seconds(value))
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
                self._decoder = decoder_for(
                    self._content_encoding, bytes_max=self._body_bytes_max, in_pieces=self._in_pieces
                )
            except UndecodableBody as error:
                self._stop(str(error))

    def on_chunk_complete(self) -> None:
        # A chunk's shortest framing doesn't count as head. The parser calls this for the last chunk too.
        chunk_bytes = self._body_bytes_received - self._chunked_bytes
        self._chunked_bytes = self._body_bytes_received
        self._chunk_line_bytes += max(1, (chunk_bytes.bit_length() + 3) // 4) + 4

    def on_body(self, body: bytes) -> None:
        self._body_bytes_received += len(body)
        self._last_piece = body
        if self._body_bytes_received > self._body_bytes_max and not self._in_pieces:
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
        if self._status >= FINAL_STATUS_MIN:
            self._complete = True
            self.keep_alive = self._parser.should_keep_alive()
            return
        self._interim_responses += 1
        self._head_is_complete = False
        self._has_framing = False
        self._has_length = False
        self._is_plain = False
        self._content_encoding = b""
        self._decoder = None
        if self._interim_responses > INTERIM_RESPONSES_MAX:
            self._stop("too many interim responses")

    def _stop(self, detail: str) -> NoReturn:
        self._failure = InvalidResponse(INVALID, detail)
        raise self._failure

    def _stop_too_large(self) -> NoReturn:
        self._failure = InvalidResponse(TOO_LARGE, f"more than {self._body_bytes_max} bytes")
        raise self._failure
