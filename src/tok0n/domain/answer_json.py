"""Decode an upstream's response or event, and replace one member without changing the others.

Upstreams send invalid JSON in values that Tok0n doesn't use. The decoder accepts Python's `NaN` and `Infinity`, numbers
beyond a double's range (`1E400`) and lone surrogates. It rejects invalid UTF-8.
"""

import json
import re
from collections.abc import Iterator
from typing import Any

import msgspec

INTEGER_DIGITS_MAX = 20
"""Longer integers decode to infinity: they are no token counts, and converting them takes quadratic time."""

_decode_values = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_skip_space = re.compile(r"[ \t\n\r]*").match


def decode(body: bytes) -> Any:
    """Return the decoded body, or None if it is not JSON. If an object repeats a member, the last one counts."""
    try:
        return _decode_values(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    except RecursionError:
        return None
    try:
        return _lenient.decode(body.decode())
    except (ValueError, RecursionError):
        return None


def replace_member(body: bytes, name: str, value: str) -> bytes:
    """Set one string member of `body`, a JSON object that `decode` accepts. Keeps only the last of repeated members."""
    try:
        raw: dict[str, Any] = _decode_raw(body)
        raw[name] = value
        return _encode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        members = _split(body.decode())
    members[name] = (_encode(name).decode(), _encode(value).decode())
    return ("{" + ",".join(map(":".join, members.values())) + "}").encode()


def splice_member(body: bytes, name: str, value: bytes | None) -> bytes:
    """Replace the JSON value of one member of an object that `decode` accepts, or remove the member if it is None.

    Every other byte stays, including white space. If the member repeats, changes each. If it is absent, changes none.
    """
    for start, value_start, value_end in reversed(_spans(body, name)):
        if value is not None:
            body = body[:value_start] + value + body[value_end:]
            continue
        before, after = body[:start].rstrip(), body[value_end:]
        if before.endswith(b","):
            before = before[:-1]
        elif after.lstrip().startswith(b","):
            after = after.lstrip()[1:]
        body = before + after
    return body


def splice_inner_member(body: bytes, outer: str, name: str, value: bytes) -> bytes:
    """Replace the JSON value of member `name` of the object that is member `outer`, as `splice_member` does.

    Does nothing where `outer` is not an object.
    """
    for _, start, end in reversed(_spans(body, outer)):
        if body[start:end].startswith(b"{"):
            body = body[:start] + splice_member(body[start:end], name, value) + body[end:]
    return body


def _spans(body: bytes, name: str) -> list[tuple[int, int, int]]:
    """Return where the members of this name start, and where their values start and end."""
    key = _encode(name)
    if body.count(key) == 1 and b"\\u00" not in body:  # Any other spelling of this key has \u00.
        try:
            raw = _decode_raw(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            if name not in raw:
                return []
            value = bytes(raw[name])
            start = body.index(key)
            value_start = body.index(value, start + len(key))
            return [(start, value_start, value_start + len(value))]
    text = body.decode()
    places = [place[1:] for place in _members(text) if place[0] == name]
    if text.isascii():
        return [(start, value_start, value_end) for start, _, value_start, value_end in places]
    return [
        (len(text[:start].encode()), len(text[:value_start].encode()), len(text[:value_end].encode()))
        for start, _, value_start, value_end in places
    ]


def _split(text: str) -> dict[str, tuple[str, str]]:
    """Map the name of each member of an object to the JSON text of its key and of its value."""
    return {
        name: (text[start:key_end], text[value_start:value_end])
        for name, start, key_end, value_start, value_end in _members(text)
    }


def _members(text: str) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield the name of each member of an object, where its key starts and ends, and where its value does."""
    position = _after_space(text, text.index("{") + 1)
    while text[position] != "}":
        key, key_end = _lenient.raw_decode(text, position)
        value_start = _after_space(text, text.index(":", key_end) + 1)
        _, value_end = _lenient.raw_decode(text, value_start)
        yield key, position, key_end, value_start, value_end
        position = _after_space(text, value_end)
        if text[position] == ",":
            position = _after_space(text, position + 1)


def _after_space(text: str, position: int) -> int:
    match = _skip_space(text, position)
    assert match is not None, "the pattern matches the empty string"
    return match.end()


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else float("inf")


_lenient = json.JSONDecoder(parse_int=_integer)
