"""The error tree over HTTP: status, type, code and the headers that tell a client whether to try again."""

import pytest

from tok0n.api.endpoint import duration
from tok0n.api.errors import error_response
from tok0n.domain.errors import (
    AccountingFailed,
    AccountSuspended,
    InsufficientTokens,
    InvalidApiKey,
    InvalidRequest,
    KeyBudgetSpent,
    KeyNotAllowed,
    Limit,
    LimiterUnavailable,
    Overloaded,
    RateLimited,
    Tok0nError,
    UnexpectedError,
    UnknownModel,
    UpstreamFailed,
)


def limited(seconds: float) -> RateLimited:
    return RateLimited(which=Limit.KEY, limit=60, retry_after_seconds=seconds)


def short(*, posted: int, pending: int) -> InsufficientTokens:
    return InsufficientTokens(required=100, posted=posted, pending=pending, largest_output_tokens=0)


@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidRequest("x", param="n"), 400, {}),
        (UnknownModel("x"), 400, {}),
        (InvalidApiKey("x"), 401, {"www-authenticate": "Bearer", "x-should-retry": "false"}),
        (AccountSuspended(), 401, {"www-authenticate": "Bearer", "x-should-retry": "false"}),
        (short(posted=50, pending=0), 402, {"x-should-retry": "false"}),
        (short(posted=150, pending=100), 402, {"x-should-retry": "true"}),
        (KeyBudgetSpent(left=-1, required=5, budget_id="b"), 402, {"x-should-retry": "false"}),
        (KeyNotAllowed("x", param="model"), 403, {"x-should-retry": "false"}),
        (limited(0.0), 429, {"retry-after": "1", "retry-after-ms": "1"}),
        (limited(1.2), 429, {"retry-after": "2", "retry-after-ms": "1200"}),
        (limited(60.0), 429, {"retry-after": "60", "retry-after-ms": "60000"}),
        (AccountingFailed(upstream_called=False, detail=""), 500, {}),
        (AccountingFailed(upstream_called=True, detail=""), 500, {"x-should-retry": "false"}),
        (UnexpectedError(upstream_called=False, detail=""), 500, {}),
        (UnexpectedError(upstream_called=True, detail=""), 500, {"x-should-retry": "false"}),
        (UpstreamFailed("x", detail=""), 502, {}),
        (UpstreamFailed("x", detail="", outcome_unknown=True), 502, {"x-should-retry": "false"}),
        (UpstreamFailed("x", detail="", status=429, retry_after_seconds=0.0), 502, {"retry-after": "1"}),
        (UpstreamFailed("x", detail="", status=429, retry_after_seconds=6.2), 502, {"retry-after": "7"}),
        (UpstreamFailed("x", detail="", status=429, retry_after_seconds=3600.0), 502, {"retry-after": "60"}),
        (LimiterUnavailable(retry_after_seconds=5, detail=""), 503, {"retry-after": "5"}),
        (Overloaded(queue="x"), 503, {"retry-after": "1"}),
    ],
)
def test_every_error_has_its_status_and_headers(error: Tok0nError, status: int, headers: dict[str, str]) -> None:
    response = error_response(error)
    got = {name.decode(): value.decode() for name, value in response.headers if name != b"content-type"}
    assert (response.status, got) == (status, headers)


def test_a_402_names_all_four_figures() -> None:
    error = InsufficientTokens(required=900, posted=1000, pending=300, largest_output_tokens=123)
    for figure in ("900", "700", "300", "123"):
        assert figure in error.message
    assert "class" not in error.message


def test_a_402_names_the_class_of_the_tokens_if_there_are_several() -> None:
    error = InsufficientTokens(required=9, posted=1, pending=0, largest_output_tokens=0, token_class="premium")
    assert "9 tokens of the class premium" in error.message


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0ms"),
        (0.0204, "20ms"),
        (0.9996, "1s"),
        (1.5, "1.5s"),
        (59.9991, "59.999s"),
        (60, "1m0s"),
        (90.25, "1m30.25s"),
    ],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, shown: str) -> None:
    assert duration(seconds) == shown.encode()
