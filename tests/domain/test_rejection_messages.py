"""A rejected request's message is kept without any text of the client, and reads as the API's did."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tok0n.domain.errors import (
    AccountSuspended,
    InsufficientTokens,
    InvalidApiKey,
    InvalidRequest,
    KeyBudgetSpent,
    KeyLookupFailed,
    KeyNotAllowed,
    Limit,
    RateLimited,
    Tok0nError,
    UnknownModel,
)
from tok0n.domain.rejection_messages import compact, expand

ADVICE = "Buy tokens: https://llm.example/dashboard/buy"


def read_again(error: Tok0nError, *, model: str | None = None) -> str:
    kept = compact(error, model=model, words=("premium",))
    return expand(kept.template, kept.arguments, code=error.code, param=kept.param, model=model)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            InsufficientTokens(required=738, posted=10, pending=4, largest_output_tokens=0, advice=ADVICE),
            (
                "This request needs up to 738 tokens. Your account has 6 available and 4 reserved by requests in"
                " progress, so no max_completion_tokens fits."
            ),
        ),
        (
            InsufficientTokens(required=738, posted=10, pending=4, largest_output_tokens=3, token_class="premium"),
            (
                "This request needs up to 738 tokens of the class premium. Your account has 6 available and 4"
                " reserved by requests in progress. Lower max_completion_tokens to 3 or less."
            ),
        ),
        (
            InsufficientTokens(required=738, posted=0, pending=0, largest_output_tokens=0, limit_field=""),
            (
                "This request needs up to 738 tokens. Your account has 0 available and 0 reserved by requests in"
                " progress. Send less input."
            ),
        ),
        (InvalidRequest("temperature must be a number from 0 to 2.", param="temperature"), ""),
        (InvalidRequest("The body is not valid JSON: it is empty."), ""),
        (InvalidApiKey("This API key is disabled. Its owner can enable it again."), ""),
        (AccountSuspended(), ""),
        (KeyLookupFailed(detail="the database is away"), ""),
        (
            KeyNotAllowed("This API key may not be used from the IP address 203.0.113.7.", param="network"),
            "This API key may not be used from the IP address of this request.",
        ),
        (RateLimited(which=Limit.KEY, limit=60, retry_after_seconds=2.5), ""),
        (
            UnknownModel("my secret prompt"),
            "The model is not available. GET /v1/models lists the available models.",
        ),
        (
            InvalidRequest("my_own_field is not a known field.", param="my_own_field"),
            "The request is invalid.",
        ),
    ],
)
def test_a_message_reads_as_the_apis_without_texts_of_the_client(error: Tok0nError, message: str) -> None:
    assert read_again(error) == (message or error.message)


def test_a_budgets_message_keeps_its_figures() -> None:
    error = KeyBudgetSpent(left=5, required=90, budget_id="bud_1", budget="budget of 100 tokens per day", resets="")
    assert "needs up to 90 tokens" in read_again(error)
    assert "budget of 100 tokens per day of this API key has 5 left" in read_again(error)


@given(st.text(min_size=12, max_size=60).filter(lambda text: text.strip().isprintable()))
def test_no_text_of_a_client_is_kept(text: str) -> None:
    secret = f"canary-{text}"
    for error in (
        UnknownModel(secret),
        InvalidRequest(f"{secret} is not a known field.", param=secret),
        InvalidRequest(f"An object in the body has the key {secret!r} twice.", param=secret),
        InvalidRequest(f"The body is not valid JSON: {secret}."),
        KeyNotAllowed(f"This API key may not use the model {secret}.", param="model"),
    ):
        kept = compact(error, model=None)
        assert "canary" not in repr(kept)
        assert "canary" not in read_again(error)
