"""Whose fault a 400 or 422 is, with one real answer of each provider and server for each case."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.upstream_errors import CUSTOMERS, OPERATORS, fault, openai
from tok0n.domain.upstream_errors import MESSAGE_CHARACTERS_MAX, operators_subject, read_error


@pytest.mark.parametrize("name", CUSTOMERS)
def test_the_customer_gets_an_error_about_the_input(name: str) -> None:
    values, message = CUSTOMERS[name]
    error = read_error(values)
    assert operators_subject(error) is None
    assert error.message == message


@pytest.mark.parametrize("name", OPERATORS)
def test_the_operator_gets_an_error_about_credentials_quota_or_model_settings(name: str) -> None:
    values, subject = OPERATORS[name]
    assert operators_subject(read_error(values)) == subject


def test_a_fault_in_the_output_limit_comes_before_others() -> None:
    assert read_error({"detail": [fault("store"), fault("max_tokens")]}).param == "max_tokens"


def test_unwrapping_nested_errors_has_a_limit() -> None:
    error: Any = "No."
    for _ in range(100):
        error = {"message": {"error": error}}
    assert read_error({"error": error}).message is None
    text = '"x"'
    for _ in range(12):
        text = json.dumps({"error": {"metadata": {"raw": text}}})
    assert (read_error(json.loads(text)).message or "").startswith('{"error"')


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(["body", "{", '{"error":{}}']),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "detail",
                    "loc",
                    "msg",
                    "type",
                    "code",
                    "param",
                    "metadata",
                    "raw",
                    "details",
                    "reason",
                ]
            ),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


@given(JSON)
def test_any_json_can_be_read(values: Any) -> None:
    operators_subject(read_error(values))


def test_a_long_message_is_cut_at_its_limit() -> None:
    error = read_error(openai("model " * MESSAGE_CHARACTERS_MAX))
    assert len(error.message or "") == MESSAGE_CHARACTERS_MAX
