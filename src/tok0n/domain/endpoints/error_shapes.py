"""The bodies of errors, in the shapes that the clients of each API expect."""

import msgspec

_encode = msgspec.json.Encoder().encode


def render_openai_error(*, message: str, type_: str, code: str, param: str | None) -> bytes:
    """Render an error as OpenAI does. Source: OpenAI API reference, errors."""
    return _encode({"error": {"message": message, "type": type_, "param": param, "code": code}})
