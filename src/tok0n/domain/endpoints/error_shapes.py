"""The bodies of errors, in the shapes that the clients of each API expect."""

import msgspec

OPENAI_TYPES = {
    "invalid_request": "invalid_request_error",
    "invalid_api_key": "authentication_error",
    "account_suspended": "authentication_error",
    "insufficient_tokens": "insufficient_tokens_error",
    "key_not_allowed": "permission_error",
    "not_found": "invalid_request_error",
    "model_not_found": "invalid_request_error",
    "method_not_allowed": "invalid_request_error",
    "request_timeout": "invalid_request_error",
    "request_too_large": "invalid_request_error",
    "upgrade_required": "invalid_request_error",
    "rate_limit_error": "rate_limit_error",
    "headers_too_large": "invalid_request_error",
    "http_version_not_supported": "invalid_request_error",
    "api_error": "api_error",
    "upstream_error": "upstream_error",
    "rate_limit_unavailable": "service_unavailable_error",
    "overloaded": "service_unavailable_error",
}
"""The type of each error code, where errors have OpenAI's shape."""

ANTHROPIC_TYPES = dict.fromkeys(OPENAI_TYPES, "invalid_request_error") | {
    "invalid_api_key": "authentication_error",
    "account_suspended": "authentication_error",
    "insufficient_tokens": "billing_error",
    "key_not_allowed": "permission_error",
    "not_found": "not_found_error",
    "model_not_found": "not_found_error",
    "request_too_large": "request_too_large",
    "rate_limit_error": "rate_limit_error",
    "api_error": "api_error",
    "upstream_error": "api_error",
    "rate_limit_unavailable": "overloaded_error",
    "overloaded": "overloaded_error",
}
"""The type of each error code, where errors have Anthropic's shape. Source: Anthropic API reference, errors."""

_encode = msgspec.json.Encoder().encode


def render_openai_error(*, message: str, code: str, param: str | None, request_id: str | None = None) -> bytes:
    """Render an error as OpenAI does. Source: OpenAI API reference, errors."""
    return _encode({"error": {"message": message, "type": OPENAI_TYPES[code], "param": param, "code": code}})


def render_anthropic_error(*, message: str, code: str, param: str | None, request_id: str | None = None) -> bytes:
    """Render an error as Anthropic does, which has no place for `param`."""
    error = {"type": ANTHROPIC_TYPES[code], "message": message}
    return _encode({"type": "error", "error": error, "request_id": request_id})
