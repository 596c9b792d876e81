"""Requests to /v1/messages, as clients send them."""

from typing import Any

import msgspec

from support.models import make_model
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.count_tokens import read_count_request
from tok0n.domain.endpoints.messages import read_messages_request
from tok0n.domain.metered_request import MeteredRequest

MODEL = make_model(endpoints=("messages",), max_output_tokens=128_000, streaming_endpoints=("messages",))
MEDIA_MODEL = msgspec.structs.replace(MODEL, image_tokens_max=1_500, file_tokens_max=9_000)
HELLO: dict[str, Any] = {"role": "user", "content": "Hi"}
CLIENT_TOOL = {"name": "f", "input_schema": {"type": "object"}}
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 4_000}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 4_000}}


def body_of(**fields: Any) -> bytes:
    """Return the body of a request. A field that is `...` is left out."""
    body = {"model": "m", "max_tokens": 100, "messages": [HELLO]} | fields
    return msgspec.json.encode({name: value for name, value in body.items() if value is not ...})


def read(model: Model = MODEL, /, *, beta_header: str = "", is_streaming: bool = True, **fields: Any) -> MeteredRequest:
    headers = {b"anthropic-beta": beta_header.encode()} if beta_header else {}
    return read_messages_request(
        body_of(**fields), find_model=lambda _: model, is_streaming=is_streaming, headers=headers
    )


def count(model: Model = MODEL, /, *, beta_header: str = "", **fields: Any) -> MeteredRequest:
    headers = {b"anthropic-beta": beta_header.encode()} if beta_header else {}
    return read_count_request(body_of(max_tokens=..., **fields), find_model=lambda _: model, headers=headers)


def sent(request: MeteredRequest) -> dict[str, Any]:
    """Return the decoded body for the upstream."""
    body: dict[str, Any] = msgspec.json.decode(request.upstream_body)
    return body
