"""Map the error tree to HTTP statuses, headers and bodies. Every error under /v1 is rendered here."""

import math

from tok0n.domain.endpoints.endpoint import RenderError
from tok0n.domain.endpoints.error_shapes import render_openai_error
from tok0n.domain.errors import (
    AccountingFailed,
    AccountSuspended,
    InsufficientTokens,
    InvalidApiKey,
    InvalidRequest,
    KeyBudgetSpent,
    KeyNotAllowed,
    LimiterUnavailable,
    Overloaded,
    RateLimited,
    Tok0nError,
    UnexpectedError,
    UpstreamFailed,
)
from tok0n.http.message import Headers, Response

RETRY_AFTER_SECONDS_MAX = 60

STATUSES: dict[str, int] = {
    "invalid_request": 400,
    "invalid_api_key": 401,
    "account_suspended": 401,
    "insufficient_tokens": 402,
    "key_not_allowed": 403,
    "not_found": 404,
    "model_not_found": 404,
    "method_not_allowed": 405,
    "request_timeout": 408,
    "request_too_large": 413,
    "upgrade_required": 426,
    "rate_limit_error": 429,
    "headers_too_large": 431,
    "http_version_not_supported": 505,
    "api_error": 500,
    "upstream_error": 502,
    "rate_limit_unavailable": 503,
    "overloaded": 503,
}
"""The HTTP status of each error code. docs/errors.md tells customers how to fix each error."""


class RequestTooLarge(InvalidRequest):
    """The body is larger than `server.max_body_bytes`."""

    code = "request_too_large"


class EdgeError(Tok0nError):
    """The server rejected a request before any handler saw it; `code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BodiesTooLarge(EdgeError):
    """The total size of the bodies that one account is sending exceeds the limit."""

    def __init__(self) -> None:
        super().__init__(
            "rate_limit_error",
            "The request bodies that this account is currently sending are too large in total. Try again later.",
        )


def error_body(*, message: str, code: str, param: str | None = None) -> bytes:
    """Return the JSON of an error in OpenAI's shape, for paths under /v1 without an endpoint of their own."""
    return render_openai_error(message=message, code=code, param=param)


def status_of(error: Tok0nError) -> int:
    """Return the HTTP status of an error."""
    return STATUSES[error.code]


def error_response(
    error: Tok0nError, render: RenderError = render_openai_error, *, request_id: str | None = None
) -> Response:
    """Return the response to an error of the tree, in the shape of the endpoint that `render` belongs to."""
    param = error.param if isinstance(error, (InvalidRequest, KeyNotAllowed, KeyBudgetSpent)) else None
    headers: Headers = [(b"content-type", b"application/json"), *_extra_headers(error)]
    body = render(message=error.message, code=error.code, param=param, request_id=request_id)
    return Response(STATUSES[error.code], headers, body)


def _extra_headers(error: Tok0nError) -> Headers:
    """Return the headers that say how to authenticate, and whether and when to retry."""
    match error:
        case InvalidApiKey() | AccountSuspended():
            return [(b"www-authenticate", b"Bearer"), _should_retry(False)]
        case KeyBudgetSpent() | KeyNotAllowed():
            return [_should_retry(False)]
        case InsufficientTokens():
            return [_should_retry(error.may_fit_later)]
        case RateLimited():
            milliseconds = max(1, math.ceil(error.retry_after_seconds * 1000))
            return [_retry_after(error.retry_after_seconds), (b"retry-after-ms", str(milliseconds).encode())]
        case LimiterUnavailable() | Overloaded():
            return [_retry_after(error.retry_after_seconds)]
        case AccountingFailed() | UnexpectedError() if error.upstream_called:
            return [_should_retry(False)]
        case UpstreamFailed():
            return _upstream_headers(error)
        case RequestTooLarge():
            return [_should_retry(False)]
        case EdgeError():
            return _edge_headers(error.code)
        case _:
            return []


def _upstream_headers(error: UpstreamFailed) -> Headers:
    if error.outcome_unknown:
        return [_should_retry(False)]
    return [] if error.retry_after_seconds is None else [_retry_after(error.retry_after_seconds)]


def _edge_headers(code: str) -> Headers:
    match code:
        case "overloaded" | "rate_limit_error":
            return [_retry_after(1.0)]
        case "request_timeout":
            return [_should_retry(False)]
        case "method_not_allowed":
            return [(b"allow", b"GET, HEAD, POST, OPTIONS")]
        case _:
            return []


def _should_retry(value: bool) -> tuple[bytes, bytes]:  # noqa: FBT001  it is the value of the header
    return b"x-should-retry", b"true" if value else b"false"


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    return b"retry-after", str(min(RETRY_AFTER_SECONDS_MAX, max(1, math.ceil(seconds)))).encode()
