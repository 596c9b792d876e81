"""The schemas of the OpenAPI document. The request schema is generated from the fields that validate requests."""

from typing import Any

from tok0n.api.account_bodies import account_schemas
from tok0n.api.errors import TABLE
from tok0n.domain.endpoints.chat_fields import BODY, MESSAGE
from tok0n.domain.endpoints.fields import NULL
from tok0n.domain.usage import TOKENS_MAX

COUNT = {"type": "integer", "minimum": 0, "maximum": TOKENS_MAX}


def schemas() -> dict[str, Any]:
    """Return all schemas, by name."""
    request = BODY.schema() | {"additionalProperties": NULL}
    request["properties"]["messages"]["items"] = {"$ref": "#/components/schemas/Message"}
    return {
        "ChatRequest": request,
        "Message": MESSAGE.schema(),
        "Completion": _completion(),
        "Model": _model(),
        **account_schemas(),
        "Error": _error(),
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
