"""Read a request's JSON strictly: what is validated is, to the byte, what travels on.

A document that two parsers could read in two ways (a key given twice, a lone surrogate) is refused.
"""

import json
import re
from typing import Any

import msgspec

from tok0n.domain.errors import InvalidRequest

CONTAINERS_FREE = 1_000
BYTES_PER_CONTAINER = 16
"""A body may have `CONTAINERS_FREE` arrays and objects, and one more per `BYTES_PER_CONTAINER` bytes.

Each costs up to a microsecond and 100 bytes of memory. Denser JSON than this is not a chat request.
"""

MEMBERS_MAX = 1_000
"""How many members the body itself may have."""

_decode_values = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_ALL_BYTES = bytes(range(256))
_BRACKETS = b"[{"
_COLON = b":"

_KEY_ENDS = re.compile(rb'"(?<!\\")[ \t\r\n]*:')
"""Matches every key with its colon, unless it ends in a backslash, and at times text in a string."""


def decode_object(body: bytes) -> tuple[dict[str, Any], dict[str, msgspec.Raw]]:
    """The members of a JSON object twice: as values to look at, and as the raw bytes that travel.

    Raises `InvalidRequest` for anything but one JSON object in UTF-8 whose numbers, size and nesting can be handled.
    """
    containers_max = CONTAINERS_FREE + len(body) // BYTES_PER_CONTAINER
    if len(body) > 2 * CONTAINERS_FREE and _count_containers(body, containers_max) > containers_max:
        raise InvalidRequest(f"The body has more than {containers_max} arrays and objects, too many for its size.")
    try:
        values = _decode_values(body)
        raw = _decode_raw(body) if type(values) is dict else {}
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8.") from None
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body cannot be read: {error}.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {_reason(body, error)}.") from None
    if type(values) is not dict:
        raise InvalidRequest("The body must be a JSON object.")
    if len(values) > MEMBERS_MAX:
        raise InvalidRequest(f"The body must have at most {MEMBERS_MAX} members.")
    _refuse_duplicate_keys(body, values)
    return values, raw


def _count_containers(body: bytes, enough: int) -> int:
    """How many arrays and objects begin in `body`; if brackets in strings may matter, only those outside count."""
    count = sum(map(body.count, (b"[", b"{")))
    return count if count <= enough else _count_outside_strings(body, _BRACKETS)


def _count_outside_strings(body: bytes, characters: bytes) -> int:
    """How many of `characters` are outside the strings of a JSON text. Takes linear time for any text."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    skeleton = body.translate(None, _ALL_BYTES.translate(None, characters + b'"'))
    return sum(map(len, skeleton.split(b'"')[::2]))


def _reason(body: bytes, error: msgspec.DecodeError) -> str:
    if not body.strip():
        return "it is empty"
    if body.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark"
    return str(error).removeprefix("JSON is malformed: ")


def _refuse_duplicate_keys(body: bytes, values: dict[str, Any]) -> None:
    """With as many keys in the text as in what was read from it, none can have been given twice."""
    keys = _count_keys(values)
    if body.count(_COLON) == keys:
        return
    if b'\\\\"' not in body and len(_KEY_ENDS.findall(body)) == keys:
        return
    if _count_outside_strings(body, _COLON) == keys:
        return
    try:
        _decode_pairs(body.decode())
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None


def _count_keys(values: dict[str, Any]) -> int:
    count = 0
    waiting: list[Any] = [values]
    for value in waiting:
        if type(value) is dict:
            count += len(value)
            value = value.values()  # noqa: PLW2901  its members are looked at below
        for member in value:
            if type(member) is dict or type(member) is list:
                waiting.append(member)  # noqa: PERF401  a comprehension would cost a frame for each container
    return count


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequest(f"The body gives the key {key[:80]!r} twice in one object.", param=key[:80])
        seen.add(key)


_decode_pairs = json.JSONDecoder(object_pairs_hook=_unique, parse_int=len, parse_float=len).decode
