"""POST /v1/messages.

Source: Anthropic API reference, "Create a Message" and "The message object". `messages_fields` has the fields.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from tok0n.domain.bound import definition_size, prompt_bound
from tok0n.domain.catalogue import VERIFICATION_PROMPT, Model
from tok0n.domain.conversation import as_messages
from tok0n.domain.endpoints.endpoint import NO_HEADERS, Endpoint, FindModel, Operation
from tok0n.domain.endpoints.error_shapes import render_anthropic_error
from tok0n.domain.endpoints.example import ANTHROPIC, Draft, Example, Form, Output, join_texts
from tok0n.domain.endpoints.fields import COUNT, NULL
from tok0n.domain.endpoints.find_model import check_streams
from tok0n.domain.endpoints.messages_fields import BODY, DEFINITION_FIELDS, FIELDS, MESSAGE, STREAM
from tok0n.domain.endpoints.messages_request import CheckedRequest, check_request
from tok0n.domain.endpoints.messages_stream import MessagesStreamReader
from tok0n.domain.endpoints.messages_tools import typed_tool_tokens
from tok0n.domain.endpoints.messages_usage import INPUTS, OUTPUT, read_message_usage
from tok0n.domain.json_text import JsonText
from tok0n.domain.metered_request import MeteredRequest, StreamOptions, rewrite_body

STREAM_FIELDS = FIELDS | {"stream": STREAM}
"""The fields if the gateway streams."""

_LIMIT = "max_tokens"
_NO_MESSAGE = "with a body that is not a message"
_HAS_ERROR = "with an error in its body"


def read_messages_request(
    body: JsonText,
    *,
    find_model: FindModel,
    is_streaming: bool = False,
    headers: Mapping[bytes, bytes] = NO_HEADERS,
) -> MeteredRequest:
    """Validate and bound a request. Raises `InvalidRequest`, which names the field, or `UnknownModel`.

    The bound is exact unless the prompt has more than `EXACT_BYTES_MAX` bytes of non-ASCII strings.
    """
    fields = STREAM_FIELDS if is_streaming else FIELDS
    checked = check_request(body, fields=fields, find_model=find_model, headers=headers)
    model, values, route = checked.model, checked.values, checked.model.routes[0]
    if values.get("stream"):
        check_streams(model, MESSAGES.name)
    definitions = _definitions_size(checked)
    tools = values.get("tools") or []
    bound, inexact_texts = prompt_bound(
        checked.size.text,
        messages=checked.size.messages,
        parts=checked.size.part_tokens + typed_tool_tokens(tools),
        definitions=definitions,
        tools=len(tools),
        extra_bytes=checked.extra_bytes,
        context_window_tokens=model.context_window_tokens,
    )
    limit = values[_LIMIT]
    return MeteredRequest(
        model=model,
        route=route,
        upstream_body=rewrite_body(checked.raw, route, limit, limit_field=_LIMIT),
        upstream_headers=checked.headers,
        prompt_bound=bound,
        output_limit=limit,
        n=1,
        prediction_bytes=0,
        inexact_texts=inexact_texts,
        stream=StreamOptions() if values.get("stream") else None,
        limit_field=_LIMIT,
        dropped=checked.dropped,
    )


def _definitions_size(checked: CheckedRequest) -> int:
    """Return the size of the definitions of tools and formats: see `definition_size`."""
    names = DEFINITION_FIELDS.intersection(checked.values)
    return sum(definition_size(checked.values[name], bytes(checked.raw[name]), checked.size.text) for name in names)


def _find_fault(values: Any, request: MeteredRequest) -> str | None:
    """Some upstreams fail with status 200 and an error in the body."""
    if type(values) is not dict:
        return _NO_MESSAGE
    if values.get("error") is not None or values.get("type") == "error":
        return _HAS_ERROR
    content = values.get("content")
    if type(content) is not list or not all(type(block) is dict for block in content):
        return _NO_MESSAGE
    return None


def _verification_request(model: Model, output_tokens: int, prompt: str = VERIFICATION_PROMPT) -> dict[str, Any]:
    return {"model": model.id, "max_tokens": output_tokens, "messages": [{"role": "user", "content": prompt}]}


def _ended_before_output(values: Mapping[str, Any]) -> bool:
    has_output = any(block.get("text") or block.get("type") == "tool_use" for block in values["content"])
    return values.get("stop_reason") == "max_tokens" and not has_output


def _schemas(*, is_streaming: bool) -> dict[str, Any]:
    body = msgspec.structs.replace(BODY, members=STREAM_FIELDS) if is_streaming else BODY
    request = body.schema() | {"additionalProperties": NULL}
    request["properties"]["messages"]["items"] = {"$ref": "#/components/schemas/InputMessage"}
    usage = {
        "type": "object",
        "required": [INPUTS[0], OUTPUT],
        "properties": dict.fromkeys((*INPUTS, OUTPUT), COUNT),
    }
    message = {
        "type": "object",
        "required": ["model", "content", "usage"],
        "properties": {
            "model": {"type": "string"},
            "content": {"type": "array", "items": {"type": "object"}},
            "usage": usage,
        },
    }
    return {"MessagesRequest": request, "InputMessage": MESSAGE.schema(), "OutputMessage": message}


def _make_request(draft: Draft) -> dict[str, Any]:
    limit = {} if draft.output_tokens is None else {_LIMIT: draft.output_tokens}
    prompt = {"system": draft.system} if draft.system else {}
    messages = as_messages(draft.earlier, draft.text)
    return {"model": draft.model, **limit, **prompt, "messages": messages, **draft.options}


def _read_output(values: Mapping[str, Any]) -> Output:
    """Return the text of all blocks, or the blocks if there is none."""
    return Output(content=join_texts(values["content"], "text") or values["content"])


def _read_delta(values: Any) -> str:
    delta = values.get("delta") if type(values) is dict and values.get("type") == "content_block_delta" else None
    text = delta.get("text") if type(delta) is dict and delta.get("type") == "text_delta" else None
    return text if type(text) is str else ""


_EXAMPLE = Example(
    title="Messages",
    sdk=ANTHROPIC,
    call="messages.create",
    result="message",
    python='print("".join(block.text for block in message.content if block.type == "text"))',
    node='console.log(message.content.map((block) => (block.type === "text" ? block.text : "")).join(""));',
    form=Form(
        text_label="User message",
        system_label="System prompt",
        system_param="system",
        limit_param=_LIMIT,
        needs_limit=True,
    ),
    make_request=_make_request,
    read_output=_read_output,
    read_delta=_read_delta,
    python_extra=("temperature",),
)

MESSAGES = Endpoint(
    name="messages",
    path="/v1/messages",
    guide_topic="Anthropic's API, for Claude Code and SDKs",
    upstream_path="/messages",
    operation=Operation(
        id="createMessage",
        summary="Create a message",
        request_schema="MessagesRequest",
        response_schema="OutputMessage",
        schemas=_schemas,
    ),
    read_request=read_messages_request,
    find_fault=_find_fault,
    read_usage=read_message_usage,
    render_error=render_anthropic_error,
    verification_request=_verification_request,
    ended_before_output=_ended_before_output,
    read_stream=MessagesStreamReader,
    key_header=b"x-api-key",
    request_id_header=b"request-id",
    example=_EXAMPLE,
)
