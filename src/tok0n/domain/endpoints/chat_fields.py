"""The fields of POST /v1/chat/completions, and the rules that span several fields.

`FIELDS` lists every documented field, accepted or not, except those of `REJECTED_UNLESS_ALLOWED`. The tables are the
source of the checks, of an error's `param` and of the OpenAPI schema. A field is accepted if it can't make the upstream
do unbounded or separately billed work. If providers keep adding values to a field (`reasoning_effort`), Tok0n checks
only its type.

Clients send an assistant's message back as they received it, so its table includes the members that providers add.

Sources: OpenAI API reference, "Create chat completion" (openai-python 3.54, `completion_create_params.py`). For
assistant messages also the references of vLLM, SGLang, DeepSeek, OpenRouter, Mistral, Groq, LiteLLM and Gemini's OpenAI
compatibility.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from tok0n.domain.bound import TextSize
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.fields import (
    OTHER_FIELDS_NOTE,
    Array,
    Boolean,
    Check,
    Custom,
    Field,
    Integer,
    NotServed,
    Number,
    Object,
    Only,
    OutputLimit,
    Path,
    Tagged,
    Text,
    TextOr,
    must,
    reject,
    reject_unknown,
)
from tok0n.domain.endpoints.find_model import MODEL_ID

CHOICES_MAX = 128
WORD_CHARACTERS_MAX = 512
MESSAGES_MAX = 10_000
PARTS_MAX = 10_000

_TEXT = Text()
_WORD = Text(characters_max=WORD_CHARACTERS_MAX)
_OBJECT = Object()


def _object(**members: Field) -> Object:
    """Return an object kind with these required members. Other members are allowed."""
    return Object(members=members, required=frozenset(members))


_OBJECT_WITH_NAME = _object(name=_WORD)
_NOT_BY_TOKENS = NotServed(reason="providers don't bill it by the token")


def _check_modalities(value: Any, param: Path) -> None:
    if type(value) is not list:
        must(param, "be a list")
    if len(value) > 2:
        must(param, "have at most 2 items")
    if value != ["text"]:
        must(param, 'be ["text"]: providers don\'t bill other output by the token')


def _check_logit_bias(value: Any, param: Path) -> None:
    if type(value) is not dict:
        must(param, "be an object")
    for token, bias in value.items():
        if type(bias) not in {int, float} or not -100 <= bias <= 100:
            must(param, f"map token ids to numbers from -100 to 100. The value of {token[:20]!r} is invalid")


def _check_metadata(value: Any, param: Path) -> None:
    if type(value) is not dict:
        must(param, "be an object")
    if len(value) > 16 or any(type(item) is not str or len(key) > 64 or len(item) > 512 for key, item in value.items()):
        must(param, "have at most 16 keys of at most 64 characters, with strings of at most 512 characters as values")


def _check_prediction(value: Any, param: Path) -> None:
    if type(value) is not dict:
        must(param, "be an object")
    if value.get("type") != "content" or not set(value) <= {"type", "content"}:
        must(param, 'be an object with only the members "type" (which must be "content") and "content"')
    content = value.get("content")
    if type(content) is str:
        return
    if type(content) is not list or any(
        type(part) is not dict or part.get("type") != "text" or type(part.get("text")) is not str for part in content
    ):
        must((param, "content"), "be a string or a list of text parts")


_TEXT_PARTS = {
    "type": "array",
    "items": {
        "type": "object",
        "required": ["type", "text"],
        "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
    },
}
_MODALITIES = Custom(rule=_check_modalities, json_schema={"enum": [["text"]]})
_LOGIT_BIAS = Custom(
    rule=_check_logit_bias,
    json_schema={"type": "object", "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100}},
)
_METADATA = Custom(
    rule=_check_metadata,
    json_schema={
        "type": "object",
        "maxProperties": 16,
        "propertyNames": {"maxLength": 64},
        "additionalProperties": {"type": "string", "maxLength": 512},
    },
)
_PREDICTION = Custom(
    rule=_check_prediction,
    json_schema={
        "type": "object",
        "required": ["type", "content"],
        "additionalProperties": False,
        "properties": {"type": {"const": "content"}, "content": {"anyOf": [{"type": "string"}, _TEXT_PARTS]}},
    },
)
_RESPONSE_FORMAT = Tagged(
    kinds={
        "text": _OBJECT,
        "json_object": _OBJECT,
        "json_schema": _object(json_schema=_OBJECT),
    },
    expected="text, json_object or json_schema",
)
_TOOL = Tagged(
    kinds={"function": _object(function=_OBJECT_WITH_NAME), "custom": _object(custom=_OBJECT_WITH_NAME)},
    expected="function or custom: providers don't bill their own tools by the token",
)
_TOOL_CHOICE = Tagged(
    kinds=dict.fromkeys(("function", "custom", "allowed_tools"), _OBJECT),
    expected="function, custom or allowed_tools",
)


def _call_with(argument: str) -> Object:
    return _object(name=_WORD, **{argument: _TEXT})


_TOOL_CALL = Tagged(
    # Ids have no length limit, because some providers put a signature into them.
    common=_object(id=_TEXT),
    kinds={"function": _object(function=_call_with("arguments")), "custom": _object(custom=_call_with("input"))},
    expected="function or custom",
    default="function",
)

_MEDIA = {"image_url": "image_tokens_max", "input_audio": "audio_tokens_max", "file": "file_tokens_max"}
"""The content parts that cost a fixed maximum, and the model's setting that has it."""


