"""The schemas of the OpenAPI document: what the gateway takes, to the letter, and what it gives.

A test holds them against `read_chat_request`: what they allow is accepted, and what they forbid is refused.
"""

from typing import Any

import msgspec

from tok0n.api.errors import TABLE
from tok0n.api.openapi_account import BALANCE, KEY, RECEIPT
from tok0n.domain.catalogue import Model
from tok0n.domain.chat_fields import CHOICES_MAX, INT64, WORD_CHARACTERS_MAX
from tok0n.domain.chat_messages import MESSAGES_MAX, PARTS_MAX
from tok0n.domain.chat_request import MODEL_ID_CHARACTERS_MAX
from tok0n.domain.usage import TOKENS_MAX

COUNT = {"type": "integer", "minimum": 0, "maximum": TOKENS_MAX}

_TEXT = {"type": "string"}
_NULL = {"type": "null"}
_OPTIONAL_TEXT = {"type": ["string", "null"]}
_WORD = {"type": ["string", "null"], "maxLength": WORD_CHARACTERS_MAX}
_BOOLEAN = {"type": ["boolean", "null"]}
_LIMIT = {"type": ["integer", "null"], "minimum": 1}
_PENALTY = {"type": ["number", "null"], "minimum": -2, "maximum": 2}
_NAME = {"type": "string", "maxLength": WORD_CHARACTERS_MAX}
_NAMED = {"type": "object", "required": ["name"], "properties": {"name": _NAME}}
_TEXT_PART = {"type": "object", "required": ["type", "text"], "properties": {"type": {"const": "text"}, "text": _TEXT}}


