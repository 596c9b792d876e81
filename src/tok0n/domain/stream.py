"""Parse server-sent events as their bytes arrive. Does no I/O.

Source: WHATWG HTML, "Server-sent events". Three differences: an event with empty data is dropped, white space before
the first event is ignored, and a body that starts like JSON or HTML is kept as a document. Upstreams return such
documents (an error, a proxy's page) with any content type.
"""

import msgspec

_IGNORED_AT_START = b"\xef\xbb\xbf \t\r\n"
"""The bytes of a byte order mark, and white space."""

_DOCUMENT_STARTS = b'{["<'
_PREFIX = b"data: "


class Event(msgspec.Struct, gc=False):
    """One event. `data` is never empty; its lines end with LF. `name` is the value of the `event` line, if any."""

    data: bytes
    name: bytes | None = None

    def render(self) -> bytes:
        """Return the event as the client gets it."""
        data = self.data if b"\n" not in self.data else self.data.replace(b"\n", b"\ndata: ")
        return b"data: %b\n\n" % data if self.name is None else b"event: %b\ndata: %b\n\n" % (self.name, data)


class EventParser:
    """Parses one body. `event_bytes_max` limits an event, counted without its last line ends, and a document.

    After an event that is too long, `is_too_long` is set, and nothing is read. `is_document` is set if the body is no
    stream of events; `end` then leaves it in `document`.
    """

    __slots__ = ("_event_bytes_max", "_is_after_cr", "_is_started", "_rest", "document", "is_document", "is_too_long")

    def __init__(self, *, event_bytes_max: int) -> None:
        self._event_bytes_max = event_bytes_max
        self._rest = bytearray()
        self._is_started = False
        self._is_after_cr = False
        self.is_too_long = False
        self.is_document = False
        self.document = b""

    def feed(self, piece: bytes) -> list[Event]:
        """Return the events that `piece` completes."""
        if self.is_too_long or not piece:
            return []
        if not self._is_started:
            piece = self._start(piece)
        if self.is_document:
            self._keep(piece)
            return []
        if self._is_after_cr or b"\r" in piece:
            piece = self._with_lf(piece)
        rest = self._rest
        if rest:
            if b"\n\n" not in piece and not (piece[:1] == b"\n" and rest[-1:] == b"\n"):
                self._keep(piece)
                return []
            piece = b"".join((rest, piece))
            rest.clear()
        if piece.endswith(b"\n\n"):
            return self._parse(piece)
        end = piece.rfind(b"\n\n") + 2
        events = []
        if end > 1:
            events = self._parse(piece[:end])
            piece = piece[end:]
        if not self.is_too_long:
            self._keep(piece.lstrip(b"\n"))
        return events

    def end(self) -> list[Event]:
        """Return the last event if the body ends without the blank line after it."""
        last = bytes(self._rest)
        self._rest.clear()
        if self.is_too_long:
            return []
        if self.is_document:
            self.document = last
            return []
        return self._parse(last + b"\n\n")

    def _start(self, piece: bytes) -> bytes:
        """Skip a byte order mark and white space at the start."""
        piece = piece.lstrip(_IGNORED_AT_START)
        if piece:
            self._is_started = True
            self.is_document = piece[0] in _DOCUMENT_STARTS
        return piece

    def _with_lf(self, piece: bytes) -> bytes:
        """Replace CRLF and CR by LF. A CR at the end of a piece ends its line, and the next piece may have its LF."""
        if self._is_after_cr and piece[:1] == b"\n":
            piece = piece[1:]
            self._is_after_cr = False
        if piece:
            self._is_after_cr = piece[-1:] == b"\r"
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, piece: bytes) -> None:
        rest = self._rest
        rest += piece
        if len(rest) > self._event_bytes_max and len(rest) - (rest[-1:] == b"\n") > self._event_bytes_max:
            self._stop()

    def _stop(self) -> None:
        self.is_too_long = True
        self._rest = bytearray()

    def _parse(self, text: bytes) -> list[Event]:
        """Return the events in `text`, which ends with a blank line."""
        if len(text) <= self._event_bytes_max and text.startswith(_PREFIX):
            plain = text[len(_PREFIX) : -2].split(b"\n\n" + _PREFIX)
            if b"\n" not in b"".join(plain) and b"" not in plain:
                return list(map(Event, plain))
        events = []
        for block in text.split(b"\n\n"):
            lines = block.strip(b"\n")
            if len(lines) > self._event_bytes_max:
                self._stop()
                break
            event = _read_lines(lines)
            if event is not None:
                events.append(event)
        return events


def _read_lines(block: bytes) -> Event | None:
    """Read an event of several lines. Ignores comments, `id`, `retry` and unknown fields."""
    name = None
    data = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        if field == b"data":
            data.append(value.removeprefix(b" "))
        elif field == b"event":
            name = value.removeprefix(b" ") or None
    text = b"\n".join(data)
    return Event(text, name) if text else None