def _part(kind: str, value: Field, **optional: Field) -> Object:
    members = {"type": Field(), kind: value, **optional}
    return Object(members=members, required=frozenset({kind}), extra="messages.content.")


_PARTS = {"text": _part("text", _TEXT), "refusal": _part("refusal", _TEXT)} | {
    kind: _part(kind, _OBJECT) for kind in _MEDIA
}
_THINKING = TextOr(other=Array(expected="a string or a list of parts"))
_ASSISTANT_PARTS = _PARTS | {"thinking": _part("thinking", _THINKING, signature=Field(), closed=Field())}
"""Mistral's responses put reasoning into parts of the type `thinking`."""


def _content(kinds: Mapping[str, Object]) -> TextOr:
    part = Tagged(kinds=kinds, limits=_MEDIA, expected=f"one of text, refusal, {', '.join(_MEDIA)}")
    return TextOr(
        other=Array(
            items=part,
            items_max=PARTS_MAX,
            expected="a string or a list of parts",
            empty="have at least one part",
        ),
        note="If the operator declares them for a model, it also accepts image_url, input_audio and file parts.",
    )


def _message(required: set[str], content: TextOr, **optional: Field) -> Object:
    members = {"role": Field(), "content": content, "name": _WORD, **optional}
    return Object(members=members, required=frozenset(required), extra="messages.")


_LIST = Array(items_max=PARTS_MAX)
_ASSISTANT_MEMBERS: dict[str, Field] = {
    "refusal": _TEXT,
    "reasoning_content": _TEXT,
    "reasoning": _TEXT,
    "annotations": _LIST,
    "reasoning_details": _LIST,
    "thinking_blocks": _LIST,
    "audio": _NOT_BY_TOKENS,
    "prefix": Boolean(),
    "tool_calls": Array(items=_TOOL_CALL, items_max=PARTS_MAX),
    "function_call": _call_with("arguments"),
}
_PLAIN_MESSAGE = _message({"content"}, _content(_PARTS))
_ROLES = {
    "developer": _PLAIN_MESSAGE,
    "system": _PLAIN_MESSAGE,
    "user": _PLAIN_MESSAGE,
    # The content may be null, because a model that uses up its output limit by reasoning returns null.
    "assistant": _message(set(), _content(_ASSISTANT_PARTS), **_ASSISTANT_MEMBERS),
    "tool": _message({"content", "tool_call_id"}, _content(_PARTS), tool_call_id=_TEXT),
    "function": _PLAIN_MESSAGE,
}
_PLAIN_ROLES = frozenset(role for role, message in _ROLES.items() if message.required <= {"content"})
"""A message of these roles needs no other members than its content."""

