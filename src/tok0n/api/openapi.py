"""The OpenAPI document of /v1, served at /openapi.json: operations, errors and headers."""

import functools
from collections.abc import Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n import __version__
from tok0n.api.account_bodies import RECEIPTS
from tok0n.api.account_queries import LIMIT_DEFAULT, LIMIT_MAX
from tok0n.api.errors import RETRY_AFTER_SECONDS_MAX, STATUSES
from tok0n.api.openapi_schemas import schemas
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.endpoints.fields import COUNT
from tok0n.domain.history import UseBy
from tok0n.domain.rejections import REQUEST_STATUSES

_RATE = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests")
_RECEIPT_HEADERS = ("x-tok0n-charged", "x-tok0n-available", "openai-processing-ms")
_EVENTS = "Server-sent events, if the request has `stream: true`. Before the last event, the charge is committed."

_HEADERS: dict[str, dict[str, Any]] = {
    "x-request-id": {
        "description": "The ID of the request. Include it when you contact support.",
        "schema": {"type": "string"},
    },
    "x-ratelimit-limit-requests": {"description": "The key's limit in requests per minute.", "schema": COUNT},
    "x-ratelimit-remaining-requests": {"description": "The requests that the key can send now.", "schema": COUNT},
    "x-ratelimit-reset-requests": {
        "description": "The time until the key can send its full limit again.",
        "schema": {"type": "string", "examples": ["6m0s", "1.5s", "20ms"]},
    },
    "x-tok0n-reserved": {"description": "The tokens reserved for this request.", "schema": COUNT},
    "x-tok0n-charged": {
        "description": "The tokens charged. The rest of the reservation was released.",
        "schema": COUNT,
    },
    "x-tok0n-available": {"description": "The tokens available after this request.", "schema": COUNT},
    "openai-processing-ms": {"description": "Milliseconds from the request to the response.", "schema": COUNT},
    "www-authenticate": {"description": "The authentication scheme.", "schema": {"const": "Bearer"}},
    "x-should-retry": {
        "description": "Whether a retry can succeed. The official SDKs obey it.",
        "schema": {"enum": ["true", "false"]},
    },
    "retry-after": {
        "description": "Seconds to wait before a retry.",
        "schema": {"type": "integer", "minimum": 1, "maximum": RETRY_AFTER_SECONDS_MAX},
    },
    "retry-after-ms": {
        "description": "Milliseconds to wait before a retry.",
        "schema": {"type": "integer", "minimum": 1},
    },
}

_ERRORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "invalid_request": ("The body is invalid, or uses an unsupported field. `param` names the field.", _RATE),
    "invalid_api_key": (
        "The API key is missing, malformed, unknown, disabled, expired or revoked, or its account is closed.",
        ("www-authenticate", "x-should-retry"),
    ),
    "account_suspended": ("The operator has suspended the account.", ("www-authenticate", "x-should-retry")),
    "insufficient_tokens": ("The balance or the key's budget can't cover the reservation.", (*_RATE, "x-should-retry")),
    "key_not_allowed": (
        "The API key may not be used from this network, on this endpoint or with this model. `param` says which.",
        (*_RATE, "x-should-retry"),
    ),
    "not_found": ("The account has no such request.", ()),
    "model_not_found": ("The model is not available.", ()),
    "request_timeout": ("The complete request didn't arrive in time.", (*_RATE, "x-should-retry")),
    "request_too_large": ("The body is too large.", (*_RATE, "x-should-retry")),
    "rate_limit_error": (
        "The key, concurrency or global limit is reached. The message names the limit.",
        (*_RATE, "retry-after", "retry-after-ms"),
    ),
    "headers_too_large": ("The request's headers are too large.", ()),
    "http_version_not_supported": ("The request is not HTTP/1.1.", ()),
    "api_error": (
        "The gateway couldn't record the request in the ledger. Nothing is charged.",
        (*_RATE, "x-should-retry"),
    ),
    "upstream_error": (
        "The upstream failed or returned an invalid response. Nothing is charged.",
        (*_RATE, "x-should-retry"),
    ),
    "rate_limit_unavailable": ("The rate limiter is unavailable.", ("retry-after",)),
    "overloaded": ("The gateway is overloaded.", (*_RATE, "retry-after")),
}
"""The cause of each error code, and the headers that the response can have."""

_TIME = {
    "type": "string",
    "description": "A time in ISO 8601, in UTC unless it has an offset, or in seconds since the Unix epoch.",
}
_CODES_OF_ANY_REQUEST = ("request_timeout", "headers_too_large", "http_version_not_supported")
_METERED_CODES = tuple(code for code in _ERRORS if code not in {"model_not_found", "not_found"})


def openapi_route(prefix: str, endpoints: Sequence[Endpoint], *, is_streaming: bool = False) -> Route:
    """Return the route of GET /openapi.json. `prefix` is the path of the public URL."""
    body = _encoded(prefix, tuple(endpoints), is_streaming=is_streaming)

    async def openapi(_: Request) -> Response:
        return Response(body, media_type="application/json")

    return Route("/openapi.json", openapi)


@functools.cache
def _encoded(prefix: str, endpoints: tuple[Endpoint, ...], *, is_streaming: bool) -> bytes:
    return msgspec.json.encode(document(prefix, endpoints, is_streaming=is_streaming))


