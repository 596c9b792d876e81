"""A key given twice is found however the text is written; a key that is not never is."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tok0n.domain.errors import InvalidRequest
from tok0n.domain.json_text import decode_object

keys = st.sampled_from(["a", "b", ":", '":', '"', "\\", 'a\\"', "a\\", "\\\\", 'x": "y', ' "', "é", ""])
spaces = st.sampled_from(["", " ", "  ", "\t", "\n", "\r\n "])


@st.composite
def texts(draw: st.DrawFn, depth: int = 0) -> tuple[str, bool]:
    """A JSON text, and whether an object in it gives a key twice."""
    kind = draw(st.sampled_from(["text", "number", "object", "list"] if depth < 3 else ["text", "number"]))
    if depth == 0:
        kind = "object"
    if kind == "text":
        return json.dumps(draw(keys), ensure_ascii=draw(st.booleans())), False
    if kind == "number":
        return "1.0e5", False
    parts, names, twice = [], [], False
    for _ in range(draw(st.integers(0, 4))):
        part, inner = draw(texts(depth=depth + 1))
        twice |= inner
        if kind == "object":
            names.append(draw(keys))
            part = f"{json.dumps(names[-1])}{draw(spaces)}:{draw(spaces)}{part}"
        parts.append(draw(spaces) + part + draw(spaces))
    twice |= len(set(names)) < len(names)
    opening, closing = "{}" if kind == "object" else "[]"
    return opening + ",".join(parts) + closing, twice


@given(texts())
@example((r'{"a": 1, "a": 2, "b\\": 3}', True))
@example((r'{"a" : 1, "a": 2}', True))
@example((r'{"a": "\\\":", "a": 2}', True))
@example((r'{"a": "\":", "b": 2}', False))
def test_a_key_given_twice_is_found_and_no_other_is(case: tuple[str, bool]) -> None:
    text, twice = case
    expected: Any = json.loads(text)
    if twice:
        with pytest.raises(InvalidRequest, match="twice"):
            decode_object(text.encode())
    else:
        assert decode_object(text.encode())[0] == expected
