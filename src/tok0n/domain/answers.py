"""Read an upstream's response: accept it only if it is complete and valid, and describe anything else in our own words.

Source of the shape: OpenAI API reference, "The chat completion object". `upstream_errors` reads the errors.
"""

import re
from collections.abc import Callable

import msgspec

from tok0n.domain.answer_json import decode, replace_member
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.errors import RejectedByUpstream, UpstreamFailed
from tok0n.domain.scrub import REDACTED
from tok0n.domain.upstream_errors import operators_subject, read_error
from tok0n.domain.usage import Usage

Scrub = Callable[[str], str]

REJECTED_WITHOUT_WORDS = "The upstream provider rejected this request as invalid. Check its fields and their values."
"""For an error that has no words, or none in a known shape."""

_INPUT_STATUSES = frozenset({400, 422})

_KNOWN_WORDS = frozenset(
    {
        "account_deactivated",
        "authentication_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "context_length_exceeded",
        "insufficient_quota",
        "invalid_api_key",
        "invalid_request_error",
        "model_not_found",
        "overloaded_error",
        "permission_error",
        "rate_limit_error",
        "rate_limit_exceeded",
        "requests",
        "server_error",
        "tokens",
        "unsupported_country_region_territory",
    }
)
"""The error types and codes that may go to the operator's log: any other word could be a customer's content."""

_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,128}")

_WHY = {
    401: "refused the gateway's credentials",
    402: "refused the gateway's account",
    403: "refused the gateway's credentials",
    404: "does not have this model",
    429: "is limiting the gateway",
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that can be charged: the bytes for the customer, and the usage."""

    body: bytes
    usage: Usage


def read_answer(
    endpoint: Endpoint,
    status: int,
    body: bytes,
    *,
    public_model: str,
    upstream_model: str,
    scrub: Scrub,
    retry_after_seconds: float | None = None,
) -> Answer:
    """The completion in an upstream's answer. `retry_after_seconds` is what a 429 says.

    Raises `RejectedByUpstream` when the customer's input is to blame, with the upstream's scrubbed words, and
    `UpstreamFailed` for everything else.
    """
    if status != 200:
        failure = _failure(status, body, public_model=public_model, upstream_model=upstream_model, scrub=scrub)
        if status == 429 and isinstance(failure, UpstreamFailed):
            failure.retry_after_seconds = retry_after_seconds
        raise failure
    values = decode(body)
    fault = endpoint.find_fault(values)
    if fault is not None:
        raise _invalid_answer(status, fault)
    usage = endpoint.read_usage(values)
    if usage is None:
        raise UpstreamFailed(
            "The upstream provider returned an answer without valid usage figures.",
            detail="status 200 with missing or impossible usage",
            outcome_unknown=True,
            status=200,
        )
    return Answer(body=replace_member(body, "model", public_model), usage=usage)


def _invalid_answer(status: int, what: str) -> UpstreamFailed:
    """A 2xx that cannot be used: the upstream may have done the work."""
    return UpstreamFailed(
        "The upstream provider returned an invalid answer.",
        detail=f"status {status} {what}",
        outcome_unknown=True,
        status=status,
    )


def _failure(
    status: int, body: bytes, *, public_model: str, upstream_model: str, scrub: Scrub
) -> RejectedByUpstream | UpstreamFailed:
    if 200 <= status < 300:
        return _invalid_answer(status, "instead of 200")
    values = decode(body)
    error = read_error(values)
    details = [f"status {status}", *filter(_KNOWN_WORDS.__contains__, error.names)]
    if status in _INPUT_STATUSES and values is not None:
        subject = operators_subject(error)
        if subject is None:
            return RejectedByUpstream(
                _words(error.message, public_model=public_model, upstream_model=upstream_model, scrub=scrub),
                param=_param(error.param, scrub),
            )
        details.append(f"about {subject}")
    why = _WHY.get(status, "redirected the request" if 300 <= status < 400 else "failed")
    return UpstreamFailed(f"The upstream provider {why}.", detail=", ".join(details), status=status)


def _words(message: str | None, *, public_model: str, upstream_model: str, scrub: Scrub) -> str:
    """The upstream's words for the customer, or ours if nothing of them can be shown."""
    if message is None:
        return REJECTED_WITHOUT_WORDS
    name = re.compile(rf"(?i)(?<![\w.-]){re.escape(upstream_model)}(?![\w-]|\.\w)")
    words = scrub(name.sub(lambda _: public_model, message))
    return words if words.replace(REDACTED, "").strip(" .:,") else REJECTED_WITHOUT_WORDS


def _param(param: str | None, scrub: Scrub) -> str | None:
    return param if param is not None and _PARAM.fullmatch(param) and scrub(param) == param else None
