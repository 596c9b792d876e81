"""The OpenAPI document of /v1, served at /openapi.json: its operations, what each refuses, and their headers."""

import functools
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n import __version__
from tok0n.api.errors import RETRY_AFTER_SECONDS_MAX, TABLE
from tok0n.api.openapi_schemas import schemas
from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.endpoints.fields import COUNT

_RATE = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
_RECEIPT = ("x-tok0n-reserved", "x-tok0n-charged", "x-tok0n-available")

_HEADERS: dict[str, dict[str, Any]] = {
    "x-request-id": {"description": "Quote it when you ask the operator.", "schema": {"type": "string"}},
    "x-ratelimit-limit-requests": {"description": "Requests per minute of this key.", "schema": COUNT},
    "x-ratelimit-remaining-requests": {"description": "How many of them are left now.", "schema": COUNT},
    "x-ratelimit-reset-requests": {
        "description": "How long until all of them are there again.",
        "schema": {"type": "string", "examples": ["6m0s", "1.5s", "20ms"]},
    },
    "x-tok0n-reserved": {"description": "Tokens reserved for this request.", "schema": COUNT},
    "x-tok0n-charged": {"description": "Tokens charged; the rest was released.", "schema": COUNT},
    "x-tok0n-available": {"description": "Tokens available after it.", "schema": COUNT},
    "openai-processing-ms": {"description": "Milliseconds from request to answer.", "schema": COUNT},
    "www-authenticate": {"description": "How to authenticate.", "schema": {"const": "Bearer"}},
    "x-should-retry": {
        "description": "Whether a retry could help; the official SDKs follow it.",
        "schema": {"enum": ["true", "false"]},
    },
    "retry-after": {
        "description": "Seconds to wait.",
        "schema": {"type": "integer", "minimum": 1, "maximum": RETRY_AFTER_SECONDS_MAX},
    },
    "retry-after-ms": {"description": "The same in milliseconds.", "schema": {"type": "integer", "minimum": 1}},
}

_WHEN: dict[str, tuple[str, tuple[str, ...]]] = {
    "invalid_request": ("The body, or a feature it asks for, is not valid. `param` names the field.", _RATE),
    "invalid_api_key": ("The key is missing, invalid or inactive.", ("www-authenticate",)),
    "insufficient_tokens": ("The account cannot cover the reservation.", (*_RATE, "x-should-retry")),
    "not_found": ("There is no such request in this account.", ()),
    "model_not_found": ("There is no such model here.", ()),
    "request_timeout": ("The request did not arrive in time.", (*_RATE, "x-should-retry")),
    "request_too_large": ("The body is too large.", (*_RATE, "x-should-retry")),
    "rate_limit_error": (
        "A limit refused: of the key, of concurrent requests, or of all requests together. The message says which.",
        (*_RATE, "retry-after", "retry-after-ms"),
    ),
    "headers_too_large": ("The request's headers are too large.", ()),
    "http_version_not_supported": ("The request is not HTTP/1.1.", ()),
    "api_error": ("The accounting could not be completed safely; nothing is charged.", (*_RATE, "x-should-retry")),
    "upstream_error": ("The upstream failed or answered nonsense; nothing is charged.", (*_RATE, "x-should-retry")),
    "rate_limit_unavailable": ("The limiter cannot be reached.", ("retry-after",)),
    "overloaded": ("The gateway is at its capacity.", (*_RATE, "retry-after")),
}
"""When each refusal is given, and the headers that may come with it."""

_HEAD_CODES = ("request_timeout", "headers_too_large", "http_version_not_supported")
_METERED_CODES = tuple(code for code in _WHEN if code not in {"model_not_found", "not_found"})


def openapi_route(prefix: str = "") -> Route:
    """GET /openapi.json. `prefix` is the path of the public URL."""
    body = _encoded(prefix)

    async def openapi(_: Request) -> Response:
        return Response(body, media_type="application/json")

    return Route("/openapi.json", openapi)


