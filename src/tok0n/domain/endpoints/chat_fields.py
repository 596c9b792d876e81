"""POST /v1/chat/completions: its fields, and the rules that span several of them.

The tables are the only list of the documented fields, served or not. They give the checks, an error's `param` and the
OpenAPI schema.
A field is accepted if it cannot make the upstream do unbounded or extra-billed work. Where providers keep adding values
(`reasoning_effort`), Tok0n checks the type and the upstream judges the value.

An assistant's message may come back as the provider sent it, with the members that common providers add.

Sources: OpenAI API reference, "Create chat completion" (openai-python 3.54, `completion_create_params.py`); for
answers also those of vLLM, SGLang, DeepSeek, OpenRouter, Mistral, Groq, LiteLLM and Gemini's OpenAI compatibility.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from tok0n.domain.bound import TextSize
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.fields import (
    Array,
    Boolean,
    Check,
    Custom,
    Field,
    Integer,
    ModelId,
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
)

CHOICES_MAX = 128
WORD_CHARACTERS_MAX = 512
MODEL_ID_CHARACTERS_MAX = 256
MESSAGES_MAX = 10_000
PARTS_MAX = 10_000

_TEXT = Text()
_WORD = Text(characters_max=WORD_CHARACTERS_MAX)
_OBJECT = Object()


def _object(**members: Field) -> Object:
    """An object with these required members, and any others."""
    return Object(members=members, required=frozenset(members))


_NAMED = _object(name=_WORD)
_NOT_BY_TOKENS = NotServed(reason="it is not billed by the token")


def _check_modalities(value: Any, param: Path) -> None:
    if type(value) is not list:
        must(param, "be a list")
    if len(value) > 2:
        must(param, "have 2 items at the most")
    if value != ["text"]:
        must(param, 'be ["text"] here: other output is not billed by the token')


def _check_logit_bias(value: Any, param: Path) -> None:
    if type(value) is not dict:
        must(param, "be an object")
    for token, bias in value.items():
        if type(bias) not in {int, float} or not -100 <= bias <= 100:
            must(param, f"map token ids to numbers from -100 to 100; {token[:20]!r} does not")


def _check_metadata(value: Any, param: Path) -> None:
    if type(value) is not dict:
        must(param, "be an object")
    if len(value) > 16 or any(type(item) is not str or len(key) > 64 or len(item) > 512 for key, item in value.items()):
        must(param, "have up to 16 strings of up to 512 characters, under keys of up to 64")


def _check_prediction(value: Any, param: Path) -> None:
    if type(value) is not dict:
        must(param, "be an object")
    if value.get("type") != "content" or not set(value) <= {"type", "content"}:
        must(param, 'be an object with type "content" and a content')
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
    kinds={"function": _object(function=_NAMED), "custom": _object(custom=_NAMED)},
    expected="function or custom: a tool that the upstream runs itself is not billed by the token",
)
_CHOSEN_TOOL = Tagged(
    kinds=dict.fromkeys(("function", "custom", "allowed_tools"), _OBJECT),
    expected="function, custom or allowed_tools",
)


def _call(argument: str) -> Object:
    return _object(name=_WORD, **{argument: _TEXT})


_TOOL_CALL = Tagged(
    # Ids have no length limit of ours, because some providers keep a signature in them.
    common=_object(id=_TEXT),
    kinds={"function": _object(function=_call("arguments")), "custom": _object(custom=_call("input"))},
    expected="function or custom",
    default="function",
)

_MEDIA = {"image_url": "image_tokens_max", "input_audio": "audio_tokens_max", "file": "file_tokens_max"}
"""The parts with a maximum of their own, each with the model's setting that holds it."""


def _part(kind: str, value: Field, **more: Field) -> Object:
    return Object(members={"type": Field(), kind: value, **more}, required=frozenset({kind}), extra="messages.content.")


_PARTS = {"text": _part("text", _TEXT), "refusal": _part("refusal", _TEXT)} | {
    kind: _part(kind, _OBJECT) for kind in _MEDIA
}
_THINKING = TextOr(other=Array(expected="a string or a list of parts"))
_ASSISTANT_PARTS = _PARTS | {"thinking": _part("thinking", _THINKING, signature=Field(), closed=Field())}
"""Mistral's answers put reasoning into parts of the type `thinking`."""


def _content(kinds: Mapping[str, Object]) -> TextOr:
    part = Tagged(kinds=kinds, limits=_MEDIA, expected=f"one of text, refusal, {', '.join(_MEDIA)}")
    return TextOr(
        other=Array(
            items=part,
            items_max=PARTS_MAX,
            expected="a string or a list of parts",
            empty="have at least one part",
        ),
        note="A model may also take image_url, input_audio and file parts, where the operator declares them.",
    )


def _message(required: set[str], content: TextOr, **more: Field) -> Object:
    members = {"role": Field(), "content": content, "name": _WORD, **more}
    return Object(members=members, required=frozenset(required), extra="messages.")


_ANSWER_LIST = Array(items_max=PARTS_MAX)
_ANSWER: dict[str, Field] = {
    "refusal": _TEXT,
    "reasoning_content": _TEXT,
    "reasoning": _TEXT,
    "annotations": _ANSWER_LIST,
    "reasoning_details": _ANSWER_LIST,
    "thinking_blocks": _ANSWER_LIST,
    "audio": _NOT_BY_TOKENS,
    "prefix": Boolean(),
    "tool_calls": Array(items=_TOOL_CALL, items_max=PARTS_MAX),
    "function_call": _call("arguments"),
}
_PLAIN_MESSAGE = _message({"content"}, _content(_PARTS))
_ROLES = {
    "developer": _PLAIN_MESSAGE,
    "system": _PLAIN_MESSAGE,
    "user": _PLAIN_MESSAGE,
    # The content may be null: a model that uses up its limit by reasoning returns null.
    "assistant": _message(set(), _content(_ASSISTANT_PARTS), **_ANSWER),
    "tool": _message({"content", "tool_call_id"}, _content(_PARTS), tool_call_id=_TEXT),
    "function": _PLAIN_MESSAGE,
}
MESSAGE = Tagged(tag="role", kinds=_ROLES, expected=f"one of {', '.join(_ROLES)}")
_MESSAGES = Array(
    items=MESSAGE,
    items_max=MESSAGES_MAX,
    expected="a list of at least one message",
    empty="be a list of at least one message",
)

