"""The schemas of the OpenAPI document. The request schema is generated from the fields that validate requests."""

from typing import Any

from tok0n.api.account_bodies import account_schemas
from tok0n.api.errors import STATUSES
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.error_shapes import OPENAI_TYPES


def schemas(*, is_streaming: bool) -> dict[str, Any]:
    """Return all schemas, by name. `is_streaming`: the gateway streams."""
    of_endpoints = [endpoint.operation.schemas(is_streaming=is_streaming) for endpoint in ENDPOINTS]
    return {
        **{name: schema for group in of_endpoints for name, schema in group.items()},
        "Model": _model(is_streaming=is_streaming),
        **account_schemas(),
        "Error": _error(),
    }


def _model(*, is_streaming: bool) -> dict[str, Any]:
    names = [endpoint.name for endpoint in ENDPOINTS]
    streams = {
        "streams": {"type": "boolean", "description": "Whether the model streams on at least one endpoint."},
        "streaming_endpoints": {"type": "array", "items": {"enum": names}},
    }
    properties = {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        **(streams if is_streaming else {}),
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def _error() -> dict[str, Any]:
    error = {
        "type": "object",
        "required": ["message", "type", "param", "code"],
        "properties": {
            "message": {"type": "string"},
            "type": {"enum": sorted(set(OPENAI_TYPES.values()))},
            "param": {"type": ["string", "null"]},
            "code": {"enum": sorted(STATUSES)},
        },
    }
    return {"type": "object", "required": ["error"], "properties": {"error": error}}
