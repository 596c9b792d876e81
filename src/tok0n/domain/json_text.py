"""Read a request's JSON strictly: what is validated is, to the byte, what is forwarded.

A document that two parsers could read in two ways (a key given twice, a lone surrogate) is refused.
"""

import json
from typing import Any

import msgspec

from tok0n.domain.errors import InvalidRequest

JsonText = bytes | bytearray
"""A JSON document: bytes that arrived in one read, or the buffer that collected several."""

CONTAINERS_FREE = 1_000
BYTES_PER_CONTAINER = 16
"""A body may have `CONTAINERS_FREE` arrays and objects, and one more per `BYTES_PER_CONTAINER` bytes.

Each costs up to a microsecond and 100 bytes of memory. Denser JSON than this is not a chat request.
"""

MEMBERS_MAX = 1_000
"""How many members the body itself may have."""

_decode_values = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_encode = msgspec.json.Encoder().encode

_NO_BRACKETS = bytes(set(range(256)).difference(b'[{"'))
_COLON = b":"
_ESCAPED_COLONS = (b"\\u003a", b"\\u003A")


def decode_object(body: JsonText) -> tuple[dict[str, Any], dict[str, msgspec.Raw]]:
    """The members of a JSON object twice: as values to look at, and as the raw bytes to forward.

    Raises `InvalidRequest` for anything but one JSON object in UTF-8 whose numbers, size and nesting can be handled.
    """
    if len(body) > 2 * CONTAINERS_FREE:
        _check_containers(body)
    try:
        values = _decode_values(body)
        if type(values) is not dict:
            raise InvalidRequest("The body must be a JSON object.")
        raw = _decode_raw(body)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise InvalidRequest("The body is not valid UTF-8.") from None
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"The body cannot be read: {error}.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(f"The body is not valid JSON: {_reason(body, error)}.") from None
    if len(values) > MEMBERS_MAX:
        raise InvalidRequest(f"The body must have at most {MEMBERS_MAX} members.")
    _refuse_duplicate_keys(body, values)
    return values, raw


def _check_containers(body: JsonText) -> None:
    """Reject too many arrays and objects. Counts all brackets first; if they are too many, those outside strings."""
    limit = CONTAINERS_FREE + len(body) // BYTES_PER_CONTAINER
    # With few brackets, replacing them is much faster than counting them: it searches with memchr.
    brackets = sum(len(body) - len(body.replace(bracket, b"", limit + 1)) for bracket in (b"[", b"{"))
    if brackets > limit and _count_brackets_outside_strings(body) > limit:
        raise InvalidRequest(f"A body of this size may have at most {limit} arrays and objects.")


def _count_brackets_outside_strings(body: JsonText) -> int:
    """How many arrays and objects begin in a JSON text. Takes linear time for any text."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    skeleton = body.translate(None, _NO_BRACKETS)
    return sum(map(len, skeleton.split(b'"')[::2]))


def _reason(body: JsonText, error: msgspec.DecodeError) -> str:
    if not body.strip():
        return "it is empty"
    if body.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark"
    return str(error).removeprefix("JSON is malformed: ")


def _refuse_duplicate_keys(body: JsonText, values: dict[str, Any]) -> None:
    """Raise `InvalidRequest` if an object has a key twice.

    Decoding drops all but one of them, so the decoded values encode to a text with fewer colons. An escaped colon could
    make up for that.
    """
    try:
        has_escaped_colons = b"\\" in body and any(colon in body for colon in _ESCAPED_COLONS)
        if not has_escaped_colons and body.count(_COLON) == _encode(values).count(_COLON):
            return
        _decode_pairs(body.decode())
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None


def _unique(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequest(f"The body gives the key {key[:80]!r} twice in one object.", param=key[:80])
        seen.add(key)


# A number is not converted: its length does as well, and takes no quadratic time.
_decode_pairs = json.JSONDecoder(object_pairs_hook=_unique, parse_int=len, parse_float=len).decode
