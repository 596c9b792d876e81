"""POST /v1/embeddings.

Source: OpenAI API reference, "Create embeddings" (openai-python 3.57, `embedding_create_params.py`).
"""

from collections.abc import Mapping
from typing import Any

from tok0n.domain.bound import MESSAGE_TOKENS, bound_texts
from tok0n.domain.catalogue import VERIFICATION_PROMPT, Model
from tok0n.domain.endpoints.endpoint import NO_HEADERS, Endpoint, FindModel, Operation
from tok0n.domain.endpoints.error_shapes import render_openai_error
from tok0n.domain.endpoints.example import OPENAI, Draft, Example, Form, Output
from tok0n.domain.endpoints.fields import (
    COUNT,
    NULL,
    OTHER_FIELDS_NOTE,
    Custom,
    Field,
    Integer,
    Object,
    Only,
    Path,
    Schema,
    Text,
    must,
    reject_unknown,
)
from tok0n.domain.endpoints.find_model import MODEL_ID, find_listed
from tok0n.domain.json_text import JsonText, decode_object
from tok0n.domain.metered_request import MeteredRequest, rewrite_body
from tok0n.domain.usage import TOKENS_MAX, Usage, read_usage

INPUTS_MAX = 2_048
DIMENSIONS_MAX = 1_000_000
TOKEN_ID_MAX = 2**31 - 1

_VECTORS_SHOWN = 10
_NUMBERS_SHOWN = 8
"""How much of a response the playground shows."""

_EXPECTED = "be a text, a list of texts, a list of token numbers, or a list of such lists"
_TOKENS_SCHEMA: Schema = {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 0}}
_INPUT_SCHEMA: Schema = {
    "anyOf": [
        {"type": "string", "minLength": 1},
        {"type": "array", "minItems": 1, "maxItems": INPUTS_MAX, "items": {"type": "string", "minLength": 1}},
        _TOKENS_SCHEMA,
        {"type": "array", "minItems": 1, "maxItems": INPUTS_MAX, "items": _TOKENS_SCHEMA},
    ]
}


def _inputs(value: Any) -> list[str | list[int]]:
    """Return the inputs of a request, each a text or a list of token numbers. Raises `InvalidRequest`."""
    if type(value) is str:
        value = [value]
    if type(value) is not list or not value:
        must("input", f"{_EXPECTED}; none may be empty" if value == [] else _EXPECTED)
    if type(value[0]) is int:
        _check_tokens(value, "input")
        return [value]
    if len(value) > INPUTS_MAX:
        must("input", f"have at most {INPUTS_MAX} inputs")
    kind = type(value[0])
    for index, item in enumerate(value):
        path = ("input", index)
        if type(item) is not kind or kind not in {str, list}:
            must(path, "be a text, or a list of token numbers, like all other inputs")
        if not item:
            must(path, "not be empty")
        if kind is list:
            _check_tokens(item, path)
    return value


def _check_tokens(tokens: list[Any], path: Path) -> None:
    for index, token in enumerate(tokens):
        if type(token) is not int or not 0 <= token <= TOKEN_ID_MAX:
            must((path, index), f"be a token number from 0 to {TOKEN_ID_MAX}")


def _check_input(value: Any, param: Path) -> None:
    _inputs(value)


FIELDS: dict[str, Field] = {
    "model": MODEL_ID,
    "input": Custom(rule=_check_input, json_schema=_INPUT_SCHEMA),
    "encoding_format": Only(values=("float", "base64"), reason="there is no other format"),
    "dimensions": Integer(low=1, high=DIMENSIONS_MAX, note="The length of each vector."),
    "user": Text(note="Passed on to the provider."),
}
"""Every documented field. Null means absent, except for required fields."""

BODY = Object(
    members=FIELDS,
    required=frozenset({"model", "input"}),
    note=OTHER_FIELDS_NOTE,
)


def read_embeddings_request(
    body: JsonText,
    *,
    find_model: FindModel,
    is_streaming: bool = False,
    headers: Mapping[bytes, bytes] = NO_HEADERS,
) -> MeteredRequest:
    """Validate and bound a request. Raises `InvalidRequest`, which names the field, or `UnknownModel`.

    A text counts at most its bytes, a list of tokens its length, each at most the context window.
    """
    values, raw = decode_object(body)
    model = find_listed(values.get("model"), find_model, "embeddings")
    for name, value in values.items():
        if name not in FIELDS and value is None:
            del raw[name]
        elif name not in FIELDS and name not in model.extra_fields:
            reject_unknown(name)
        elif name not in {"model", "input"} and name in FIELDS and value is not None:
            FIELDS[name].check(value, name, model)
    inputs = _inputs(values.get("input"))
    bound, inexact = _bound(inputs, model.context_window_tokens)
    route = model.routes[0]
    return MeteredRequest(
        model=model,
        route=route,
        upstream_body=rewrite_body(raw, route),
        prompt_bound=bound,
        output_limit=0,
        n=0,
        prediction_bytes=0,
        inexact_texts=inexact,
        limit_field="",
        inputs=len(inputs),
    )


