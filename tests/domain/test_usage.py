"""Usage is believed only when it is whole."""

from typing import Any

import pytest

from tok0n.domain.usage import Usage, read_usage

GOOD = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def test_details_are_kept_and_never_added() -> None:
    usage = read_usage(
        GOOD
        | {
            "total_tokens": 20,
            "prompt_tokens_details": {"cached_tokens": 5, "text": "secret", "secret": 5, "x" * 100 + "_tokens": 1},
            "completion_tokens_details": {"reasoning_tokens": 2, "audio_tokens": -1},
        }
    )
    assert usage == Usage(
        prompt_tokens=9,
        completion_tokens=3,
        total_tokens=20,
        details={"prompt_tokens_details.cached_tokens": 5, "completion_tokens_details.reasoning_tokens": 2},
    )


def test_the_largest_count_is_believed() -> None:
    assert read_usage({"prompt_tokens": 0, "completion_tokens": 2**53, "total_tokens": 2**53}) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        {},
        [],
        "12",
        GOOD | {"total_tokens": 11},
        GOOD | {"total_tokens": 12.0},
        GOOD | {"total_tokens": "12"},
        GOOD | {"total_tokens": True},
        GOOD | {"total_tokens": None},
        GOOD | {"total_tokens": 2**53 + 1},
        GOOD | {"prompt_tokens": -1},
        GOOD | {"completion_tokens": False},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    ],
)
def test_anything_else_is_no_usage(wrong: Any) -> None:
    assert read_usage(wrong) is None
