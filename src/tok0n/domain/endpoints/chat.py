"""POST /v1/chat/completions.

Source: OpenAI API reference, "Create chat completion" and "The chat completion object". `chat_fields` has the fields.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from tok0n.domain.bound import TextSize, definition_size, prompt_bound
from tok0n.domain.catalogue import VERIFICATION_PROMPT, Model, Route
from tok0n.domain.conversation import as_messages
from tok0n.domain.endpoints.chat_fields import (
    BODY,
    DEFINITION_FIELDS,
    LIMIT_FIELDS,
    MESSAGE,
    STREAMING_OVERRIDES,
    check_fields,
    measure_messages,
    output_limit,
)
from tok0n.domain.endpoints.chat_stream import ChatStreamReader
from tok0n.domain.endpoints.endpoint import NO_HEADERS, Endpoint, FindModel, Operation
from tok0n.domain.endpoints.error_shapes import render_openai_error
from tok0n.domain.endpoints.example import OPENAI, Draft, Example, Form, Output
from tok0n.domain.endpoints.fields import COUNT, NULL, must
from tok0n.domain.endpoints.find_model import check_streams, find_listed
from tok0n.domain.json_text import JsonText, decode_object
from tok0n.domain.metered_request import MeteredRequest, StreamOptions, rewrite_body
from tok0n.domain.usage import Usage, read_usage

_NO_COMPLETION = "with a body that is not a chat completion"
_HAS_ERROR = "with an error in its body"


def read_chat_request(
    body: JsonText,
    *,
    find_model: FindModel,
    is_streaming: bool = False,
    headers: Mapping[bytes, bytes] = NO_HEADERS,
) -> MeteredRequest:
    """Validate and bound a request. Raises `InvalidRequest`, which names the field, or `UnknownModel`.

    The bound is exact unless the messages have more than `EXACT_BYTES_MAX` bytes of non-ASCII strings.
    """
    values, raw = decode_object(body)
    model = find_listed(values.get("model"), find_model, "chat")
    extra_bytes = check_fields(values, raw, model, is_streaming=is_streaming)
    size = measure_messages(values.get("messages"), model)
    limit = output_limit(values, model)
    definitions = 0 if DEFINITION_FIELDS.isdisjoint(values) else _definitions_size(values, raw, size.text)
    bound, inexact_texts = prompt_bound(
        size.text,
        messages=size.messages,
        parts=size.part_tokens,
        definitions=definitions,
        tools=_count_tools(values) if definitions else 0,
        extra_bytes=extra_bytes,
        context_window_tokens=model.context_window_tokens,
    )
    route = model.routes[0]
    stream = _stream_options(values, raw, model, route)
    return MeteredRequest(
        model=model,
        route=route,
        upstream_body=rewrite_body(raw, route, limit, limit_fields=LIMIT_FIELDS),
        prompt_bound=bound,
        output_limit=limit,
        n=values.get("n") or 1,
        prediction_bytes=0 if values.get("prediction") is None else len(bytes(raw["prediction"])),
        inexact_texts=inexact_texts,
        stream=stream,
    )


def _stream_options(
    values: dict[str, Any], raw: dict[str, msgspec.Raw], model: Model, route: Route
) -> StreamOptions | None:
    """Return what the customer asked of a stream, or None. Puts into `raw` what makes the upstream report usage."""
    options = values.get("stream_options")
    if not values.get("stream"):
        if options is not None:
            must("stream_options", "be sent only with stream: true")
        return None
    check_streams(model, CHAT.name)
    options = options or {}
    raw.pop("stream_options", None)
    if route.stream_options:
        obfuscation = options.get("include_obfuscation")
        sent = {"include_usage": True} | ({} if obfuscation is None else {"include_obfuscation": obfuscation})
        if route.continuous_usage_stats:
            sent["continuous_usage_stats"] = True
        raw["stream_options"] = msgspec.Raw(msgspec.json.encode(sent))
    return StreamOptions(includes_usage=options.get("include_usage") is True)


def _definitions_size(values: dict[str, Any], raw: dict[str, msgspec.Raw], text: TextSize) -> int:
    """Return the size of the definitions of tools and formats: see `definition_size`."""
    names = [name for name in DEFINITION_FIELDS if type(values.get(name)) in {list, dict}]
    return sum(definition_size(values[name], bytes(raw[name]), text) for name in names)


def _count_tools(values: dict[str, Any]) -> int:
    return len(values.get("tools") or ()) + len(values.get("functions") or ())


def _find_fault(values: Any, request: MeteredRequest) -> str | None:
    """Some upstreams fail with status 200 and put an error beside the choices or into one of them."""
    choices = values.get("choices") if type(values) is dict else None
    if type(choices) is not list or not choices:
        return _NO_COMPLETION
    fault = None if values.get("error") is None else _HAS_ERROR
    for choice in choices:
        if type(choice) is not dict or type(choice.get("message")) is not dict:
            return _NO_COMPLETION
        if choice.get("error") is not None or choice.get("finish_reason") == "error":
            fault = _HAS_ERROR
    return fault


def _read_usage(values: Mapping[str, Any]) -> Usage | None:
    return read_usage(values.get("usage"))


def _verification_request(model: Model, output_tokens: int, prompt: str = VERIFICATION_PROMPT) -> dict[str, Any]:
    return {
        "model": model.id,
        "messages": [{"role": "user", "content": prompt}],
        "max_completion_tokens": output_tokens,
    }


def _ended_before_output(values: Mapping[str, Any]) -> bool:
    return any(
        choice.get("finish_reason") == "length"
        and not choice["message"].get("content")
        and not choice["message"].get("tool_calls")
        for choice in values["choices"]
    )


def _schemas(*, is_streaming: bool) -> dict[str, Any]:
    body = msgspec.structs.replace(BODY, members={**BODY.members, **STREAMING_OVERRIDES}) if is_streaming else BODY
    request = body.schema() | {"additionalProperties": NULL}
    request["properties"]["messages"]["items"] = {"$ref": "#/components/schemas/Message"}
    choice = {"type": "object", "required": ["message"], "properties": {"message": {"type": "object"}}}
    usage = {
        "type": "object",
        "required": ["prompt_tokens", "total_tokens"],
        "properties": {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    }
    completion = {
        "type": "object",
        "required": ["model", "choices", "usage"],
        "properties": {
            "model": {"type": "string"},
            "choices": {"type": "array", "minItems": 1, "items": choice},
            "usage": usage,
        },
    }
    return {"ChatRequest": request, "Message": MESSAGE.schema(), "Completion": completion}


def _make_request(draft: Draft) -> dict[str, Any]:
    prompt = [{"role": "system", "content": draft.system}] if draft.system else []
    limit = {} if draft.output_tokens is None else {"max_completion_tokens": draft.output_tokens}
    messages = [*prompt, *as_messages(draft.earlier, draft.text)]
    return {"model": draft.model, "messages": messages, **limit, **draft.options}


def _read_output(values: Mapping[str, Any]) -> Output:
    """Return the text of the first choice, or its message if it has none."""
    message = values["choices"][0]["message"]
    content = message.get("content")
    return Output(content=content if type(content) is str else message)


def _read_delta(values: Any) -> str:
    choices = values.get("choices") if type(values) is dict else None
    if type(choices) is not list:
        return ""
    deltas = [choice.get("delta") for choice in choices if type(choice) is dict]
    texts = [delta.get("content") for delta in deltas if type(delta) is dict]
    return "".join(text for text in texts if type(text) is str)


_EXAMPLE = Example(
    title="Chat completions",
    sdk=OPENAI,
    call="chat.completions.create",
    result="completion",
    python="print(completion.choices[0].message.content)",
    node="console.log(completion.choices[0].message.content);",
    form=Form(text_label="User message", system_label="System message", limit_param="max_completion_tokens"),
    make_request=_make_request,
    read_output=_read_output,
    read_delta=_read_delta,
)

CHAT = Endpoint(
    name="chat",
    path="/v1/chat/completions",
    upstream_path="/chat/completions",
    operation=Operation(
        id="createChatCompletion",
        summary="Create a chat completion",
        request_schema="ChatRequest",
        response_schema="Completion",
        schemas=_schemas,
    ),
    read_request=read_chat_request,
    find_fault=_find_fault,
    read_usage=_read_usage,
    render_error=render_openai_error,
    verification_request=_verification_request,
    ended_before_output=_ended_before_output,
    read_stream=ChatStreamReader,
    has_stream_options=True,
    example=_EXAMPLE,
)
