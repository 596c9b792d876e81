"""Decode an upstream's response, and replace one member without changing the others.

Upstreams send invalid JSON in values that Tok0n doesn't use. The decoder accepts Python's `NaN` and `Infinity`, numbers
beyond a double's range (`1E400`) and lone surrogates. It rejects invalid UTF-8.
"""

import json
import re
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


def _split(text: str) -> dict[str, tuple[str, str]]:
    """Map the name of each member of an object to the JSON text of its key and of its value."""
    members: dict[str, tuple[str, str]] = {}
    position = _after_space(text, text.index("{") + 1)
    while text[position] != "}":
        key, key_end = _lenient.raw_decode(text, position)
        value_start = _after_space(text, text.index(":", key_end) + 1)
        _, value_end = _lenient.raw_decode(text, value_start)
        members[key] = text[position:key_end], text[value_start:value_end]
        position = _after_space(text, value_end)
        if text[position] == ",":
            position = _after_space(text, position + 1)
    return members


def _after_space(text: str, position: int) -> int:
    match = _skip_space(text, position)
    assert match is not None, "the pattern matches the empty string"
    return match.end()


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else float("inf")


_lenient = json.JSONDecoder(parse_int=_integer)
