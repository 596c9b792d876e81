"""Decode an upstream's answer, and replace one member of it without changing the others.

Reads what upstreams really send: Python's numbers beyond JSON (`NaN`, `Infinity`), numbers that no double holds
(`1E400`) and half a surrogate pair make no answer unreadable, because Tok0n reads none of them. Invalid UTF-8 does.
"""

import json
import re
from typing import Any

import msgspec

INTEGER_DIGITS_MAX = 20
"""A longer integer is no count of tokens; converting it takes quadratic time."""

_decode_values = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode
_skip_space = re.compile(r"[ \t\n\r]*").match


def decode(body: bytes) -> Any:
    """The decoded body, or None if it is not JSON. Of a member given twice the last counts."""
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
    """`body`, an object that `decode` could read, with one string member set. Each member is there once, the last."""
    try:
        raw: dict[str, Any] = _decode_raw(body)
        raw[name] = value
        return _encode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        members = _split(body.decode())
    members[name] = (_encode(name).decode(), _encode(value).decode())
    return ("{" + ",".join(map(":".join, members.values())) + "}").encode()


def _split(text: str) -> dict[str, tuple[str, str]]:
    """The members of an object by name: the text of each key and of each value."""
    members: dict[str, tuple[str, str]] = {}
    at = _after_space(text, text.index("{") + 1)
    while text[at] != "}":
        key, key_end = _lenient.raw_decode(text, at)
        value_at = _after_space(text, text.index(":", key_end) + 1)
        _, value_end = _lenient.raw_decode(text, value_at)
        members[key] = text[at:key_end], text[value_at:value_end]
        at = _after_space(text, value_end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return members


def _after_space(text: str, at: int) -> int:
    match = _skip_space(text, at)
    assert match is not None, "the pattern matches the empty text"
    return match.end()


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= INTEGER_DIGITS_MAX else float("inf")


_lenient = json.JSONDecoder(parse_int=_integer)
