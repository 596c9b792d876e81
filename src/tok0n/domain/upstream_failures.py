"""Describe an upstream's failure in our own words, or in its scrubbed words if the customer's input is at fault.

`upstream_errors` reads the error in its response.
"""

import re
from collections.abc import Callable
from typing import Any

from tok0n.domain.answer_json import decode
from tok0n.domain.errors import RejectedByUpstream, UpstreamFailed
from tok0n.domain.scrub import REDACTED
from tok0n.domain.upstream_errors import UNKNOWN, ReportedError, declared_status, operators_subject, read_error

Scrub = Callable[[str], str]

REJECTED_WITHOUT_MESSAGE = "The upstream provider rejected this request as invalid. Check its fields and their values."
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


def invalid_response(status: int, fault: str) -> UpstreamFailed:
    """Return the error for an unusable 2xx response. Its outcome is unknown: the upstream may have done the work."""
    return UpstreamFailed(
        "The upstream provider returned an invalid response.",
        detail=f"status {status} {fault}",
        outcome_unknown=True,
        status=status,
    )


def missing_usage() -> UpstreamFailed:
    """Return the error for a complete response without valid usage. Its outcome is unknown."""
    return UpstreamFailed(
        "The upstream provider returned a response without valid token usage.",
        detail="status 200 with missing or impossible usage",
        outcome_unknown=True,
        status=200,
    )


def read_failure(
    status: int,
    body: bytes,
    *,
    public_model: str,
    upstream_model: str,
    scrub: Scrub,
    retry_after_seconds: float | None = None,
) -> RejectedByUpstream | UpstreamFailed:
    """Return the error for a response with any other status than 200.

    `retry_after_seconds` comes from the header of a 429.
    """
    if 200 <= status < 300:
        return invalid_response(status, "instead of 200")
    values = decode(body)
    failure = _judge(
        read_error(values),
        status,
        may_reject=status in _INPUT_STATUSES and values is not None,
        details=[f"status {status}"],
        public_model=public_model,
        upstream_model=upstream_model,
        scrub=scrub,
    )
    if status == 429 and isinstance(failure, UpstreamFailed):
        failure.retry_after_seconds = retry_after_seconds
    return failure


def read_error_in_stream(
    values: Any, *, is_early: bool, public_model: str, upstream_model: str, scrub: Scrub
) -> RejectedByUpstream | UpstreamFailed:
    """Return the error for an error event, or for a body that is no stream. `values` is the decoded data or body.

    The error's code or type decides as a status would. `is_early`: no content came before. Otherwise, or without a
    code and a type, the outcome is unknown.
    """
    error = read_error(values)
    if error == UNKNOWN:
        return invalid_response(200, "with a body or an event that is not what the endpoint sends")
    status = declared_status(error)
    failure = _judge(
        error,
        200 if status is None else status,
        may_reject=is_early and status in _INPUT_STATUSES,
        details=["status 200 with an error in its body", *([] if status is None else [f"code {status}"])],
        public_model=public_model,
        upstream_model=upstream_model,
        scrub=scrub,
    )
    if isinstance(failure, UpstreamFailed):
        failure.outcome_unknown = status is None or not is_early
    return failure


def read_message_in_stream(values: Any, *, public_model: str, upstream_model: str, scrub: Scrub) -> str | None:
    """Return the scrubbed message of an error in a stream. None without a message, or if the operator must fix it."""
    error = read_error(values)
    if error.message is None or operators_subject(error) is not None:
        return None
    return _customer_message(error.message, public_model=public_model, upstream_model=upstream_model, scrub=scrub)


def _judge(
    error: ReportedError,
    status: int,
    *,
    may_reject: bool,
    details: list[str],
    public_model: str,
    upstream_model: str,
    scrub: Scrub,
) -> RejectedByUpstream | UpstreamFailed:
    """Return the error for the customer. `may_reject`: the customer's input may be at fault."""
    details += filter(_KNOWN_WORDS.__contains__, error.names)
    if may_reject:
        subject = operators_subject(error)
        if subject is None:
            return RejectedByUpstream(
                _customer_message(error.message, public_model=public_model, upstream_model=upstream_model, scrub=scrub),
                param=_param(error.param, scrub),
            )
        details.append(f"about {subject}")
    why = _WHY.get(status, "redirected the request" if 300 <= status < 400 else "failed")
    return UpstreamFailed(f"The upstream provider {why}.", detail=", ".join(details), status=status)


def _customer_message(message: str | None, *, public_model: str, upstream_model: str, scrub: Scrub) -> str:
    """Return the upstream's message scrubbed for the customer, or ours if scrubbing leaves nothing."""
    if message is None:
        return REJECTED_WITHOUT_MESSAGE
    name = re.compile(rf"(?i)(?<![\w.-]){re.escape(upstream_model)}(?![\w-]|\.\w)")
    text = scrub(name.sub(lambda _: public_model, message))
    return text if text.replace(REDACTED, "").strip(" .:,") else REJECTED_WITHOUT_MESSAGE


def _param(param: str | None, scrub: Scrub) -> str | None:
    return param if param is not None and _PARAM.fullmatch(param) and scrub(param) == param else None