def _default(setting: str) -> int:
    """The default of a model setting."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(Model)}
    default = defaults[setting]
    assert isinstance(default, int)
    return default


def schemas() -> dict[str, Any]:
    """All schemas by name."""
    return {
        "ChatRequest": _chat_request(),
        "Message": _message(),
        "PlainMessage": _plain_message(),
        "AssistantMessage": _assistant_message(),
        "ToolMessage": _tool_message(),
        "Completion": _completion(),
        "Model": _model(),
        "Key": KEY,
        "Balance": BALANCE,
        "Receipt": RECEIPT,
        "Error": _error(),
    }


def _chat_request() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["model", "messages"],
        "additionalProperties": _NULL,
        "description": "Any other field gets an error that names it, unless it is null or the operator allows it.",
        "properties": {
            "model": {"type": "string", "minLength": 1, "maxLength": MODEL_ID_CHARACTERS_MAX},
            "messages": {
                "type": "array",
                "minItems": 1,
                "maxItems": MESSAGES_MAX,
                "items": {"$ref": "#/components/schemas/Message"},
            },
            **_output_fields(),
            **_sampling_fields(),
            **_tool_fields(),
            **_label_fields(),
        },
    }


def _output_fields() -> dict[str, Any]:
    """How much is answered, and in which form."""
    return {
        "max_completion_tokens": _LIMIT | {"description": "At most the model's `max_output_tokens`."},
        "max_tokens": _LIMIT | {"description": "The older spelling; when both are given they must be equal."},
        "n": {"type": ["integer", "null"], "minimum": 1, "maximum": CHOICES_MAX},
        "modalities": {"enum": [["text"], None]},
        "prediction": {
            "type": ["object", "null"],
            "required": ["type", "content"],
            "additionalProperties": False,
            "properties": {
                "type": {"const": "content"},
                "content": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT_PART}]},
            },
        },
        "response_format": {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "required": ["type"],
                    "properties": {"type": {"enum": ["text", "json_object"]}},
                },
                {
                    "type": "object",
                    "required": ["type", "json_schema"],
                    "properties": {"type": {"const": "json_schema"}, "json_schema": {"type": "object"}},
                },
            ]
        },
        "stop": {
            "anyOf": [
                {"type": ["string", "null"]},
                {"type": "array", "maxItems": _default("stop_sequences_max"), "items": _TEXT},
            ],
            "description": "The operator may allow more sequences for a model.",
        },
        "stream": {"enum": [False, None], "description": "Only whole answers are served."},
    }


def _sampling_fields() -> dict[str, Any]:
    """How the upstream chooses its words."""
    return {
        "temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        "top_p": {"type": ["number", "null"], "minimum": 0, "maximum": 1},
        "frequency_penalty": _PENALTY,
        "presence_penalty": _PENALTY,
        "logit_bias": {
            "type": ["object", "null"],
            "additionalProperties": {"type": "number", "minimum": -100, "maximum": 100},
        },
        "logprobs": _BOOLEAN,
        "top_logprobs": {"type": ["integer", "null"], "minimum": 0, "maximum": 20},
        "seed": {"type": ["integer", "null"], "minimum": INT64[0], "maximum": INT64[1]},
        "reasoning_effort": _WORD,
        "verbosity": _WORD,
    }


def _tool_fields() -> dict[str, Any]:
    """What the model may ask the client to call: never a tool that the upstream runs itself."""
    tools = [
        {"type": "object", "required": ["type", kind], "properties": {"type": {"const": kind}, kind: _NAMED}}
        for kind in ("function", "custom")
    ]
    choice = {
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": ["function", "custom", "allowed_tools"]}},
    }
    words = {"type": ["string", "null"]}
    return {
        "tools": {
            "type": ["array", "null"],
            "maxItems": _default("tools_max"),
            "items": {"anyOf": tools},
            "description": "The operator may allow more tools for a model.",
        },
        "tool_choice": {"anyOf": [words | {"examples": ["none", "auto", "required"]}, choice]},
        "parallel_tool_calls": _BOOLEAN,
        "functions": {
            "type": ["array", "null"],
            "maxItems": _default("tools_max"),
            "items": _NAMED,
            "deprecated": True,
        },
        "function_call": {"anyOf": [words | {"examples": ["none", "auto"]}, _NAMED], "deprecated": True},
    }


def _label_fields() -> dict[str, Any]:
    """What says whose request it is, and how it is kept and served."""
    return {
        "metadata": {
            "type": ["object", "null"],
            "maxProperties": 16,
            "propertyNames": {"maxLength": 64},
            "additionalProperties": {"type": "string", "maxLength": 512},
        },
        "user": _WORD,
        "safety_identifier": _WORD,
        "prompt_cache_key": _WORD,
        "prompt_cache_retention": _WORD,
        "service_tier": {"enum": ["auto", "default", None]},
        "store": {"enum": [False, None], "description": "The gateway keeps no content, and lets none be kept."},
    }


def _message() -> dict[str, Any]:
    kinds = ("PlainMessage", "AssistantMessage", "ToolMessage")
    return {"oneOf": [{"$ref": f"#/components/schemas/{kind}"} for kind in kinds]}


def _plain_message() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["role", "content"],
        "additionalProperties": _NULL,
        "properties": {
            "role": {"enum": ["developer", "system", "user", "function"]},
            "content": _content(),
            "name": _WORD,
        },
    }


def _tool_message() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["role", "content", "tool_call_id"],
        "additionalProperties": _NULL,
        "properties": {"role": {"const": "tool"}, "content": _content(), "tool_call_id": _TEXT, "name": _WORD},
    }


def _assistant_message() -> dict[str, Any]:
    """An assistant message as an answer has it: it can be sent back as it came."""
    calls = [
        {
            "type": "object",
            "required": ["id", kind, *required],
            "properties": {"id": _TEXT, "type": {"enum": types}, kind: _call(argument)},
        }
        for kind, argument, required, types in (
            ("function", "arguments", [], ["function", None]),
            ("custom", "input", ["type"], ["custom"]),
        )
    ]
    lists = {"type": ["array", "null"], "maxItems": PARTS_MAX}
    content = _content(_thinking_part())
    return {
        "type": "object",
        "required": ["role"],
        "additionalProperties": _NULL,
        "properties": {
            "role": {"const": "assistant"},
            "content": {"anyOf": [*content["anyOf"], _NULL]},
            "name": _WORD,
            "refusal": _OPTIONAL_TEXT,
            "reasoning_content": _OPTIONAL_TEXT,
            "reasoning": _OPTIONAL_TEXT,
            "reasoning_details": lists,
            "thinking_blocks": lists,
            "annotations": lists,
            "audio": _NULL,
            "prefix": _BOOLEAN,
            "tool_calls": lists | {"items": {"anyOf": calls}},
            "function_call": {"anyOf": [_call("arguments"), _NULL], "deprecated": True},
        },
    }


def _call(argument: str) -> dict[str, Any]:
    return {"type": "object", "required": ["name", argument], "properties": {"name": _NAME, argument: _TEXT}}


def _content(*more_parts: dict[str, Any]) -> dict[str, Any]:
    """Text, whole or in parts. Other parts depend on the model, which is the operator's to say."""
    parts = [
        {
            "type": "object",
            "required": ["type", kind],
            "additionalProperties": _NULL,
            "properties": {"type": {"const": kind}, kind: _TEXT},
        }
        for kind in ("text", "refusal")
    ]
    items = {"anyOf": [*parts, *more_parts]}
    return {
        "description": "A model may also take image_url, input_audio and file parts, where the operator declares them.",
        "anyOf": [_TEXT, {"type": "array", "minItems": 1, "maxItems": PARTS_MAX, "items": items}],
    }


def _thinking_part() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["type", "thinking"],
        "additionalProperties": _NULL,
        "properties": {
            "type": {"const": "thinking"},
            "thinking": {"type": ["string", "array"]},
            "signature": {},
            "closed": {},
        },
    }


def _completion() -> dict[str, Any]:
    usage = {
        "type": "object",
        "required": ["prompt_tokens", "total_tokens"],
        "properties": {"prompt_tokens": COUNT, "completion_tokens": COUNT, "total_tokens": COUNT},
    }
    choice = {"type": "object", "required": ["message"], "properties": {"message": {"type": "object"}}}
    return {
        "type": "object",
        "required": ["model", "choices", "usage"],
        "properties": {
            "model": {"type": "string"},
            "choices": {"type": "array", "minItems": 1, "items": choice},
            "usage": usage,
        },
    }


def _model() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["id", "object", "created", "owned_by"],
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "model"},
            "created": {"type": "integer"},
            "owned_by": {"type": "string"},
        },
    }


def _error() -> dict[str, Any]:
    error = {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "properties": {
            "message": {"type": "string"},
            "type": {"enum": sorted({kind for _, kind in TABLE.values()})},
            "param": {"type": ["string", "null"]},
            "code": {"enum": sorted(TABLE)},
        },
    }
    return {"type": "object", "required": ["error"], "properties": {"error": error}}
