"""Parse HTTP/1.1 requests strictly: ambiguous input is an error. Has no socket and no clock.

Source: RFC 9110 and RFC 9112. Where they let a server choose between repairing a message and rejecting it, this parser
rejects it, because a proxy in front of us may have repaired it in another way (docs/adr/0014). An offer to upgrade the
connection is a header like any other. Trailers are checked, counted and dropped.

    HEAD ──> LENGTH ─────────────────────────────> COMPLETE ──> HEAD (of the next request)
      ├────> CHUNK_SIZE ──> CHUNK_DATA ──> CHUNK_END ──> CHUNK_SIZE
      │         └──(size 0)──> TRAILERS ────────────> COMPLETE
      └──(no body)──────────────────────────────────> COMPLETE

A parser that has raised `BadRequest` must not be used again: the end of the request is unknown.
"""

import enum
import re
from typing import NamedTuple

from tok0n.http.head import (
    BARE_LINE_END_MESSAGE,
    CONTROL_MESSAGE,
    FIELD_BYTES,
    HEAD_BYTES,
    LENGTH_DIGITS_MAX,
    BadRequest,
    RequestHead,
    known_fields,
    known_request_lines,
    read_field,
    read_request_line,
)

CHUNKS_MAX = 1_000
BYTES_PER_CHUNK_MIN = 64
"""A chunked body may have `CHUNKS_MAX` chunks, plus one for each `BYTES_PER_CHUNK_MIN` bytes."""

TEMPLATE_MISSES_MAX = 3
"""After this many consecutive heads that don't match the template, the connection stops replacing it."""

TEMPLATE_BYTES_MAX = 2_048
"""A longer head does not become a template."""

_CR = 13
_CHUNK_DIGITS_MAX = 16
_LENGTH_LIMIT = 10**LENGTH_DIGITS_MAX
_LENGTH_LINE = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([0-9]{1,%d})[ \t]*(?=\r\n|\Z)" % LENGTH_DIGITS_MAX)
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,%d})((?:;[^\r\n]*)?)" % _CHUNK_DIGITS_MAX)

_BARE_FRAMING_LINE_END_MESSAGE = "Every line of a chunked body's framing must end with CRLF."
_LONG_CHUNK_MESSAGE = "A chunk of the body is longer than its size says."


class ParserState(enum.Enum):
    """What the next byte belongs to."""

    HEAD = enum.auto()
    LENGTH = enum.auto()
    CHUNK_SIZE = enum.auto()
    CHUNK_DATA = enum.auto()
    CHUNK_END = enum.auto()
    TRAILERS = enum.auto()
    COMPLETE = enum.auto()


_HEAD, _LENGTH, _CHUNK_SIZE, _CHUNK_DATA, _CHUNK_END, _TRAILERS, _COMPLETE = ParserState


class _HeadTemplate(NamedTuple):
    """A parsed head, with its bytes before and after the digits of its Content-Length.

    Most clients send the same head with every request except for these digits, so it need not be parsed again.
    """

    before: bytes
    after: bytes
    head: RequestHead
    position: int
    """The index of Content-Length in the headers."""


