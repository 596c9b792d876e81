"""Parse and validate the lines of an HTTP/1.1 request's head, including how they frame the body.

Sources: RFC 9110 and RFC 9112. `parser` finds the lines; `BadRequest` says what is wrong with one.
"""

import re
from typing import Any

from tok0n.http.message import Headers

LENGTH_DIGITS_MAX = 18
KNOWN_LINES_MAX = 1_024
KNOWN_LINE_BYTES_MAX = 128
"""Each table of known lines has at most `KNOWN_LINES_MAX` of at most `KNOWN_LINE_BYTES_MAX` bytes."""

_TOKEN = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
FIELD_BYTES = bytes(byte for byte in range(256) if byte == 9 or (byte >= 32 and byte != 127))
HEAD_BYTES = FIELD_BYTES + b"\r\n"
_HOST_BYTES = bytes(byte for byte in range(33, 127) if byte not in b'"/<>?@\\^`{|}#')
_TARGET_BYTES = bytes(range(33, 127))

_VERSION = re.compile(rb"HTTP/(\d)\.\d")

BARE_LINE_END_MESSAGE = "Every line of the head must end with CRLF."
CONTROL_MESSAGE = "The head of the request has a control character."

_REQUEST_LINE_MESSAGE = "The request line must be METHOD TARGET HTTP/1.1."

_REPEATING_NAMES = frozenset(
    (
        b"accept accept-encoding accept-language connection content-length content-type host user-agent"
        b" x-stainless-arch x-stainless-async x-stainless-lang x-stainless-os x-stainless-package-version"
        b" x-stainless-read-timeout x-stainless-retry-count x-stainless-runtime x-stainless-runtime-version"
        b" x-stainless-timeout"
    ).split()
)
"""Headers that repeat in every request and hold no secret."""

_KNOWN_NAMES = frozenset((b"authorization", b"cookie"))

RequestLine = tuple[bytes, bytes, bool]

# The parsed form of lines that were valid before. A lookup takes a quarter of the time of parsing a line.
known_request_lines: dict[bytes, RequestLine] = {}
known_fields: dict[bytes, tuple[bytes, bytes]] = {}
_known_hosts: dict[bytes, bool] = {}


class BadRequest(Exception):
    """The request is malformed, so the end of it is unknown and the connection is unusable.

    `code` is `invalid_request`, `headers_too_large` or `http_version_not_supported`.
    """

    def __init__(self, message: str, *, code: str = "invalid_request") -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class RequestHead:
    """The request line and the headers, with lower-case names, in order of arrival.

    `headers_by_name` joins repeated values by commas. `content_length` is None for a chunked body. If `is_http_10`, the
    client supports neither chunks nor interim responses.
    """

    __slots__ = (
        "content_length",
        "expects_continue",
        "headers",
        "headers_by_name",
        "is_http_10",
        "keep_alive",
        "method",
        "target",
    )

    def __init__(self, request_line: RequestLine, headers: Headers) -> None:
        self.method, self.target, self.is_http_10 = request_line
        self.headers = headers
        headers_by_name = dict(headers)
        if len(headers_by_name) < len(headers):
            headers_by_name = _join_repeated(headers)
        self.headers_by_name = headers_by_name
        host = headers_by_name.get(b"host")
        if host is None or host not in _known_hosts:
            _check_host(host, is_http_10=self.is_http_10)
        self.keep_alive = not self.is_http_10
        self.expects_continue = False
        length = headers_by_name.get(b"content-length")
        if length is not None and length.isdigit() and len(length) <= LENGTH_DIGITS_MAX:
            self.content_length: int | None = int(length)
        else:
            self.content_length = 0 if length is None else _agreed_length(length)
        if b"transfer-encoding" in headers_by_name:
            _check_transfer_encoding(headers_by_name, is_http_10=self.is_http_10)
            self.content_length = None
        if b"connection" in headers_by_name and self.keep_alive:
            self.keep_alive = not _closes(headers_by_name[b"connection"])
        if b"expect" in headers_by_name:
            self.expects_continue = not self.is_http_10 and headers_by_name[b"expect"].lower() == b"100-continue"

    def set_length(self, digits: bytes, *, position: int) -> None:
        """Change the value of the only Content-Length, which is at `position` in the headers, to at most 18 digits."""
        self.content_length = int(digits)
        self.headers_by_name[b"content-length"] = digits
        self.headers[position] = b"content-length", digits


