"""Recognize an event that differs from a known one only in its texts, without decoding it.

Most events of a stream are alike but for the words. Decoding each costs several microseconds, comparing it with a known
one less than a microsecond.
"""

import re

_KEYS = (b'"content":"', b'"reasoning_content":"', b'"reasoning":"', b'"arguments":"', b'"obfuscation":"')
"""How the members start whose texts differ. Inside a JSON string, the quotes would be escaped."""

_TEXT = re.compile(rb'[^"\\\x00-\x1f]*(?:\\["\\/bfnrt][^"\\\x00-\x1f]*)*')
"""The inside of a JSON string without `\\u` escapes. Whether it is UTF-8 is checked apart."""


class EventTemplate:
    """What is the same in all events that differ from a known one only in their texts.

    `data` has the parts of the event between its texts, and `output` those of what the client got for it.
    """

    __slots__ = ("_bytes_min", "_first", "_last", "_middle", "_output")

    def __init__(self, data: list[bytes], output: list[bytes]) -> None:
        self._first, *self._middle, self._last = data
        self._output = output
        self._bytes_min = sum(map(len, data))

    def apply(self, data: bytes) -> bytes | None:
        """Return what the client gets for an event that is alike, or None if it isn't."""
        if len(data) < self._bytes_min or not (data.startswith(self._first) and data.endswith(self._last)):
            return None
        start, end = len(self._first), len(data) - len(self._last)
        texts = []
        for part in self._middle:
            part_start = data.find(part, start, end)
            if part_start < 0:
                return None
            texts.append(data[start:part_start])
            start = part_start + len(part)
        texts.append(data[start:end])
        rendered = [self._output[0]]
        for text, part in zip(texts, self._output[1:], strict=True):
            if _TEXT.fullmatch(text) is None or not (text.isascii() or _is_utf8(text)):
                return None
            rendered += (text, part)
        return b"".join(rendered)


def make_template(data: bytes, output: bytes) -> EventTemplate | None:
    """Return the template of an event and its rendering, or None if they have no such texts, or different ones."""
    data_parts, output_parts = _split(data), _split(output)
    if len(data_parts) < 2 or len(data_parts) != len(output_parts):
        return None
    return EventTemplate(data_parts, output_parts)


def _split(event: bytes) -> list[bytes]:
    """Split an event at its texts. Returns one part if a member of these names repeats, or its text is unusual."""
    spans = []
    for key in _KEYS:
        start = event.find(key)
        if start < 0:
            continue
        start += len(key)
        match = _TEXT.match(event, start)
        assert match is not None, "the pattern matches the empty text"
        if event[match.end() : match.end() + 1] != b'"' or event.find(key, start) >= 0:
            return [event]
        spans.append(match.span())
    spans.sort()
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(event)]
    return [event[start:end] for start, end in zip(starts, ends, strict=True)]


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