def _bound(inputs: list[str | list[int]], window: int | None) -> tuple[int, tuple[str, ...]]:
    """Return the bound of the inputs, and the texts that it counts by their bytes only: see `MeteredRequest`."""
    texts = [item for item in inputs if type(item) is str and not item.isascii()]
    _, is_exact = bound_texts(texts)
    total = 0
    for item in inputs:
        if type(item) is not str:
            size = len(item)
        elif item.isascii():
            size = len(item) + MESSAGE_TOKENS
        else:
            size = (bound_texts([item])[0] if is_exact else len(item.encode())) + MESSAGE_TOKENS
        total += size if window is None else min(size, window)
    return total, () if is_exact else tuple(texts)


def _find_fault(values: Any, request: MeteredRequest) -> str | None:
    data = values.get("data") if type(values) is dict else None
    if type(data) is not list or not all(type(item) is dict and "embedding" in item for item in data):
        return "with a body that is not a list of embeddings"
    if values.get("error") is not None:
        return "with an error in its body"
    if len(data) != request.inputs:
        return f"with {len(data)} embeddings for {request.inputs} inputs"
    return None


def _read_usage(values: Mapping[str, Any]) -> Usage | None:
    """Return the usage. Some upstreams report only `prompt_tokens`, which then are the total."""
    reported = values.get("usage")
    if type(reported) is not dict:
        return None
    total = reported.get("total_tokens")
    prompt = reported.get("prompt_tokens")
    if total is None:
        total = prompt
    if prompt is None:
        prompt = total
    if type(total) is not int or not 0 < total <= TOKENS_MAX:
        return None
    return read_usage(reported | {"prompt_tokens": prompt, "total_tokens": total, "completion_tokens": 0})


def _verification_request(model: Model, output_tokens: int, prompt: str = VERIFICATION_PROMPT) -> dict[str, Any]:
    """Return the request as the official SDK sends it, which decodes base64 itself."""
    return {"model": model.id, "input": prompt, "encoding_format": "base64"}


def _ended_before_output(values: Mapping[str, Any]) -> bool:
    return False


def _schemas(*, is_streaming: bool) -> dict[str, Any]:
    item = {
        "type": "object",
        "required": ["embedding", "index"],
        "properties": {
            "embedding": {"anyOf": [{"type": "array", "items": {"type": "number"}}, {"type": "string"}]},
            "index": COUNT,
        },
    }
    usage = {
        "type": "object",
        "required": ["prompt_tokens", "total_tokens"],
        "properties": {"prompt_tokens": COUNT, "total_tokens": COUNT},
    }
    embeddings = {
        "type": "object",
        "required": ["model", "data", "usage"],
        "properties": {"model": {"type": "string"}, "data": {"type": "array", "items": item}, "usage": usage},
    }
    return {"EmbeddingsRequest": BODY.schema() | {"additionalProperties": NULL}, "Embeddings": embeddings}


def _make_request(draft: Draft) -> dict[str, Any]:
    """Return the body. Each line of the text is an input."""
    lines = [line for line in draft.text.splitlines() if line.strip()]
    return {"model": draft.model, "input": lines[0] if len(lines) == 1 else lines}


def _read_output(values: Mapping[str, Any]) -> Output:
    """Return the first numbers of the first vectors, or the vectors if they aren't lists of numbers."""
    vectors = [item["embedding"] for item in values["data"]]
    first = vectors[:_VECTORS_SHOWN]
    beginnings = [vector[:_NUMBERS_SHOWN] for vector in first if type(vector) is list]
    if len(beginnings) != len(first) or not all(type(number) in {int, float} for row in beginnings for number in row):
        return Output(content=first, counts=(("Vectors", len(vectors)),))
    lines = [
        f"[{', '.join(f'{number:.6g}' for number in row)}{', …' if len(vector) > len(row) else ''}]"
        for vector, row in zip(first, beginnings, strict=True)
    ]
    if len(vectors) > len(first):
        lines.append(f"{len(vectors) - len(first):,} more")
    return Output(content="\n".join(lines), counts=(("Vectors", len(vectors)), ("Dimensions", len(vectors[0]))))


_EXAMPLE = Example(
    title="Embeddings",
    sdk=OPENAI,
    call="embeddings.create",
    result="embeddings",
    python='print(len(embeddings.data[0].embedding), "numbers")',
    node='console.log(embeddings.data[0].embedding.length, "numbers");',
    form=Form(text_label="Texts, one per line", text_noun="text", has_turns=False),
    make_request=_make_request,
    read_output=_read_output,
)

EMBEDDINGS = Endpoint(
    name="embeddings",
    path="/v1/embeddings",
    guide_topic="vectors for texts and tokens",
    has_output_limit=False,
    upstream_path="/embeddings",
    operation=Operation(
        id="createEmbeddings",
        summary="Create embeddings",
        request_schema="EmbeddingsRequest",
        response_schema="Embeddings",
        schemas=_schemas,
    ),
    read_request=read_embeddings_request,
    find_fault=_find_fault,
    read_usage=_read_usage,
    render_error=render_openai_error,
    verification_request=_verification_request,
    ended_before_output=_ended_before_output,
    example=_EXAMPLE,
)