MESSAGE = Tagged(tag="role", kinds=_ROLES, expected=f"one of {', '.join(_ROLES)}")
_MESSAGES = Array(
    items=MESSAGE,
    items_max=MESSAGES_MAX,
    expected="a list of at least one message",
    empty="be a list of at least one message",
)

_PENALTY = Number(low=-2, high=2)
_TOOLS_NOTE = "The operator may allow more tools for a model."

FIELDS: dict[str, Field] = {
    "model": MODEL_ID,
    "messages": _MESSAGES,
    "audio": _NOT_BY_TOKENS,
    "frequency_penalty": _PENALTY,
    "function_call": TextOr(other=_OBJECT_WITH_NAME, examples=("none", "auto"), is_deprecated=True),
    "functions": Array(items=_OBJECT_WITH_NAME, limit="tools_max", is_deprecated=True),
    "logit_bias": _LOGIT_BIAS,
    "logprobs": Boolean(),
    "max_completion_tokens": OutputLimit(note="At most the model's `max_output_tokens`."),
    "max_tokens": OutputLimit(note="The older name of `max_completion_tokens`. If you send both, they must be equal."),
    "metadata": _METADATA,
    "modalities": _MODALITIES,
    "n": Integer(low=1, high=CHOICES_MAX),
    "parallel_tool_calls": Boolean(),
    "prediction": _PREDICTION,
    "presence_penalty": _PENALTY,
    "prompt_cache_key": _WORD,
    "prompt_cache_retention": _WORD,
    "reasoning_effort": _WORD,
    "response_format": _RESPONSE_FORMAT,
    "safety_identifier": _WORD,
    "seed": Integer(low=-(2**63), high=2**63 - 1),
    "service_tier": Only(values=("auto", "default"), reason="other tiers have other prices"),
    "stop": TextOr(
        other=Array(items=_TEXT, limit="stop_sequences_max"),
        note="The operator may allow more sequences for a model.",
    ),
    "store": Only(values=(False,), reason="providers must not store your content"),
    # `STREAMING_OVERRIDES` replaces these two if the gateway streams.
    "stream": Only(values=(False,), reason="this gateway doesn't stream responses"),
    "stream_options": NotServed(reason="this gateway doesn't stream responses"),
    "temperature": Number(low=0, high=2),
    "tool_choice": TextOr(other=_TOOL_CHOICE, examples=("none", "auto", "required")),
    "tools": Array(items=_TOOL, limit="tools_max", note=_TOOLS_NOTE),
    "top_logprobs": Integer(low=0, high=20),
    "top_p": Number(low=0, high=1),
    "user": _WORD,
    "verbosity": _WORD,
    "web_search_options": _NOT_BY_TOKENS,
}
"""Every documented field except those of `REJECTED_UNLESS_ALLOWED`. Null means absent, except for required fields."""

STREAMING_OVERRIDES: dict[str, Field] = {
    "stream": Boolean(note="`true` needs a model that streams. `GET /v1/models` lists them with `streams`."),
    "stream_options": Object(
        members={
            "include_usage": Boolean(note="Whether a last chunk without choices has the usage and the charge."),
            "include_obfuscation": Boolean(note="Passed on to the provider."),
        },
        extra="stream_options.",
        note="Only with `stream: true`.",
    ),
}
"""These replace the same fields of `FIELDS` if the gateway streams."""

BODY = Object(
    members=FIELDS,
    required=frozenset({"model", "messages"}),
    note=OTHER_FIELDS_NOTE,
)

REJECTED_UNLESS_ALLOWED = {
    "moderation": "it makes the provider do work that is not part of the completion",
    "prompt_cache_options": "providers can charge for writing their cache",
}
"""Documented fields that are rejected unless the operator allows them in a model's `extra_fields`."""