@functools.cache
def _encoded(prefix: str) -> bytes:
    return msgspec.json.encode(document(prefix))


def document(prefix: str = "") -> dict[str, Any]:
    """The OpenAPI 3.1 document. `prefix` is the path of the public URL."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tok0n",
            "version": __version__,
            "description": "A prepaid, OpenAI-compatible LLM gateway. Every token is reserved before a call, charged"
            " exactly as used, and accounted for.",
        },
        "servers": [{"url": prefix or "/"}],
        "paths": {
            **{endpoint.path: {"post": _metered(endpoint)} for endpoint in ENDPOINTS},
            "/v1/models": {"get": _list_models()},
            "/v1/models/{model}": {"get": _get_model()},
            "/v1/key": {"get": _of_account("getKey", "The API key that asks: its limits and what it spent", "Key")},
            "/v1/balance": {"get": _of_account("getBalance", "The balance of the account", "Balance")},
            "/v1/requests/{request_id}": {"get": _get_request()},
        },
        "components": {
            "securitySchemes": {"api_key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    }


def _metered(endpoint: Endpoint) -> dict[str, Any]:
    operation = endpoint.operation
    return {
        "operationId": operation.id,
        "summary": operation.summary,
        "security": [{"api_key": []}],
        "requestBody": {"required": True, "content": _json(operation.request_schema)},
        "responses": {
            "200": {
                "description": "The upstream's own answer, with `model` set to the public id. The charge is committed.",
                "headers": _headers("x-request-id", *_RATE, *_RECEIPT, "openai-processing-ms", required=True),
                "content": _json(operation.response_schema),
            },
            **_refusals(*_METERED_CODES),
        },
    }


def _list_models() -> dict[str, Any]:
    listing = {
        "type": "object",
        "required": ["object", "data"],
        "properties": {
            "object": {"const": "list"},
            "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
        },
    }
    return {
        "operationId": "listModels",
        "summary": "The models that can be called now",
        "responses": {
            "200": {
                "description": "The list.",
                "headers": _headers("x-request-id", required=True),
                "content": {"application/json": {"schema": listing}},
            },
            **_refusals(*_HEAD_CODES),
        },
    }


def _get_model() -> dict[str, Any]:
    return {
        "operationId": "getModel",
        "summary": "One model of the list",
        "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}],
        "responses": {
            "200": {
                "description": "The model.",
                "headers": _headers("x-request-id", required=True),
                "content": _json("Model"),
            },
            **_refusals("model_not_found", *_HEAD_CODES),
        },
    }


def _of_account(operation_id: str, summary: str, schema: str, *more_codes: str) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "security": [{"api_key": []}],
        "responses": {
            "200": {
                "description": "As it is now.",
                "headers": _headers("x-request-id", required=True) | _headers(*_RATE),
                "content": _json(schema),
            },
            **_refusals("invalid_api_key", "api_error", "overloaded", *more_codes, *_HEAD_CODES),
        },
    }


def _get_request() -> dict[str, Any]:
    name = {"name": "request_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    receipt = _of_account("getRequest", "The receipt of one request of the account", "Receipt", "not_found")
    return receipt | {"parameters": [name]}


def _refusals(*codes: str) -> dict[str, Any]:
    """The refusals by status: two codes can share one."""
    refusals: dict[str, Any] = {}
    for code in codes:
        when, headers = _WHEN[code]
        refusal = refusals.setdefault(
            str(TABLE[code][0]), {"description": "", "headers": {}, "content": _json("Error")}
        )
        refusal["description"] = f"{refusal['description']} `{code}`: {when}".strip()
        refusal["headers"] |= _headers("x-request-id", *headers)
    return refusals


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _headers(*names: str, required: bool = False) -> dict[str, Any]:
    return {name: _HEADERS[name] | ({"required": True} if required else {}) for name in names}
