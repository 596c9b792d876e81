"""The bodies of errors, in the shapes that the clients of each API expect."""

import msgspec

TYPES = {
    "invalid_request": "invalid_request_error",
    "invalid_api_key": "authentication_error",
    "insufficient_tokens": "insufficient_tokens_error",
    "rate_limit_error": "rate_limit_error",
    "api_error": "api_error",
    "upstream_error": "upstream_error",
    "rate_limit_unavailable": "service_unavailable_error",
    "overloaded": "service_unavailable_error",
}
"""The type of each error code of the tree."""

_encode = msgspec.json.Encoder().encode


def render_openai_error(*, message: str, type_: str, code: str, param: str | None) -> bytes:
    """Render an error as OpenAI does. Source: OpenAI API reference, errors."""
    return _encode({"error": {"message": message, "type": type_, "param": param, "code": code}})
