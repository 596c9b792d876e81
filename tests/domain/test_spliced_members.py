"""One member of an upstream's JSON is replaced or removed, and every other byte stays."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tok0n.domain.answer_json import decode, splice_member

NAMES = ['"usage"', '"us\\u0061ge"', '"model"', '"é"', '"\\"usage"', '"a\\\\"']
SPACES = st.sampled_from(["", " ", "\n\t"])
TEXTS = st.recursive(
    st.sampled_from(["null", "1", "1.50", "NaN", "1e999", '"usage"', '"é"', '"\\ud800"', '"\\"usage\\":1"', "9" * 30]),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(st.sampled_from(NAMES), inner), max_size=3).map(
            lambda members: "{" + ",".join(f"{name}:{value}" for name, value in members) + "}"
        )
    ),
    max_leaves=6,
)
MEMBERS = st.lists(st.tuples(SPACES, st.sampled_from(NAMES), SPACES, SPACES, TEXTS, SPACES), max_size=5)


def body_of(members: list[Any]) -> bytes:
    """Return an object with these members: space, name, space, colon, space, value, space."""
    parts = (f"{a}{name}{b}:{c}{value}{d}" for a, name, b, c, value, d in members)
    return ("{" + ",".join(parts) + "}").encode()


def is_usage(member: Any) -> bool:
    return bool(json.loads(member[1]) == "usage")


@given(members=MEMBERS)
@example(members=[("", '"model"', "", "", '{"usage":1}', ""), ("", '"us\\u0061ge"', "", "", "2", "")])
def test_a_replaced_value_is_all_that_changes(members: list[Any]) -> None:
    expected = [(*member[:4], "[7]", member[5]) if is_usage(member) else member for member in members]
    assert splice_member(body_of(members), "usage", b"[7]") == body_of(expected)


@given(members=MEMBERS)
def test_a_removed_member_leaves_the_others_as_they_were(members: list[Any]) -> None:
    spliced = splice_member(body_of(members), "usage", None)
    others = [member for member in members if not is_usage(member)]
    assert repr(decode(spliced)) == repr(decode(body_of(others)))
    assert b"".join(spliced.split()) == b"".join(body_of(others).split())
