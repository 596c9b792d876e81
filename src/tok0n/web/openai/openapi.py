"""The OpenAPI document of /v1, served at /openapi.json. A test compares its fields with those that are accepted."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tok0n import __version__
from tok0n.domain.chat_fields import CHOICES_MAX, STOPS_MAX, TOOLS_MAX, WORD_CHARACTERS_MAX
from tok0n.domain.usage import TOKENS_MAX
from tok0n.web.openai.errors import TABLE

_WORD = {"type": ["string", "null"], "maxLength": WORD_CHARACTERS_MAX}
_BOOLEAN = {"type": ["boolean", "null"]}
_PENALTY = {"type": ["number", "null"], "minimum": -2, "maximum": 2}
_COUNT = {"type": "integer", "minimum": 0, "maximum": TOKENS_MAX}
_NAME = {"type": "string", "maxLength": WORD_CHARACTERS_MAX}


def openapi_route() -> Route:
    """GET /openapi.json."""
    body = msgspec.json.encode(document())

    async def openapi(_: Request) -> Response:
        return Response(body, media_type="application/json")

    return Route("/openapi.json", openapi)


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Tok0n",
            "version": __version__,
            "description": "A prepaid, OpenAI-compatible LLM gateway. Every token is reserved before a call, charged"
            " exactly as used, and accounted for.",
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/v1/chat/completions": {"post": _chat()},
            "/v1/models": {"get": _list_models()},
            "/v1/models/{model}": {"get": _get_model()},
        },
        "components": {
            "securitySchemes": {"api_key": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "ChatRequest": _chat_request(),
                "Message": _message(),
                "Completion": _completion(),
                "Model": _model(),
                "Error": _error_schema(),
            },
        },
    }


def _chat() -> dict[str, Any]:
    codes = ("invalid_request", "invalid_api_key", "insufficient_tokens", "request_timeout", "request_too_large")
    later = ("rate_limit_error", "api_error", "upstream_error", "overloaded")
    return {
        "operationId": "createChatCompletion",
        "summary": "Create a chat completion (whole answers only)",
        "security": [{"api_key": []}],
        "requestBody": {"required": True, "content": _json("ChatRequest")},
        "responses": {
            "200": {
                "description": "The upstream's answer; the charge is committed.",
                "headers": _headers(
                    "x-request-id",
                    "x-ratelimit-limit-requests",
                    "x-ratelimit-remaining-requests",
                    "x-ratelimit-reset-requests",
                    "x-tok0n-reserved",
                    "x-tok0n-charged",
                    "x-tok0n-available",
                    "openai-processing-ms",
                ),
                "content": _json("Completion"),
            },
            **{str(TABLE[code][0]): _refusal(code) for code in (*codes, *later)},
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
                "headers": _headers("x-request-id"),
                "content": {"application/json": {"schema": listing}},
            }
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
                "headers": _headers("x-request-id"),
                "content": _json("Model"),
            },
            "404": _refusal("model_not_found"),
        },
    }


def _chat_request() -> dict[str, Any]:
    tool = {
        "type": "object",
        "required": ["type", "function"],
        "properties": {
            "type": {"const": "function"},
            "function": {"type": "object", "required": ["name"], "properties": {"name": _NAME}},
        },
    }
    limit = {"type": ["integer", "null"], "minimum": 1}
    return {
        "type": "object",
        "required": ["model", "messages"],
        "additionalProperties": False,
        "properties": {
            "model": {"type": "string", "minLength": 1, "maxLength": 256},
            "messages": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Message"}},
            "max_completion_tokens": limit,
            "max_tokens": limit | {"description": "The older spelling; when both are given they must be equal."},
            "n": {"type": ["integer", "null"], "minimum": 1, "maximum": CHOICES_MAX},
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
            "seed": {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1},
            "stop": {
                "anyOf": [
                    {"type": ["string", "null"]},
                    {"type": "array", "maxItems": STOPS_MAX, "items": {"type": "string"}},
                ]
            },
            "response_format": {
                "type": ["object", "null"],
                "required": ["type"],
                "properties": {"type": {"enum": ["text", "json_object"]}},
            },
            "tools": {"type": ["array", "null"], "maxItems": TOOLS_MAX, "items": tool},
            "tool_choice": {"enum": ["none", "auto", "required", None]},
            "parallel_tool_calls": _BOOLEAN,
            "functions": {
                "type": ["array", "null"],
                "maxItems": TOOLS_MAX,
                "items": {"type": "object", "required": ["name"], "properties": {"name": _NAME}},
            },
            "function_call": {"enum": ["none", "auto", None]},
            "prediction": {
                "type": ["object", "null"],
                "required": ["type", "content"],
                "additionalProperties": False,
                "properties": {"type": {"const": "content"}, "content": {"type": "string"}},
            },
            "modalities": {"enum": [["text"], None]},
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
            "reasoning_effort": _WORD,
            "verbosity": _WORD,
            "service_tier": {"enum": ["auto", "default", None]},
            "store": {"enum": [False, None]},
            "stream": {"enum": [False, None], "description": "Only whole answers are served."},
        },
    }


def _message() -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["role", "content"],
        "additionalProperties": False,
        "properties": {
            "role": {"enum": ["developer", "system", "user", "assistant"]},
            "content": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "required": ["type", "text"],
                            "additionalProperties": False,
                            "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                        },
                    },
                ]
            },
            "name": _NAME,
        },
    }


def _completion() -> dict[str, Any]:
    usage = {
        "type": "object",
        "required": ["prompt_tokens", "completion_tokens", "total_tokens"],
        "properties": {"prompt_tokens": _COUNT, "completion_tokens": _COUNT, "total_tokens": _COUNT},
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


def _error_schema() -> dict[str, Any]:
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


def _refusal(code: str) -> dict[str, Any]:
    return {"description": code, "headers": _headers("x-request-id"), "content": _json("Error")}


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _headers(*names: str) -> dict[str, Any]:
    return {name: {"schema": {"type": "string"}} for name in names}
