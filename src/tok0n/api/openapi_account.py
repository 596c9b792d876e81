"""The part of the OpenAPI document that tells what a program can ask about its own account."""

from tok0n.domain.usage import TOKENS_MAX

_COUNT = {"type": "integer", "minimum": 0, "maximum": TOKENS_MAX}
_OR_NULL = {"type": ["integer", "null"], "minimum": 0}
_TEXT = {"type": "string"}
_TEXT_OR_NULL = {"type": ["string", "null"]}

KEY = {
    "type": "object",
    "required": ["object", "id", "name", "shown_as", "created_at", "expires_at", "models", "budget", "spent"],
    "additionalProperties": False,
    "properties": {
        "object": {"const": "key"},
        "id": _TEXT,
        "name": _TEXT,
        "shown_as": {"type": "string", "description": "Its first and last characters; never the key."},
        "created_at": {"type": "integer", "description": "Seconds since the Unix epoch."},
        "expires_at": {"type": ["integer", "null"], "description": "When it stops working; null is never."},
        "models": {"type": ["array", "null"], "items": _TEXT, "description": "What it may call; null is all."},
        "budget": {"type": ["integer", "null"], "description": "What it may spend in all; null is without limit."},
        "spent": _COUNT,
    },
}
BALANCE = {
    "type": "object",
    "required": ["object", "posted", "pending", "available"],
    "additionalProperties": False,
    "properties": {
        "object": {"const": "balance"},
        "posted": _COUNT | {"description": "The tokens that the account owns."},
        "pending": _COUNT | {"description": "The tokens that calls in flight have reserved."},
        "available": _COUNT | {"description": "What a new call can reserve."},
    },
}
_USAGE = {
    "type": ["object", "null"],
    "required": ["prompt_tokens", "completion_tokens", "total_tokens", "details"],
    "additionalProperties": False,
    "properties": {
        "prompt_tokens": _COUNT,
        "completion_tokens": _COUNT,
        "total_tokens": _COUNT,
        "details": {"type": "object", "additionalProperties": _COUNT},
    },
}
RECEIPT = {
    "type": "object",
    "required": ["object", "id", "api_key_id", "model", "status", "billed", "reserved", "charged", "released", "usage"],
    "additionalProperties": False,
    "properties": {
        "object": {"const": "request"},
        "id": _TEXT,
        "api_key_id": _TEXT,
        "model": _TEXT,
        "status": {"enum": ["pending", "settled", "released", "expired"]},
        "billed": {"type": "boolean"},
        "code": _TEXT_OR_NULL | {"description": "Why it was not billed, in the words of the error table."},
        "reserved": _COUNT,
        "charged": _COUNT,
        "released": _COUNT,
        "usage": _USAGE,
        "upstream_ms": _OR_NULL,
        "created_at": {"type": "number", "description": "Seconds since the Unix epoch."},
        "resolved_at": {"type": ["number", "null"]},
    },
}
