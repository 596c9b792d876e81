"""Read a request's JSON strictly: what is validated is, to the byte, what travels on.

A document that two parsers could read in two ways (a key given twice, a lone surrogate) is refused.
"""

import json
import re
from typing import Any

import msgspec

from tok0n.domain.errors import InvalidRequest

_decode_values = msgspec.json.Decoder().decode
_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode

_KEY_ENDS = re.compile(rb'"(?<!\\")[ \t\r\n]*:')


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
    """With as many keys in the text as in what was read from it, none can have been given twice."""
    keys = _count_keys(values)
    if body.count(b":") == keys or _count_keys_in_text(body) == keys:
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


def _count_keys_in_text(body: bytes) -> int | None:
    """At least as many as there are, and as a rule just as many: those whose closing quote and colon can be seen.

    A quote inside of a string follows a backslash. None where a string may also end in one.
    """
    return None if b'\\\\"' in body else len(_KEY_ENDS.findall(body))


def _unique(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidRequest(f"The body gives the key {key[:80]!r} twice in one object.", param=key[:80])
        seen.add(key)


_decode_pairs = json.JSONDecoder(object_pairs_hook=_unique, parse_int=len, parse_float=len).decode
