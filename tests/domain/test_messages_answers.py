"""A whole message is charged as its upstream reported, and a count of tokens is never charged."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.messages_requests import MODEL, count, read, sent
from tok0n.domain.answers import Answer, read_answer
from tok0n.domain.endpoints.count_tokens import COUNT_TOKENS
from tok0n.domain.endpoints.messages import MESSAGES
from tok0n.domain.endpoints.messages_usage import INPUTS, OUTPUT, read_message_usage
from tok0n.domain.errors import InsufficientTokens, UpstreamFailed
from tok0n.domain.usage import TOKENS_MAX, Usage

TEXT = {"type": "text", "text": "Hi"}
USAGE = {"input_tokens": 3, "cache_creation_input_tokens": 20, "cache_read_input_tokens": 100, "output_tokens": 7}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "um",
    "content": [TEXT],
    "stop_reason": "end_turn",
    "usage": USAGE,
}


def answer(values: Any, *, endpoint: Any = MESSAGES) -> Answer:
    body = values if isinstance(values, bytes) else msgspec.json.encode(values)
    request = read() if endpoint is MESSAGES else count()
    return read_answer(endpoint, 200, body, request=request, scrub=lambda text: text)


def test_the_customer_gets_the_message_with_the_public_model() -> None:
    assert msgspec.json.decode(answer(MESSAGE).body) == MESSAGE | {"model": "m"}


# For each report: the charged input and output tokens, or None if it is no report.
REPORTS: dict[str, tuple[Any, tuple[int, int] | None]] = {
    "all four": (USAGE, (123, 7)),
    "without caches": ({"input_tokens": 3, "output_tokens": 7}, (3, 7)),
    "null caches": (USAGE | {"cache_creation_input_tokens": None, "cache_read_input_tokens": None}, (3, 7)),
    "only cached input": ({"input_tokens": 0, "cache_read_input_tokens": 9, "output_tokens": 1}, (9, 1)),
    "no output": ({"input_tokens": 3, "output_tokens": 0}, (3, 0)),
    "absent figures are 0": ({"output_tokens": 7}, (0, 7)),
    "other members": (USAGE | {"server_tool_use": {"web_search_requests": 5}, "service_tier": "standard"}, (123, 7)),
    "the largest": ({"input_tokens": TOKENS_MAX - 1, "output_tokens": 1}, (TOKENS_MAX - 1, 1)),
    "one too many": ({"input_tokens": TOKENS_MAX, "output_tokens": 1}, None),
    "zeros": (dict.fromkeys(USAGE, 0), None),
    "empty": ({}, None),
    "null": (None, None),
    "a list": ([7], None),
    "negative": (USAGE | {"cache_read_input_tokens": -1}, None),
    "a string": (USAGE | {"output_tokens": "7"}, None),
    "a bool": (USAGE | {"input_tokens": True}, None),
    "a fraction": (USAGE | {"input_tokens": 3.0}, None),
    "OpenAI's names": ({"prompt_tokens": 3, "completion_tokens": 7, "total_tokens": 10}, None),
}


@pytest.mark.parametrize("name", REPORTS)
def test_which_usage_counts(name: str) -> None:
    report, charge = REPORTS[name]
    if charge is None:
        with pytest.raises(UpstreamFailed):
            answer(MESSAGE | {"usage": report})
        return
    usage = answer(MESSAGE | {"usage": report}).usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (*charge, sum(charge))


def test_breakdowns_are_kept_and_never_added() -> None:
    details = {
        "cache_creation": {"ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 5},
        "output_tokens_details": {"thinking_tokens": 4, "note": "secret", "x" * 99 + "_tokens": 1, "a b_tokens": 1},
    }
    assert answer(MESSAGE | {"usage": USAGE | details}).usage == Usage(
        prompt_tokens=123,
        completion_tokens=7,
        total_tokens=130,
        details={
            "cache_creation_input_tokens": 20,
            "cache_read_input_tokens": 100,
            "cache_creation.ephemeral_5m_input_tokens": 15,
            "cache_creation.ephemeral_1h_input_tokens": 5,
            "output_tokens_details.thinking_tokens": 4,
        },
    )


FIGURES = st.integers(-1, 50) | st.none() | st.booleans() | st.just(2**53) | st.text(max_size=1) | st.floats()


@given(st.dictionaries(st.sampled_from([*INPUTS, OUTPUT, "cache_creation"]), FIGURES) | FIGURES)
def test_any_report_is_a_charge_of_its_figures_or_none(report: Any) -> None:
    usage = read_message_usage({"usage": report})
    if usage is not None:
        assert usage.total_tokens == sum(report.get(name) or 0 for name in (*INPUTS, OUTPUT))
        assert 0 < usage.total_tokens <= TOKENS_MAX


@pytest.mark.parametrize(
    "values",
    [
        {"type": "error", "error": {"type": "overloaded_error", "message": "x"}},
        MESSAGE | {"error": {"message": "x"}},
        MESSAGE | {"type": "error"},
        MESSAGE | {"content": None},
        MESSAGE | {"content": "Hi"},
        MESSAGE | {"content": ["Hi"]},
        {"choices": [{"message": {"content": "Hi"}}], "usage": USAGE},
        [],
        7,
        b"",
        b"<html>",
        b'event: ping\ndata: {"type":"ping"}\n\n',
    ],
)
def test_a_body_that_is_not_a_message_is_not_charged(values: Any) -> None:
    with pytest.raises(UpstreamFailed) as failed:
        answer(values)
    assert failed.value.outcome_unknown


@pytest.mark.parametrize(
    ("content", "stop_reason", "is_cut"),
    [
        ([], "max_tokens", True),
        ([{"type": "thinking", "thinking": "Hm"}], "max_tokens", True),
        ([{"type": "text", "text": ""}], "max_tokens", True),
        ([TEXT], "max_tokens", False),
        ([{"type": "tool_use", "id": "t", "name": "f", "input": {}}], "max_tokens", False),
        ([], "end_turn", False),
    ],
)
def test_a_message_that_is_cut_before_it_says_anything(content: Any, stop_reason: str, *, is_cut: bool) -> None:
    values = MESSAGE | {"content": content, "stop_reason": stop_reason}
    assert MESSAGES.ended_before_output(values) is is_cut


def test_the_requests_of_a_verification_are_valid() -> None:
    values = MESSAGES.verification_request(MODEL, 16)
    request = MESSAGES.read_request(msgspec.json.encode(values), find_model=lambda _: MODEL)
    assert (request.output_limit, sent(request)) == (16, values | {"model": "um"})
    values = COUNT_TOKENS.verification_request(MODEL, 16)
    assert COUNT_TOKENS.read_request(msgspec.json.encode(values), find_model=lambda _: MODEL)
    assert not COUNT_TOKENS.ended_before_output({"input_tokens": 1})


def test_a_count_reserves_one_token_and_costs_none() -> None:
    request = count(system="x" * 10_000)
    assert (request.bound, request.prompt_bound, request.n, request.stream) == (1, 1, 0, None)
    assert not COUNT_TOKENS.is_billed
    assert COUNT_TOKENS.is_served_by(MODEL)
    assert not COUNT_TOKENS.is_served_by(msgspec.structs.replace(MODEL, endpoints=("chat",)))
    assert sent(request) == {"model": "um", "messages": [{"role": "user", "content": "Hi"}], "system": "x" * 10_000}
    assert answer({"input_tokens": 5}, endpoint=COUNT_TOKENS).usage.total_tokens == 0


def test_an_account_without_tokens_is_told_to_buy_some() -> None:
    request = count()
    error = InsufficientTokens(
        required=request.bound,
        posted=0,
        pending=0,
        largest_output_tokens=request.largest_output_tokens(0),
        limit_field=request.limit_field,
        advice="Buy tokens: https://tok0n.example/dashboard/buy",
    )
    assert error.message.endswith(" Buy tokens: https://tok0n.example/dashboard/buy")


@pytest.mark.parametrize("body", [b'{"input_tokens": 0}', b'{ "input_tokens":5,"context_management":{"a":1.50}}'])
def test_a_count_travels_byte_for_byte(body: bytes) -> None:
    assert answer(body, endpoint=COUNT_TOKENS).body == body


def test_a_count_that_names_a_model_names_the_public_one() -> None:
    body = answer({"input_tokens": 5, "model": "um"}, endpoint=COUNT_TOKENS).body
    assert msgspec.json.decode(body) == {"input_tokens": 5, "model": "m"}


@pytest.mark.parametrize(
    "values", [{}, {"input_tokens": None}, {"input_tokens": -1}, {"input_tokens": True}, {"input_tokens": 2**60}, [], 7]
)
def test_a_count_that_is_none_is_an_upstream_error(values: Any) -> None:
    with pytest.raises(UpstreamFailed):
        answer(values, endpoint=COUNT_TOKENS)


@pytest.mark.parametrize("endpoint", [MESSAGES, COUNT_TOKENS])
def test_the_schemas_of_the_endpoint_are_there(endpoint: Any) -> None:
    schemas = MESSAGES.operation.schemas(is_streaming=True) | endpoint.operation.schemas(is_streaming=True)
    assert {endpoint.operation.request_schema, endpoint.operation.response_schema} <= set(schemas)
    assert (endpoint.path, endpoint.upstream_path) in {
        ("/v1/messages", "/messages"),
        ("/v1/messages/count_tokens", "/messages/count_tokens"),
    }
