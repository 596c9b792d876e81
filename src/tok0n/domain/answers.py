"""Read an upstream's response. Accept only a complete, valid one, and describe any other in our own words.

The endpoint knows the shape of its responses, and `upstream_errors` reads errors.
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
"""The message for an error whose body has no known message field."""

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
"""The error types and codes that may be logged. Any other word could be a customer's content."""

_PARAM = re.compile(r"[A-Za-z0-9_.\[\]-]{1,128}")

_WHY = {
    401: "rejected the gateway's credentials",
    402: "rejected the gateway's account",
    403: "rejected the gateway's credentials",
    404: "does not have this model",
    429: "is limiting the gateway's request rate",
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A billable answer: the body for the customer, and the usage to charge."""

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
    """Return the answer in an upstream's response. `retry_after_seconds` comes from the header of a 429.

    Raises `RejectedByUpstream` with the upstream's scrubbed message if the customer's input is at fault, and
    `UpstreamFailed` for any other failure.
    """
    if status != 200:
        failure = _failure(status, body, public_model=public_model, upstream_model=upstream_model, scrub=scrub)
        if status == 429 and isinstance(failure, UpstreamFailed):
            failure.retry_after_seconds = retry_after_seconds
        raise failure
    values = decode(body)
    fault = endpoint.find_fault(values)
    if fault is not None:
        raise _invalid_response(status, fault)
    usage = endpoint.read_usage(values)
    if usage is None:
        raise UpstreamFailed(
            "The upstream provider returned a response without valid token usage.",
            detail="status 200 with missing or impossible usage",
            outcome_unknown=True,
            status=200,
        )
    return Answer(body=replace_member(body, "model", public_model), usage=usage)


def _invalid_response(status: int, fault: str) -> UpstreamFailed:
    """Return the error for an unusable 2xx response. Its outcome is unknown: the upstream may have done the work."""
    return UpstreamFailed(
        "The upstream provider returned an invalid response.",
        detail=f"status {status} {fault}",
        outcome_unknown=True,
        status=status,
    )


def _failure(
    status: int, body: bytes, *, public_model: str, upstream_model: str, scrub: Scrub
) -> RejectedByUpstream | UpstreamFailed:
    if 200 <= status < 300:
        return _invalid_response(status, "instead of 200")
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
    """Return the upstream's message scrubbed for the customer, or ours if scrubbing leaves nothing."""
    if message is None:
        return REJECTED_WITHOUT_WORDS
    name = re.compile(rf"(?i)(?<![\w.-]){re.escape(upstream_model)}(?![\w-]|\.\w)")
    words = scrub(name.sub(lambda _: public_model, message))
    return words if words.replace(REDACTED, "").strip(" .:,") else REJECTED_WITHOUT_WORDS


def _param(param: str | None, scrub: Scrub) -> str | None:
    return param if param is not None and _PARAM.fullmatch(param) and scrub(param) == param else None