LIMIT_FIELDS = ("max_completion_tokens", "max_tokens")
"""The two names of the output limit."""

DEFINITION_FIELDS = frozenset({"tools", "functions", "response_format", "tool_choice"})
"""The fields that define tools and formats. Providers render their JSON into the prompt, so its bytes count."""

_UNKNOWN = Field().check
_CHECKS: dict[str, Check | None] = {name: field.check for name, field in FIELDS.items()}
_CHECKS |= dict.fromkeys(("model", "messages", *LIMIT_FIELDS))
"""The check of each field. None for those that `measure_messages`, `output_limit` and `read_chat_request` check."""
_STREAMING_CHECKS = _CHECKS | {name: field.check for name, field in STREAMING_OVERRIDES.items()}


class MessagesSize(msgspec.Struct, kw_only=True):
    """The number of messages, their text, and the maximum tokens of their image, audio and file parts."""

    messages: int
    text: TextSize
    part_tokens: int = 0


def check_fields(
    values: Mapping[str, Any], raw: dict[str, msgspec.Raw], model: Model, *, is_streaming: bool = False
) -> int:
    """Check all fields except the model, the messages and the output limit. Returns the bytes of the `extra_fields`.

    Removes an unknown field that is null from `raw`, so that no upstream rejects it.
    """
    checks = _STREAMING_CHECKS if is_streaming else _CHECKS
    extra_bytes = 0
    for name, value in values.items():
        check = checks.get(name, _UNKNOWN)
        if check is not _UNKNOWN:
            if check is not None and value is not None:
                check(value, name, model)
        elif name in model.extra_fields:
            extra_bytes += len(bytes(raw[name]))
        elif value is None:
            del raw[name]
        else:
            _reject_field(name)
    return extra_bytes


def _reject_field(name: str) -> NoReturn:
    """Reject an unsupported field, or an unknown field with OpenAI's message."""
    if name in REJECTED_UNLESS_ALLOWED:
        reject(name, f"{name} is not supported: {REJECTED_UNLESS_ALLOWED[name]}.")
    reject_unknown(name)


def output_limit(values: Mapping[str, Any], model: Model) -> int:
    """Return the output limit: the value of either field, or the model's default. Both fields must be equal."""
    limit: int | None = None
    for name in LIMIT_FIELDS:
        value = values.get(name)
        if value is None:
            continue
        FIELDS[name].check(value, name, model)
        if limit is not None and limit != value:
            must("max_tokens", "equal max_completion_tokens, which has the same meaning. Send only one of them")
        limit = value
    return model.default_output_tokens if limit is None else limit


def measure_messages(messages: Any, model: Model) -> MessagesSize:
    """Check and measure each message. Plain ASCII messages, the most common ones, skip the tables for speed."""
    _MESSAGES.check_length(messages, "messages", model)
    size = MessagesSize(messages=len(messages), text=TextSize())
    plain_bytes = 0
    roles = _PLAIN_ROLES
    for index, message in enumerate(messages):
        if type(message) is dict and len(message) == 2:
            role, content = message.get("role"), message.get("content")
            if type(content) is str and type(role) is str and role in roles and content.isascii():
                plain_bytes += len(role) + len(content)
                continue
        MESSAGE.check(message, ("messages", index), model)
        _measure(message, model, size)
    size.text.ascii_bytes += plain_bytes
    return size


def _measure(message: Mapping[str, Any], model: Model, size: MessagesSize) -> None:
    """Add a checked message to `size`. Counts all strings except those of media parts, which cost a fixed maximum."""
    content = message.get("content")
    if type(content) is not list:
        size.text.add(message)
        return
    size.text.add([value for name, value in message.items() if name != "content"])
    for part in content:
        kind = part["type"]
        if kind in _MEDIA:
            size.part_tokens += getattr(model, _MEDIA[kind])
            part = [value for name, value in part.items() if name not in {"type", kind}]  # noqa: PLW2901
        size.text.add(part)
