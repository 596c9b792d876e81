"""The one table that maps the error tree to HTTP, and the shape in which every error under /v1 is told."""

import math

from tok0n.domain.endpoints.endpoint import RenderError
from tok0n.domain.endpoints.error_shapes import render_openai_error
from tok0n.domain.errors import (
    AccountingFailed,
    InsufficientTokens,
    InvalidApiKey,
    InvalidRequest,
    KeyBudgetSpent,
    LimiterUnavailable,
    Overloaded,
    RateLimited,
    Tok0nError,
    UpstreamFailed,
)
from tok0n.http.message import Headers, Response

RETRY_AFTER_SECONDS_MAX = 60

UNEXPECTED = "The gateway could not answer this request."
"""What a client is told of a fault of ours."""

TABLE: dict[str, tuple[int, str]] = {
    "invalid_request": (400, "invalid_request_error"),
    "invalid_api_key": (401, "authentication_error"),
    "insufficient_tokens": (402, "insufficient_tokens_error"),
    "not_found": (404, "invalid_request_error"),
    "model_not_found": (404, "invalid_request_error"),
    "method_not_allowed": (405, "invalid_request_error"),
    "request_timeout": (408, "invalid_request_error"),
    "request_too_large": (413, "invalid_request_error"),
    "rate_limit_error": (429, "rate_limit_error"),
    "headers_too_large": (431, "invalid_request_error"),
    "http_version_not_supported": (505, "invalid_request_error"),
    "api_error": (500, "api_error"),
    "upstream_error": (502, "upstream_error"),
    "rate_limit_unavailable": (503, "service_unavailable_error"),
    "overloaded": (503, "service_unavailable_error"),
}
"""code: (HTTP status, type). docs/errors.md tells customers what to do about each."""


class RequestTooLarge(InvalidRequest):
    """The body is larger than `server.max_body_bytes`."""

    code = "request_too_large"


class EdgeError(Tok0nError):
    """The server rejected a request before any handler saw it; `code` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class BodiesTooLarge(EdgeError):
    """The bodies that one account sends at this moment are too large together."""

    def __init__(self) -> None:
        super().__init__(
            "rate_limit_error",
            "The request bodies that this account is sending are too large together. Retry later.",
        )


def error_body(*, message: str, code: str, param: str | None = None) -> bytes:
    """Render an error under /v1 that no endpoint renders itself, in OpenAI's shape."""
    return render_openai_error(message=message, type_=TABLE[code][1], code=code, param=param)


def status_of(error: Tok0nError) -> int:
    """Return the HTTP status of an error."""
    return TABLE[error.code][0]


def error_response(error: Tok0nError, render: RenderError = render_openai_error) -> Response:
    """Respond with an error of the tree, rendered in the shape of an endpoint."""
    param = error.param if isinstance(error, InvalidRequest) else None
    headers: Headers = [(b"content-type", b"application/json"), *_extra_headers(error)]
    status, type_ = TABLE[error.code]
    return Response(status, headers, render(message=error.message, type_=type_, code=error.code, param=param))


def _extra_headers(error: Tok0nError) -> Headers:
    """What tells a client whether and when to try again."""
    match error:
        case InvalidApiKey():
            return [(b"www-authenticate", b"Bearer")]
        case KeyBudgetSpent():
            return [_should_retry(False)]
        case InsufficientTokens():
            return [_should_retry(error.may_fit_later)]
        case RateLimited():
            milliseconds = max(1, math.ceil(error.retry_after_seconds * 1000))
            return [_retry_after(error.retry_after_seconds), (b"retry-after-ms", str(milliseconds).encode())]
        case LimiterUnavailable() | Overloaded():
            return [_retry_after(error.retry_after_seconds)]
        case AccountingFailed() if error.upstream_called:
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


def _should_retry(yes: bool) -> tuple[bytes, bytes]:  # noqa: FBT001  it is the value of the header
    return b"x-should-retry", b"true" if yes else b"false"


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    return b"retry-after", str(min(RETRY_AFTER_SECONDS_MAX, max(1, math.ceil(seconds)))).encode()