def document(
    prefix: str = "", endpoints: Sequence[Endpoint] = (CHAT,), *, is_streaming: bool = False
) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of the served endpoints.

    `prefix` is the path of the public URL. `is_streaming`: the gateway streams.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tok0n",
            "version": __version__,
            "description": "A prepaid, OpenAI-compatible LLM gateway. Tokens are reserved before each request,"
            " charged exactly as reported by the model, and released if they are not used.",
        },
        "servers": [{"url": prefix or "/"}],
        "paths": {
            **{endpoint.path: {"post": _metered(endpoint, is_streaming=is_streaming)} for endpoint in endpoints},
            "/v1/models": {"get": _list_models()},
            "/v1/models/{model}": {"get": _get_model()},
            "/v1/key": {
                "get": _account_operation(
                    "getKey", "Get the API key of the request, its limits and its spent tokens", "Key"
                )
            },
            "/v1/balance": {"get": _account_operation("getBalance", "Get the balance of the account", "Balance")},
            "/v1/requests": {"get": _list_requests()},
            "/v1/requests/{request_id}": {"get": _get_request()},
            "/v1/usage": {"get": _list_usage()},
        },
        "components": {
            "securitySchemes": {"api_key": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(endpoints, is_streaming=is_streaming),
        },
    }


def _metered(endpoint: Endpoint, *, is_streaming: bool) -> dict[str, Any]:
    operation = endpoint.operation
    streams = is_streaming and endpoint.read_stream is not None
    headers = _headers("x-request-id", *_RATE, "x-tok0n-reserved", required=True)
    headers |= _headers(*_RECEIPT_HEADERS, required=not streams)
    events = {"text/event-stream": {"schema": {"type": "string", "description": _EVENTS}}} if streams else {}
    return {
        "operationId": operation.id,
        "summary": operation.summary,
        "security": [{"api_key": []}],
        "requestBody": {"required": True, "content": _json(operation.request_schema)},
        "responses": {
            "200": {
                "description": "The upstream's response, with `model` set to the public ID. The charge is committed.",
                "headers": headers,
                "content": _json(operation.response_schema) | events,
            },
            **_errors(*_METERED_CODES),
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
        "summary": "List the available models",
        "responses": {
            "200": {
                "description": "The available models.",
                "headers": _headers("x-request-id", required=True),
                "content": {"application/json": {"schema": listing}},
            },
            **_errors(*_CODES_OF_ANY_REQUEST),
        },
    }


def _get_model() -> dict[str, Any]:
    return {
        "operationId": "getModel",
        "summary": "Get an available model",
        "parameters": [{"name": "model", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}],
        "responses": {
            "200": {
                "description": "The model.",
                "headers": _headers("x-request-id", required=True),
                "content": _json("Model"),
            },
            **_errors("model_not_found", *_CODES_OF_ANY_REQUEST),
        },
    }


def _account_operation(operation_id: str, summary: str, schema: str, *more_codes: str) -> dict[str, Any]:
    return {
        "operationId": operation_id,
        "summary": summary,
        "security": [{"api_key": []}],
        "responses": {
            "200": {
                "description": "The current state.",
                "headers": _headers("x-request-id", required=True) | _headers(*_RATE),
                "content": _json(schema),
            },
            **_errors(
                "invalid_api_key",
                "account_suspended",
                "key_not_allowed",
                "api_error",
                "overloaded",
                *more_codes,
                *_CODES_OF_ANY_REQUEST,
            ),
        },
    }


def _get_request() -> dict[str, Any]:
    name = {"name": "request_id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    receipt = _account_operation("getRequest", "Get the receipt of a request of the account", "Receipt", "not_found")
    receipt["responses"]["200"]["content"] = {"application/json": {"schema": {"anyOf": RECEIPTS}}}
    return receipt | {"parameters": [name]}


def _list_requests() -> dict[str, Any]:
    listing = _account_operation("listRequests", "List the requests of the account", "RequestList", "invalid_request")
    limit = {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}
    schemas: dict[str, dict[str, Any]] = {
        "status": {"enum": list(REQUEST_STATUSES)},
        "model": {"type": "string"},
        "since": _TIME,
        "until": _TIME,
        "limit": limit,
        "after": {"type": "string", "description": "The `last_id` of the page before."},
    }
    return listing | {"parameters": _query(schemas)}


def _list_usage() -> dict[str, Any]:
    listing = _account_operation(
        "listUsage", "List the usage of the account by UTC day", "UsageList", "invalid_request"
    )
    schemas: dict[str, dict[str, Any]] = {
        "bucket": {"enum": ["day"], "default": "day"},
        "group_by": {"enum": [str(by) for by in UseBy]},
        "since": _TIME,
        "until": _TIME,
    }
    return listing | {"parameters": _query(schemas)}


def _query(schemas: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": name, "in": "query", "schema": schema} for name, schema in schemas.items()]


def _errors(*codes: str) -> dict[str, Any]:
    """Return the error responses by status. Codes with the same status share a response."""
    responses: dict[str, Any] = {}
    for code in codes:
        cause, headers = _ERRORS[code]
        response = responses.setdefault(
            str(STATUSES[code]), {"description": "", "headers": {}, "content": _json("Error")}
        )
        response["description"] = f"{response['description']} `{code}`: {cause}".strip()
        response["headers"] |= _headers("x-request-id", *headers)
    return responses


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _headers(*names: str, required: bool = False) -> dict[str, Any]:
    return {name: _HEADERS[name] | ({"required": True} if required else {}) for name in names}
