"""The schemas of the OpenAPI document. The request schema is generated from the fields that validate requests."""

from collections.abc import Sequence
from typing import Any

from tok0n.api.account_bodies import account_schemas
from tok0n.api.errors import STATUSES
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.endpoints.error_shapes import OPENAI_TYPES


def schemas(endpoints: Sequence[Endpoint], *, is_streaming: bool) -> dict[str, Any]:
    """Return all schemas, by name. `is_streaming`: the gateway streams."""
    of_endpoints = [endpoint.operation.schemas(is_streaming=is_streaming) for endpoint in endpoints]
    return {
        **{name: schema for group in of_endpoints for name, schema in group.items()},
        "Model": _model(endpoints, is_streaming=is_streaming),
        **account_schemas(),
        "Error": _error(),
    }


def _model(endpoints: Sequence[Endpoint], *, is_streaming: bool) -> dict[str, Any]:
    names = [endpoint.name for endpoint in endpoints if not endpoint.served_with]
    served = {} if names == ["chat"] else {"endpoints": {"type": "array", "items": {"enum": names}}}
    streams = {
        "streams": {"type": "boolean", "description": "Whether the model streams on at least one endpoint."},
        "streaming_endpoints": {"type": "array", "items": {"enum": names}},
    }
    properties = {
        "id": {"type": "string"},
        "object": {"const": "model"},
        "created": {"type": "integer"},
        "owned_by": {"type": "string"},
        "token_class": {"type": "string", "description": "The class of the tokens that pay for this model."},
        **served,
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
