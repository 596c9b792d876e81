"""Decode a request's JSON strictly, because the gateway validates the decoded values but forwards the raw bytes.

It rejects documents that two parsers could read differently, such as duplicate keys and lone surrogates.
"""

import json
from typing import Any

import msgspec

from tok0n.domain.errors import InvalidRequest

JsonText = bytes | bytearray
"""A JSON document: bytes from one read of the socket, or the buffer of several reads."""

CONTAINERS_FREE = 1_000
BYTES_PER_CONTAINER = 16
"""A body may have `CONTAINERS_FREE` arrays and objects, plus one for each `BYTES_PER_CONTAINER` bytes.

Decoding each takes up to a microsecond and 100 bytes of memory. No real chat request is denser than this.
"""

MEMBERS_MAX = 1_000
"""The most members of the top-level object."""

_decode_values = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_encode = msgspec.json.Encoder().encode

_NO_BRACKETS = bytes(set(range(256)).difference(b'[{"'))
_COLON = b":"
_ESCAPED_COLONS = (b"\\u003a", b"\\u003A")


def decode_object(body: JsonText) -> tuple[dict[str, Any], dict[str, msgspec.Raw]]:
    """Return the members of a JSON object twice: as decoded values to validate, and as raw bytes to forward.

    Raises `InvalidRequest` unless the body is one JSON object in UTF-8 within the limits of size, nesting and numbers.
    """
    if len(body) > 2 * CONTAINERS_FREE:
        _check_containers(body)
    try:
        values = _decode_values(body)
        if type(values) is not dict:
            raise InvalidRequest("The body must be a JSON object.")
        raw = _decode_raw(body)
    except RecursionError:
        raise InvalidRequest("The body has too many levels of nesting.") from None
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8.") from None
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body can't be decoded: {error}.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {_reason(body, error)}.") from None
    if len(values) > MEMBERS_MAX:
        raise InvalidRequest(f"The body must have at most {MEMBERS_MAX} members.")
    _reject_duplicate_keys(body, values)
    return values, raw


def _check_containers(body: JsonText) -> None:
    """Raise `InvalidRequest` for too many arrays and objects.

    Counts all brackets first, which is fast, and excludes brackets in strings only if there are too many.
    """
    limit = CONTAINERS_FREE + len(body) // BYTES_PER_CONTAINER
    brackets = sum(_count(body, bracket) for bracket in (b"[", b"{"))
    if brackets > limit and _count_brackets_outside_strings(body) > limit:
        raise InvalidRequest(f"A body of this size may have at most {limit} arrays and objects.")


def _count(text: JsonText, character: bytes) -> int:
    """Count an ASCII character.

    `replace` searches with memchr, so it is much faster than `count` unless every few bytes match.
    """
    limit = len(text) // BYTES_PER_CONTAINER
    count = len(text) - len(text.replace(character, b"", limit))
    return count if count < limit else text.count(character)


def _count_brackets_outside_strings(body: JsonText) -> int:
    """Count the arrays and objects of a JSON text in linear time."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    skeleton = body.translate(None, _NO_BRACKETS)
    return sum(map(len, skeleton.split(b'"')[::2]))


def _reason(body: JsonText, error: msgspec.DecodeError) -> str:
    if not body.strip():
        return "it is empty"
    if body.startswith(b"\xef\xbb\xbf"):
        return "it starts with a byte order mark"
    return str(error).removeprefix("JSON is malformed: ")


def _reject_duplicate_keys(body: JsonText, values: dict[str, Any]) -> None:
    """Raise `InvalidRequest` if an object has duplicate keys.

    Decoding drops duplicates, so the encoded values then have fewer colons than the body. That quick check can miss
    duplicates if the body escapes colons, so such a body is always decoded again.
    """
    try:
        # `find`, because `in` tries to convert a bytes operand to an integer first, which raises an exception inside.
        has_escapes = body.find(b"\\") >= 0
        has_escaped_colons = has_escapes and any(colon in body for colon in _ESCAPED_COLONS)
        if not has_escaped_colons and _count(body, _COLON) == _count(_encode(values), _COLON):
            return
        _decode_pairs(body.decode())
    except RecursionError:
        raise InvalidRequest("The body has too many levels of nesting.") from None


def _reject_repeated_keys(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequest(f"An object in the body has the key {key[:80]!r} twice.", param=key[:80])
        seen.add(key)


# Only keys matter here. `len` avoids converting long numbers, which takes quadratic time.
_decode_pairs = json.JSONDecoder(object_pairs_hook=_reject_repeated_keys, parse_int=len, parse_float=len).decode
