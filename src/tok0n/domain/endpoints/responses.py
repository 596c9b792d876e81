"""POST /v1/responses.

Source: OpenAI API reference, "Create a model response" and "The response object". `responses_fields` has the fields.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from tok0n.domain.bound import prompt_bound
from tok0n.domain.catalogue import VERIFICATION_PROMPT, Model
from tok0n.domain.conversation import as_messages
from tok0n.domain.endpoints.endpoint import NO_HEADERS, Endpoint, FindModel, Operation
from tok0n.domain.endpoints.error_shapes import render_openai_error
from tok0n.domain.endpoints.example import OPENAI, Draft, Example, Form, Output, join_texts
from tok0n.domain.endpoints.fields import COUNT, NULL, must
from tok0n.domain.endpoints.find_model import check_streams, find_listed
from tok0n.domain.endpoints.hosted_tools import drop_hosted_tools
from tok0n.domain.endpoints.responses_fields import BODY, LIMIT_FIELD, STREAMING_OVERRIDES, check_fields
from tok0n.domain.endpoints.responses_items import ITEM, request_size
from tok0n.domain.endpoints.responses_stream import FINISHED, ResponsesStreamReader, read_response_usage
from tok0n.domain.json_text import JsonText, decode_object
from tok0n.domain.metered_request import MeteredRequest, StreamOptions, rewrite_body

_FALSE = msgspec.Raw(b"false")
_NO_RESPONSE = "with a body that is not a response"
_HAS_ERROR = "with an error in its body"
_UNFINISHED = "with a response that is neither completed nor incomplete"
_TEXT_DELTAS = ("response.output_text.delta", "response.refusal.delta")


def read_responses_request(
    body: JsonText,
    *,
    find_model: FindModel,
    is_streaming: bool = False,
    headers: Mapping[bytes, bytes] = NO_HEADERS,
) -> MeteredRequest:
    """Validate and bound a request. Raises `InvalidRequest`, which names the field, or `UnknownModel`.

    The bound is exact unless the input has more than `EXACT_BYTES_MAX` bytes of non-ASCII strings. The upstream gets
    `store: false` and the output limit, and neither `client_metadata` nor the hosted tools, which `dropped` names.
    """
    values, raw = decode_object(body)
    model = find_listed(values.get("model"), find_model, "responses")
    extra_bytes = check_fields(values, raw, model, is_streaming=is_streaming)
    stream = _stream_options(values, model)
    dropped = drop_hosted_tools(values, raw, model)
    size = request_size(values, raw, model)
    bound, inexact_texts = prompt_bound(
        size.text,
        messages=size.messages,
        parts=size.part_tokens,
        definitions=size.definition_bytes,
        tools=size.tools,
        extra_bytes=extra_bytes,
        context_window_tokens=model.context_window_tokens,
    )
    limit = values.get(LIMIT_FIELD)
    limit = model.default_output_tokens if limit is None else limit
    raw.pop("client_metadata", None)
    raw["store"] = _FALSE
    route = model.routes[0]
    return MeteredRequest(
        model=model,
        route=route,
        upstream_body=rewrite_body(raw, route, limit, limit_field=LIMIT_FIELD),
        prompt_bound=bound,
        output_limit=limit,
        n=1,
        prediction_bytes=0,
        inexact_texts=inexact_texts,
        stream=stream,
        limit_field=LIMIT_FIELD,
        dropped=dropped,
    )


def _stream_options(values: Mapping[str, Any], model: Model) -> StreamOptions | None:
    """Return the options of a stream, or None. The usage is always in its last event."""
    if not values.get("stream"):
        if values.get("stream_options") is not None:
            must("stream_options", "be sent only with stream: true")
        return None
    check_streams(model, RESPONSES.name)
    return StreamOptions()


def _find_fault(values: Any, request: MeteredRequest) -> str | None:
    """An upstream can fail, or not finish, with status 200."""
    if type(values) is not dict or type(values.get("output")) is not list:
        return _NO_RESPONSE if type(values) is not dict or values.get("error") is None else _HAS_ERROR
    if values.get("error") is not None:
        return _HAS_ERROR
    return None if values.get("status") in FINISHED else _UNFINISHED


def _verification_request(model: Model, output_tokens: int, prompt: str = VERIFICATION_PROMPT) -> dict[str, Any]:
    return {"model": model.id, "input": prompt, LIMIT_FIELD: output_tokens}


def _ended_before_output(values: Mapping[str, Any]) -> bool:
    """Whether the limit ended a response that has only reasoning."""
    return values.get("status") == "incomplete" and not any(
        type(item) is dict and item.get("type") != "reasoning" and (item.get("content") or "call_id" in item)
        for item in values["output"]
    )


def _schemas(*, is_streaming: bool) -> dict[str, Any]:
    body = msgspec.structs.replace(BODY, members={**BODY.members, **STREAMING_OVERRIDES}) if is_streaming else BODY
    request = body.schema() | {"additionalProperties": NULL}
    items = next(choice for choice in request["properties"]["input"]["anyOf"] if choice["type"] == "array")
    items["items"] = {"$ref": "#/components/schemas/ResponsesItem"}
    response = {
        "type": "object",
        "required": ["model", "output", "usage"],
        "properties": {
            "model": {"type": "string"},
            "status": {"enum": ["completed", "incomplete"]},
            "output": {"type": "array", "items": {"type": "object"}},
            "usage": {
                "type": "object",
                "required": ["input_tokens", "total_tokens"],
                "properties": {"input_tokens": COUNT, "output_tokens": COUNT, "total_tokens": COUNT},
            },
        },
    }
    return {"ResponsesRequest": request, "ResponsesItem": ITEM.schema(), "ResponsesAnswer": response}


def _make_request(draft: Draft) -> dict[str, Any]:
    instructions = {"instructions": draft.system} if draft.system else {}
    limit = {} if draft.output_tokens is None else {LIMIT_FIELD: draft.output_tokens}
    return {
        "model": draft.model,
        **instructions,
        "input": as_messages(draft.earlier, draft.text) if draft.earlier else draft.text,
        **limit,
        **draft.options,
    }


def _read_output(values: Mapping[str, Any]) -> Output:
    """Return the text of all messages, or the items if there is none."""
    text = "".join(join_texts(item.get("content"), "output_text") for item in values["output"] if type(item) is dict)
    return Output(content=text or values["output"])


def _read_delta(values: Any) -> str:
    is_text = type(values) is dict and values.get("type") in _TEXT_DELTAS
    delta = values.get("delta") if is_text else None
    return delta if type(delta) is str else ""


_EXAMPLE = Example(
    title="Responses",
    sdk=OPENAI,
    call="responses.create",
    result="response",
    python="print(response.output_text)",
    node="console.log(response.output_text);",
    form=Form(
        text_label="Input",
        text_noun="text",
        system_label="Instructions",
        system_param="instructions",
        limit_param=LIMIT_FIELD,
    ),
    make_request=_make_request,
    read_output=_read_output,
    read_delta=_read_delta,
)

RESPONSES = Endpoint(
    name="responses",
    path="/v1/responses",
    guide_topic="the Responses API, and its limits",
    upstream_path="/responses",
    operation=Operation(
        id="createResponse",
        summary="Create a model response",
        request_schema="ResponsesRequest",
        response_schema="ResponsesAnswer",
        schemas=_schemas,
    ),
    read_request=read_responses_request,
    find_fault=_find_fault,
    read_usage=read_response_usage,
    render_error=render_openai_error,
    verification_request=_verification_request,
    ended_before_output=_ended_before_output,
    read_stream=ResponsesStreamReader,
    failure_ends_stream=True,
    example=_EXAMPLE,
)
