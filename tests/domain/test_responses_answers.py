"""A whole response is billed if it is complete or incomplete and reports its usage, and never otherwise."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.response_streams import OUTPUT, RESPONSE, THEIR_MODEL, USAGE, request_of
from tok0n.domain.answers import Answer, read_answer
from tok0n.domain.endpoints.responses import RESPONSES
from tok0n.domain.errors import RejectedByUpstream, UpstreamFailed
from tok0n.domain.usage import Usage

WHOLE = RESPONSE | {"status": "completed", "output": OUTPUT, "usage": USAGE}


def read(body: Any, status: int = 200) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_answer(RESPONSES, status, raw, request=request_of(), scrub=lambda text: text.replace("secret", "*"))


@pytest.mark.parametrize("status", ["completed", "incomplete"])
def test_a_finished_response_is_billed_and_its_model_is_public(status: str) -> None:
    answer = read(WHOLE | {"status": status})
    assert json.loads(answer.body) == WHOLE | {"status": status, "model": "m"}
    assert answer.usage == Usage(
        prompt_tokens=5,
        completion_tokens=7,
        total_tokens=12,
        details={"input_tokens_details.cached_tokens": 2, "output_tokens_details.reasoning_tokens": 3},
    )


def test_a_response_without_a_status_is_billed() -> None:
    assert read({"output": [], "usage": USAGE}).usage.total_tokens == 12


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (USAGE | {"total_tokens": 20}, (5, 7, 20)),
        ({"input_tokens": 5, "total_tokens": 12}, (5, 7, 12)),
        ({"input_tokens": 5, "output_tokens": 7, "total_tokens": 12, "cost": 0.5, "tool_usage": {}}, (5, 7, 12)),
        (USAGE | {"input_tokens_details": {"cache_write_tokens_details": {"ttl_12h_tokens": 3}}}, (5, 7, 12)),
    ],
)
def test_extra_members_of_usage_never_change_the_charge(usage: Any, expected: tuple[int, int, int]) -> None:
    read_usage = read(WHOLE | {"usage": usage}).usage
    assert (read_usage.prompt_tokens, read_usage.completion_tokens, read_usage.total_tokens) == expected


@pytest.mark.parametrize(
    "body",
    [
        WHOLE | {"status": "failed"},
        WHOLE | {"status": "failed", "error": {"code": "server_error", "message": "x"}},
        WHOLE | {"error": {"code": "server_error", "message": "x"}},
        WHOLE | {"status": "cancelled"},
        WHOLE | {"status": "in_progress"},
        WHOLE | {"status": "queued"},
        WHOLE | {"status": []},
        WHOLE | {"status": {}},
        WHOLE | {"output": None},
        WHOLE | {"usage": None},
        WHOLE | {"usage": USAGE | {"total_tokens": 11}},
        WHOLE | {"usage": USAGE | {"total_tokens": 0, "input_tokens": 0, "output_tokens": 0}},
        WHOLE | {"usage": USAGE | {"input_tokens": -1}},
        WHOLE | {"usage": USAGE | {"output_tokens": True}},
        WHOLE | {"usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}},
        {"choices": [{"message": {"content": "x"}}], "usage": USAGE},
        {"error": {"message": "x"}},
        {},
        [],
        7,
        None,
        b"",
        b"{",
        b"<html>",
    ],
)
def test_anything_else_with_a_200_is_not_billed(body: Any) -> None:
    with pytest.raises(UpstreamFailed) as error:
        read(body)
    assert error.value.outcome_unknown
    assert "You were not charged." in error.value.message


def test_an_input_error_of_the_upstream_is_the_customers() -> None:
    error = {
        "message": f"{THEIR_MODEL} says secret",
        "type": "invalid_request_error",
        "param": "input[0]",
        "code": None,
    }
    with pytest.raises(RejectedByUpstream) as rejected:
        read({"error": error}, 400)
    assert (rejected.value.message, rejected.value.param) == ("m says *", "input[0]")


MESSAGE = {"type": "message", "content": [{"type": "output_text", "text": "x"}]}


@pytest.mark.parametrize(
    ("status", "output", "is_cut"),
    [
        ("incomplete", [], True),
        ("incomplete", [{"type": "reasoning", "content": [{"type": "reasoning_text", "text": "x"}]}], True),
        ("incomplete", [{"type": "message", "content": []}], True),
        ("incomplete", [MESSAGE], False),
        ("incomplete", [{"type": "reasoning"}, {"type": "function_call", "call_id": "c"}], False),
        ("completed", [], False),
    ],
)
def test_a_verification_tries_again_if_reasoning_used_up_the_limit(
    status: str, output: list[Any], *, is_cut: bool
) -> None:
    assert RESPONSES.ended_before_output({"status": status, "output": output}) is is_cut


VALUES = st.recursive(
    st.sampled_from([None, True, 0, 5, -1, 1.5, "", "completed", "incomplete"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([*RESPONSE, *USAGE]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(
    VALUES | st.fixed_dictionaries({"output": VALUES}, optional={"status": VALUES, "usage": VALUES, "error": VALUES})
)
def test_any_body_is_an_answer_or_a_failure(body: Any) -> None:
    try:
        answer = read(body)
    except UpstreamFailed:
        return
    assert answer.usage.total_tokens > 0
    assert type(RESPONSES.ended_before_output(json.loads(answer.body))) is bool