class RequestParser:
    """Parses the requests of one connection in sequence.

    Call `feed` with received bytes, then `read_head` until it returns a head, then `read_body` until `is_complete`,
    then `start_next`. `head_bytes_max` limits the head, the trailers and the chunk extensions of a request together,
    and `header_lines_max` its headers and trailers together. Both limits are exact, however the bytes arrive.

    `is_complete` says whether the complete request was read. `buffer` is empty if no bytes are unread.
    """

    __slots__ = (
        "_body_bytes",
        "_checked_bytes",
        "_chunks",
        "_counted_bytes",
        "_head_bytes_max",
        "_header_lines_max",
        "_lines",
        "_position",
        "_remaining",
        "_request_line_is_valid",
        "_state",
        "_template",
        "_template_misses",
        "buffer",
        "is_complete",
    )

    def __init__(self, *, head_bytes_max: int, header_lines_max: int) -> None:
        self._head_bytes_max = head_bytes_max
        self._header_lines_max = header_lines_max
        self.buffer: bytes | bytearray = b""
        self._position = 0
        self._checked_bytes = 0
        self._request_line_is_valid = False
        self._remaining = 0
        self._template: _HeadTemplate | None = None
        self._template_misses = -1  # The first head is not a miss, because most connections have one request.
        self._chunks = 0
        self._body_bytes = 0
        self.start_next()

    def start_next(self) -> None:
        """Expect the head of another request."""
        self._state = _HEAD
        self.is_complete = False
        self._counted_bytes = self._lines = 0

    @property
    def buffered_bytes(self) -> int:
        """The number of unread bytes."""
        return len(self.buffer) - self._position

    def feed(self, data: bytes) -> None:
        """Add received bytes."""
        if not self.buffer:
            self.buffer = data
        else:
            self._drop_read_bytes()
            if type(self.buffer) is bytes:
                self.buffer = bytearray(self.buffer)
            self.buffer += data

    def drop(self) -> None:
        """Drop the unread bytes."""
        self.buffer = b""
        self._position = self._checked_bytes = 0

    def read_head(self) -> RequestHead | None:
        """Return the head of the request, or None while it is incomplete. Raises `BadRequest`.

        The returned object may be reused for the next request, so copy values that must outlive the request.
        """
        buffer, begin = self.buffer, self._position
        if self._template is not None and buffer.startswith(self._template.before, begin):
            head = self._read_by_template(self._template)
            if head is not None:
                return head
        if buffer[begin : begin + 1] in (b"\r", b"\n"):
            self._skip_empty_lines()
            buffer, begin = self.buffer, self._position
        checked = self._checked_bytes
        end = buffer.find(b"\r\n\r\n", checked - 3 if checked > begin + 3 else begin)
        if end < 0:
            self._check_partial_head()
            return None
        self._position = end + 4
        self._counted_bytes = counted_bytes = self._counted_bytes + end + 4 - begin
        if counted_bytes > self._head_bytes_max:
            self._check_counted(0)
        if checked:
            self._checked_bytes = 0
            self._request_line_is_valid = False
        text = bytes(buffer[begin:end])
        if end + 4 == len(buffer):
            self.drop()
        first, *lines = text.split(b"\r\n")
        self._lines = len(lines)
        if len(lines) > self._header_lines_max:
            self._count_lines(0)
        request_line = known_request_lines.get(first) or read_request_line(first)
        cached = known_fields.get
        head = RequestHead(request_line, [cached(line) or read_field(line) for line in lines])
        self._template_misses += 1
        if 0 < self._template_misses <= TEMPLATE_MISSES_MAX:
            self._template = _template_of(text, head)
        self._begin_body(head.content_length)
        return head

    def _read_by_template(self, template: _HeadTemplate) -> RequestHead | None:
        """Return the next head if it differs from the template's only in its Content-Length."""
        buffer, begin = self.buffer, self._position
        before, after, head, position = template
        digits_begin = begin + len(before)
        digits_end = buffer.find(b"\r", digits_begin, digits_begin + LENGTH_DIGITS_MAX + 1)
        if digits_end < 0 or not buffer.startswith(after, digits_end):
            return None
        digits = bytes(buffer[digits_begin:digits_end])
        end = digits_end + len(after)
        counted_bytes = self._counted_bytes + end - begin
        if not digits.isdigit() or counted_bytes > self._head_bytes_max:
            return None
        self._counted_bytes = counted_bytes
        self._template_misses = 0
        if end == len(buffer):
            self.drop()
        else:
            self._position = end
            self._checked_bytes = 0
        self._request_line_is_valid = False
        head.set_length(digits, position=position)
        self._begin_body(head.content_length)
        return head

    def _begin_body(self, length: int | None) -> None:
        if length is None:
            self._state = _CHUNK_SIZE
            self._chunks = self._body_bytes = 0
        elif length:
            self._state = _LENGTH
            self._remaining = length
        else:
            self._complete()

    def read_body(self) -> bytes:
        """Return the received part of the body without its framing. Raises `BadRequest`."""
        if self._state is _LENGTH:
            return self._take_counted(then=_COMPLETE)
        parts: list[bytes] = []
        while not self.is_complete:
            if self._state is _CHUNK_DATA:
                parts.append(self._take_counted(then=_CHUNK_END))
                if self._state is _CHUNK_DATA:
                    break
                continue
            line = self._take_line()
            if line is None:
                break
            if self._state is _CHUNK_SIZE:
                self._begin_chunk(line)
            elif self._state is _CHUNK_END:
                if line:
                    raise BadRequest(_LONG_CHUNK_MESSAGE)
                self._state = _CHUNK_SIZE
            else:
                self._read_trailer(line)
        if self._position == len(self.buffer):
            self.drop()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _complete(self) -> None:
        self._state = _COMPLETE
        self.is_complete = True

    def _take_counted(self, *, then: ParserState) -> bytes:
        """Take the received bytes of a part of known length. After its last byte, enter the state `then`."""
        buffer, begin, size = self.buffer, self._position, self._remaining
        end = begin + size
        if end >= len(buffer):
            size = len(buffer) - begin
            taken = bytes(buffer[begin:])
            self.drop()
        else:
            taken = bytes(buffer[begin:end])
            self._position = end
        self._remaining -= size
        if not self._remaining:
            self._state = then
            self.is_complete = then is _COMPLETE
        return taken

    def _take_line(self) -> bytes | None:
        """Take one line of the chunked framing without its line end. None while it is incomplete."""
        buffer, begin = self.buffer, self._position
        checked = max(begin, self._checked_bytes - 1)
        end = buffer.find(b"\r\n", checked)
        if end < 0:
            self._check_partial_line(bytes(buffer[checked:]), len(buffer) - begin)
            self._checked_bytes = len(buffer)
            return None
        line = bytes(buffer[begin:end])
        if b"\n" in line or b"\r" in line:
            raise BadRequest(_BARE_FRAMING_LINE_END_MESSAGE)
        self._position = end + 2
        self._checked_bytes = 0
        return line

    def _check_partial_line(self, new: bytes, size: int) -> None:
        """Reject an incomplete line as soon as it can't become valid. `size` is its length so far."""
        if _has_bare_line_end(new):
            raise BadRequest(_BARE_FRAMING_LINE_END_MESSAGE)
        if self._state is _CHUNK_END and new not in {b"", b"\r"}:
            raise BadRequest(_LONG_CHUNK_MESSAGE)
        if self._state is _TRAILERS:
            self._check_counted(size + 1)
        else:
            self._check_counted(size - _CHUNK_DIGITS_MAX - 1)

    def _begin_chunk(self, line: bytes) -> None:
        match = _CHUNK_LINE.fullmatch(line)
        if match is None or line.translate(None, FIELD_BYTES):
            raise BadRequest("The size of a chunk must be a hexadecimal number.")
        digits, extensions = match.groups()
        self._count(len(extensions))
        size = int(digits, 16)
        if not size:
            self._state = _TRAILERS
            return
        self._chunks += 1
        self._body_bytes += size
        if size >= _LENGTH_LIMIT:
            raise BadRequest("A chunk of the body is too large.")
        if self._chunks > CHUNKS_MAX + self._body_bytes // BYTES_PER_CHUNK_MIN:
            raise BadRequest("The body has too many small chunks. Send larger chunks, or a Content-Length.")
        self._remaining = size
        self._state = _CHUNK_DATA

    def _read_trailer(self, line: bytes) -> None:
        self._count(len(line) + 2)
        if not line:
            self._complete()
            return
        self._count_lines(1)
        read_field(line)

    def _drop_read_bytes(self) -> None:
        """Drop the bytes before the position."""
        if not self._position:
            return
        self.buffer = self.buffer[self._position :]
        self._checked_bytes = max(0, self._checked_bytes - self._position)
        self._position = 0

    def _skip_empty_lines(self) -> None:
        """Skip CRLFs before a request line (RFC 9112, section 2.2). They count toward the head."""
        self._drop_read_bytes()
        rest = self.buffer.lstrip(b"\r\n")
        skipped = bytes(self.buffer[: len(self.buffer) - len(rest)])
        kept = b"\r" if not rest and skipped.endswith(b"\r") else b""
        if skipped.replace(b"\r\n", b"") != kept:
            raise BadRequest(BARE_LINE_END_MESSAGE)
        self._count(len(skipped) - len(kept))
        self.buffer = kept + bytes(rest)
        self._checked_bytes = 0

    def _check_partial_head(self) -> None:
        """Reject an incomplete head as soon as it can't become valid."""
        self._drop_read_bytes()
        buffer, checked = self.buffer, self._checked_bytes
        splits_line_end = checked and buffer[checked - 1] == _CR
        new = bytes(buffer[checked - 1 if splits_line_end else checked :])
        if new.translate(None, HEAD_BYTES):
            raise BadRequest(CONTROL_MESSAGE)
        if _has_bare_line_end(new):
            raise BadRequest(BARE_LINE_END_MESSAGE)
        self._check_counted(len(buffer) + 1)
        if not self._request_line_is_valid and b"\r\n" in new:
            read_request_line(bytes(buffer[: buffer.index(b"\r\n")]))
            self._request_line_is_valid = True
        self._checked_bytes = len(buffer)

    def _count(self, size: int) -> None:
        self._check_counted(size)
        self._counted_bytes += size

    def _check_counted(self, added_bytes: int) -> None:
        if self._counted_bytes + added_bytes > self._head_bytes_max:
            raise BadRequest(
                f"The request line, headers, trailers and chunk extensions must have at most {self._head_bytes_max}"
                " bytes together.",
                code="headers_too_large",
            )

    def _count_lines(self, lines: int) -> None:
        self._lines += lines
        if self._lines > self._header_lines_max:
            raise BadRequest(
                f"A request must have at most {self._header_lines_max} headers and trailers together.",
                code="headers_too_large",
            )


def _template_of(text: bytes, head: RequestHead) -> _HeadTemplate | None:
    """Return the template of a head, or None without a Content-Length or with repeated headers."""
    match = _LENGTH_LINE.search(text)
    if match is None or len(head.headers) != len(head.headers_by_name) or len(text) > TEMPLATE_BYTES_MAX:
        return None
    begin, end = match.span(1)
    position = list(head.headers_by_name).index(b"content-length")
    return _HeadTemplate(before=text[:begin], after=text[end:] + b"\r\n\r\n", head=head, position=position)


def _has_bare_line_end(data: bytes) -> bool:
    """Whether there is a CR or LF without the other. Ignores a CR at the end, because its LF may follow."""
    line_ends = data.count(b"\r\n")
    return data.count(b"\n") != line_ends or data.count(b"\r") - data.endswith(b"\r") != line_ends
