"""Headers, as handlers and the server pass them around, and the response that a handler returns."""

import http
from collections.abc import AsyncIterator, Awaitable
from typing import Protocol

import msgspec

from tok0n.http.pushed_body import PushedBody

Headers = list[tuple[bytes, bytes]]
"""Names and values. Names are in lower case."""

STATUS_LINE = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in http.HTTPStatus}

_WITHOUT_BODY = frozenset({204, 304})


class Pieces(Protocol):
    """The body of a streamed response, such as an async generator.

    The server always calls `aclose`, even if it stops early.
    """

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the pieces."""

    def aclose(self) -> Awaitable[None]:
        """Stop producing pieces."""


class Response(msgspec.Struct, frozen=True):
    """A response with a complete body, or with a streamed one: pieces to iterate over, or pushed ones.

    The server adds `content-length`, `transfer-encoding` and `connection`. Only a streamed body may have its
    `content-length` in `headers`. `header_lines` are sent after `headers` as they are: complete lines, each with its
    line break. For headers that are always the same, preformatted lines are faster.
    """

    status: int
    headers: Headers
    body: bytes | bytearray | Pieces | PushedBody = b""
    header_lines: bytes = b""


def render_complete(response: Response, body: bytes | bytearray, *, keep_alive: bool, is_head: bool) -> bytes:
    """Render a response with a complete body. A response to HEAD is rendered without it.

    Raises `ValueError` if a header contains a line break.
    """
    lines = _render(response)
    end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
    if response.status in _WITHOUT_BODY:
        return b"".join((STATUS_LINE[response.status], lines, end))
    if is_head:
        body, length = b"", len(body)
    else:
        length = len(body)
    return b"".join((STATUS_LINE[response.status], lines, b"content-length: %d\r\n" % length, end, body))


class StreamedBody:
    """Frames the pieces of one streamed response: by its `content-length`, in chunks, or by the end of the connection.

    HTTP/1.0 has no chunked encoding, so without a `content-length` the connection must close after the response.
    Without `has_body`, don't call `frame` and `end`.
    """

    def __init__(self, response: Response, *, is_http_10: bool, is_head: bool) -> None:
        self._status = response.status
        self._lines = _render(response)
        self._bytes_left = _content_length(response.headers)
        self.has_body = not is_head and response.status not in _WITHOUT_BODY
        has_unknown_length = self._bytes_left is None and self.has_body
        self._is_chunked = has_unknown_length and not is_http_10
        self.must_close = has_unknown_length and is_http_10

    def head(self, *, keep_alive: bool) -> bytes:
        """Render the status line and the headers."""
        chunked = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        end = b"\r\n" if keep_alive else b"connection: close\r\n\r\n"
        return b"".join((STATUS_LINE[self._status], self._lines, chunked, end))

    def frame(self, piece: bytes) -> bytes:
        """Frame one piece. Raises `ValueError` if the body becomes longer than its `content-length`."""
        if self._is_chunked:
            return b"%x\r\n%b\r\n" % (len(piece), piece) if piece else b""
        if self._bytes_left is not None:
            self._bytes_left -= len(piece)
            if self._bytes_left < 0:
                raise ValueError("the body is longer than its content-length")
        return piece

    def end(self) -> bytes:
        """Frame the end of the body. Raises `ValueError` if the body is shorter than its `content-length`."""
        if self._bytes_left:
            raise ValueError("the body is shorter than its content-length")
        return b"0\r\n\r\n" if self._is_chunked else b""


def _render(response: Response) -> bytes:
    headers = response.headers
    if not headers:
        return response.header_lines
    lines = b"\r\n".join(map(b": ".join, headers)) + b"\r\n"
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers):
        raise ValueError("a header has a line break")
    return lines + response.header_lines


def _content_length(headers: Headers) -> int | None:
    return next((int(value) for name, value in headers if name == b"content-length"), None)