_PENALTY = Number(low=-2, high=2)
_TOOLS_NOTE = "The operator may allow more tools for a model."

MODEL_ID = ModelId(characters_max=MODEL_ID_CHARACTERS_MAX)
FIELDS: dict[str, Field] = {
    "model": MODEL_ID,
    "messages": _MESSAGES,
    "audio": _NOT_BY_TOKENS,
    "frequency_penalty": _PENALTY,
    "function_call": TextOr(other=_NAMED, examples=("none", "auto"), is_deprecated=True),
    "functions": Array(items=_NAMED, limit="tools_max", is_deprecated=True),
    "logit_bias": _LOGIT_BIAS,
    "logprobs": Boolean(),
    "max_completion_tokens": OutputLimit(note="At most the model's `max_output_tokens`."),
    "max_tokens": OutputLimit(note="The older spelling; if you send both, they must be equal."),
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
    "service_tier": Only(values=("auto", "default"), reason="other tiers have prices of their own"),
    "stop": TextOr(
        other=Array(items=_TEXT, limit="stop_sequences_max"),
        note="The operator may allow more sequences for a model.",
    ),
    "store": Only(values=(False,), reason="the gateway keeps no content, and lets none be kept"),
    "stream": Only(values=(False,), reason="only whole answers are served; leave it out or send false"),
    "stream_options": NotServed(reason="only whole answers are served"),
    "temperature": Number(low=0, high=2),
    "tool_choice": TextOr(other=_CHOSEN_TOOL, examples=("none", "auto", "required")),
    "tools": Array(items=_TOOL, limit="tools_max", note=_TOOLS_NOTE),
    "top_logprobs": Integer(low=0, high=20),
    "top_p": Number(low=0, high=1),
    "user": _WORD,
    "verbosity": _WORD,
    "web_search_options": _NOT_BY_TOKENS,
}
"""Every documented field. Null means "not given", except for the required ones."""

BODY = Object(
    members=FIELDS,
    required=frozenset({"model", "messages"}),
    note="Any other field gets an error that names it, unless it is null or the operator allows it.",
)

REFUSED_UNLESS_ALLOWED = {
    "moderation": "it makes the upstream do work beside the completion",
    "prompt_cache_options": "it can make the upstream charge for writing its cache",
}
"""Documented fields that an operator may allow for a model in `extra_fields`, like any other field."""

LIMIT_FIELDS = ("max_completion_tokens", "max_tokens")
"""The two spellings of the output limit."""

DEFINITIONS = frozenset({"tools", "functions", "response_format", "tool_choice"})
"""The fields that providers rewrite into the prompt."""

_UNKNOWN = Field().check
_CHECKS: dict[str, Check | None] = {name: field.check for name, field in FIELDS.items()}
_CHECKS |= dict.fromkeys(("model", "messages", *LIMIT_FIELDS))
"""The check of each field; None if a rule below makes it."""


class MessagesSize(msgspec.Struct, kw_only=True):
    """What the messages can cost: their text, and the tokens of their image, audio and file parts."""

    messages: int
    text: TextSize
    part_tokens: int = 0


def check_fields(values: Mapping[str, Any], raw: dict[str, msgspec.Raw], model: Model) -> int:
    """Check all fields but those of the rules below. Returns the bytes of those that only `extra_fields` allow.

    An unknown field that is null counts as not given: it leaves `raw`, so that no upstream rejects it.
    """
    extra_bytes = 0
    for name, value in values.items():
        check = _CHECKS.get(name, _UNKNOWN)
        if check is not _UNKNOWN:
            if check is not None and value is not None:
                check(value, name, model)
        elif name in model.extra_fields:
            extra_bytes += len(bytes(raw[name]))
        elif value is None:
            del raw[name]
        else:
            _reject_unknown(name)
    return extra_bytes


def _reject_unknown(name: str) -> NoReturn:
    """Reject a field that is not served, in OpenAI's words."""
    if name in REFUSED_UNLESS_ALLOWED:
        reject(name, f"'{name}' is not supported here: {REFUSED_UNLESS_ALLOWED[name]}.")
    reject(name[:80], f"Unrecognized request argument supplied: {name[:80]}")


def output_limit(values: Mapping[str, Any], model: Model) -> int:
    """M: one of the two spellings, or both if they are equal; the model's default without either."""
    limit: int | None = None
    for name in LIMIT_FIELDS:
        value = values.get(name)
        if value is None:
            continue
        FIELDS[name].check(value, name, model)
        if limit is not None and limit != value:
            reject(
                "max_tokens",
                "'max_tokens' and 'max_completion_tokens' mean the same; give one, or the same value twice.",
            )
        limit = value
    return model.default_output_tokens if limit is None else limit


def messages_size(messages: Any, model: Model) -> MessagesSize:
    """Check and measure each message in one loop. Plain ASCII messages, the usual ones, skip the tables."""
    _MESSAGES.check_length(messages, "messages", model)
    size = MessagesSize(messages=len(messages), text=TextSize())
    plain_bytes = 0
    roles = _ROLES
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
    """Add a checked message. All strings count but those of media parts, which have a maximum of their own."""
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