def read_request_line(line: bytes) -> RequestLine:
    """Return the method, the target, and whether the version is 1.0. Raises `BadRequest`."""
    _check_line(line)
    parts = line.split(b" ")
    if len(parts) != 3 or not parts[0] or not parts[1]:
        raise BadRequest(_REQUEST_LINE_MESSAGE)
    method, target, version = parts
    match = _VERSION.fullmatch(version)
    if match is None:
        raise BadRequest(_REQUEST_LINE_MESSAGE)
    if match[1] != b"1":
        raise BadRequest("This server speaks HTTP/1.1 only.", code="http_version_not_supported")
    if method.translate(None, _TOKEN):
        raise BadRequest("The request method has a character that no method may have.")
    if target.translate(None, _TARGET_BYTES):
        raise BadRequest("The request target has a character that must be percent-encoded.")
    request_line = method, target, version == b"HTTP/1.0"
    if b"?" not in target:
        _remember(known_request_lines, line, request_line)
    return request_line


def read_field(line: bytes) -> tuple[bytes, bytes]:
    """Return the lower-case name and the value of a header or trailer. Raises `BadRequest`."""
    _check_line(line)
    name, colon, value = line.partition(b":")
    lower = name.lower()
    field = lower, value.strip(b" \t")
    if colon and lower in _REPEATING_NAMES:
        _remember(known_fields, line, field)
    elif not colon or not name or (lower not in _KNOWN_NAMES and name.translate(None, _TOKEN)):
        raise BadRequest("Every header must be NAME: VALUE on one line, without a space before the colon.")
    return field


def _check_line(line: bytes) -> None:
    """Reject control characters, including any line end except CRLF."""
    if line.isascii() and line.decode("ascii").isprintable():
        return
    if line.translate(None, FIELD_BYTES):
        is_line_end = b"\r" in line or b"\n" in line
        raise BadRequest(BARE_LINE_END_MESSAGE if is_line_end else CONTROL_MESSAGE)


def _remember(cache: dict[bytes, Any], line: bytes, value: Any) -> None:
    if len(line) <= KNOWN_LINE_BYTES_MAX:
        if len(cache) >= KNOWN_LINES_MAX:
            cache.clear()
        cache[line] = value


def _join_repeated(headers: Headers) -> dict[bytes, bytes]:
    """Join the values of repeated headers with commas. Raises `BadRequest` for a second Host."""
    headers_by_name: dict[bytes, bytes] = {}
    for name, value in headers:
        if name not in headers_by_name:
            headers_by_name[name] = value
        elif name == b"host":
            raise BadRequest("A request must have only one Host header.")
        else:
            headers_by_name[name] += b", " + value
    return headers_by_name


def _check_host(host: bytes | None, *, is_http_10: bool) -> None:
    if host is None:
        if not is_http_10:
            raise BadRequest("An HTTP/1.1 request must have a Host header.")
    elif not host or host.translate(None, _HOST_BYTES):
        raise BadRequest("The Host header must name one host.")
    else:
        _remember(_known_hosts, host, True)


def _agreed_length(value: bytes) -> int:
    """Return the length on which all Content-Length headers agree. Raises `BadRequest` if they differ."""
    lengths = {item.strip(b" \t") for item in value.split(b",")}
    length = lengths.pop()
    if lengths:
        raise BadRequest("The Content-Length headers differ.")
    if not length.isdigit() or len(length) > LENGTH_DIGITS_MAX:
        raise BadRequest("Content-Length must be a decimal number.")
    return int(length)


def _check_transfer_encoding(headers_by_name: dict[bytes, bytes], *, is_http_10: bool) -> None:
    if is_http_10:
        raise BadRequest("An HTTP/1.0 request must not have Transfer-Encoding.")
    if b"content-length" in headers_by_name:
        raise BadRequest("A request must not have both Content-Length and Transfer-Encoding.")
    if headers_by_name[b"transfer-encoding"].lower() != b"chunked":
        raise BadRequest("The only supported Transfer-Encoding is chunked, once.")


def _closes(connection: bytes) -> bool:
    """Whether a Connection header has the option `close`."""
    return b"close" in [option.strip(b" \t") for option in connection.lower().split(b",")]
