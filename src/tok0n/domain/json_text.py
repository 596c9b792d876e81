"""Read a request's JSON strictly: what is validated is, to the byte, what travels on.

A document that two parsers could read in two ways (a key given twice, a lone surrogate) is refused.
"""

import json
from typing import Any

import msgspec

from tok0n.domain.errors import InvalidRequest

_decode_values = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def decode_object(body: bytes) -> tuple[dict[str, Any], dict[str, msgspec.Raw]]:
    """The members of a JSON object twice: as values to look at, and as the raw bytes that travel.

    Raises `InvalidRequest` for anything but one JSON object in UTF-8 whose numbers and nesting can be handled.
    """
    try:
        values = _decode_values(body)
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
    _refuse_duplicate_keys(body, values)
    return values, _decode_raw(body)


def _reason(body: bytes, error: msgspec.DecodeError) -> str:
    if not body.strip():
        return "it is empty"
    if body.startswith(b"\xef\xbb\xbf"):
        return "it begins with a byte order mark"
    return str(error).removeprefix("JSON is malformed: ")


def _refuse_duplicate_keys(body: bytes, values: dict[str, Any]) -> None:
    """Each key has a colon of its own, so that with as many keys as colons none can have been given twice."""
    if body.count(b":") == _count_keys(values):
        return
    try:
        _decode_pairs(body.decode())
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.") from None


def _count_keys(values: dict[str, Any]) -> int:
    count = 0
    waiting: list[Any] = [values]
    while waiting:
        value = waiting.pop()
        if type(value) is dict:
            count += len(value)
            waiting.extend(value.values())
        elif type(value) is list:
            waiting.extend(value)
    return count


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequest(f"The body gives the key {key[:80]!r} twice in one object.", param=key[:80])
        seen.add(key)


_decode_pairs = json.JSONDecoder(object_pairs_hook=_unique, parse_int=len, parse_float=len).decode
