"""POST /v1/messages/count_tokens, which is free.

Source: Anthropic API reference, "Count tokens in a Message". Claude Code sends 24 of these requests at once.
"""

from collections.abc import Mapping
from typing import Any

from tok0n.domain.catalogue import VERIFICATION_PROMPT, Model
from tok0n.domain.endpoints.endpoint import NO_HEADERS, Endpoint, FindModel, Operation
from tok0n.domain.endpoints.error_shapes import render_anthropic_error
from tok0n.domain.endpoints.fields import COUNT, NULL
from tok0n.domain.endpoints.messages_fields import COUNT_BODY, COUNT_FIELDS
from tok0n.domain.endpoints.messages_request import check_request
from tok0n.domain.json_text import JsonText
from tok0n.domain.metered_request import MeteredRequest, rewrite_body
from tok0n.domain.usage import TOKENS_MAX, Usage

RESERVED_TOKENS = 1
"""What a request reserves, so that an account without tokens can't use the upstream. The reservation is released."""

_NO_COUNT = "with a body that has no count of input tokens"
_NO_USAGE = Usage(prompt_tokens=0, completion_tokens=0, total_tokens=0)


def read_count_request(
    body: JsonText,
    *,
    find_model: FindModel,
    is_streaming: bool = False,
    headers: Mapping[bytes, bytes] = NO_HEADERS,
) -> MeteredRequest:
    """Validate a request. Raises `InvalidRequest`, which names the field, or `UnknownModel`."""
    checked = check_request(body, fields=COUNT_FIELDS, find_model=find_model, headers=headers)
    route = checked.model.routes[0]
    return MeteredRequest(
        model=checked.model,
        route=route,
        upstream_body=rewrite_body(checked.raw, route),
        upstream_headers=checked.headers,
        prompt_bound=RESERVED_TOKENS,
        output_limit=0,
        n=0,
        prediction_bytes=0,
        limit_field="",
        dropped=checked.dropped,
    )


def _find_fault(values: Any, request: MeteredRequest) -> str | None:
    count = values.get("input_tokens") if type(values) is dict else None
    return None if type(count) is int and 0 <= count <= TOKENS_MAX else _NO_COUNT


def _read_usage(values: Mapping[str, Any]) -> Usage:
    """Return no usage: counting costs nothing."""
    return _NO_USAGE


def _verification_request(model: Model, output_tokens: int, prompt: str = VERIFICATION_PROMPT) -> dict[str, Any]:
    return {"model": model.id, "messages": [{"role": "user", "content": prompt}]}


def _ended_before_output(values: Mapping[str, Any]) -> bool:
    return False


def _schemas(*, is_streaming: bool) -> dict[str, Any]:
    """Return the schemas. `InputMessage` is among those of POST /v1/messages."""
    request = COUNT_BODY.schema() | {"additionalProperties": NULL}
    request["properties"]["messages"]["items"] = {"$ref": "#/components/schemas/InputMessage"}
    response = {"type": "object", "required": ["input_tokens"], "properties": {"input_tokens": COUNT}}
    return {"CountTokensRequest": request, "TokenCount": response}


COUNT_TOKENS = Endpoint(
    name="count_tokens",
    path="/v1/messages/count_tokens",
    upstream_path="/messages/count_tokens",
    operation=Operation(
        id="countTokens",
        summary="Count the input tokens of a message",
        request_schema="CountTokensRequest",
        response_schema="TokenCount",
        schemas=_schemas,
    ),
    read_request=read_count_request,
    find_fault=_find_fault,
    read_usage=_read_usage,
    render_error=render_anthropic_error,
    verification_request=_verification_request,
    ended_before_output=_ended_before_output,
    served_with="messages",
    is_billed=False,
    key_header=b"x-api-key",
    request_id_header=b"request-id",
)
