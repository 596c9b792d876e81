"""The fields of POST /v1/responses.

`FIELDS` lists every documented field, accepted or not, except those of `REJECTED_UNLESS_ALLOWED`, and what Codex sends
beyond the documentation. As in `chat_fields`, a field is accepted if it can't make the upstream do unbounded or
separately billed work. Nothing is stored at the provider, so a field that refers to something stored is rejected.

Sources: OpenAI API reference, "Create a model response" (openai-python 3.54, `response_create_params.py`); what Codex
0.171.0 sends.
"""

from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec

from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.chat_fields import FIELDS as CHAT_FIELDS
from tok0n.domain.endpoints.fields import (
    OTHER_FIELDS_NOTE,
    Array,
    Boolean,
    Check,
    Field,
    Integer,
    NotServed,
    Object,
    Only,
    OutputLimit,
    Tagged,
    TextOr,
    reject,
    reject_unknown,
)
from tok0n.domain.endpoints.find_model import MODEL_ID
from tok0n.domain.endpoints.responses_items import HOSTED, INPUT, OBJECT, STORED, TEXT, TOOL_CHOICE, TOOLS, WORD

LIMIT_FIELD = "max_output_tokens"
"""The name of the output limit, for customers and for upstreams."""

_FORMAT = Tagged(
    kinds={
        "text": OBJECT,
        "json_object": OBJECT,
        "json_schema": Object(members={"name": WORD, "schema": OBJECT}, required=frozenset({"name", "schema"})),
    },
    expected="text, json_object or json_schema",
)
_REASONING = Object(
    members={
        "effort": WORD,
        "summary": WORD,
        "generate_summary": WORD,
        "context": WORD,
        "mode": Only(values=("standard",), reason="other modes can use more tokens than the output limit"),
    },
    extra="reasoning.",
)
_INCLUDED = Only(
    values=("reasoning.encrypted_content", "message.output_text.logprobs", "message.input_image.image_url"),
    reason=HOSTED,
)
FIELDS: dict[str, Field] = {
    "model": MODEL_ID,
    "input": INPUT,
    "background": Only(values=(False,), reason="nobody waits for the response, so nothing can be billed"),
    "client_metadata": Object(note="Accepted from Codex, and not sent to the provider."),
    "conversation": NotServed(reason=STORED),
    "include": Array(items=_INCLUDED, items_max=100),
    "instructions": TEXT,
    LIMIT_FIELD: OutputLimit(note="At most the model's `max_output_tokens`."),
    "max_tool_calls": Integer(low=1, high=2**31 - 1),
    "metadata": CHAT_FIELDS["metadata"],
    "parallel_tool_calls": CHAT_FIELDS["parallel_tool_calls"],
    "previous_response_id": NotServed(reason=f"{STORED}. Send the earlier items in input"),
    "prompt": NotServed(reason=f"{STORED}. Send its text in instructions or input"),
    "prompt_cache_key": CHAT_FIELDS["prompt_cache_key"],
    "prompt_cache_retention": CHAT_FIELDS["prompt_cache_retention"],
    "reasoning": _REASONING,
    "safety_identifier": CHAT_FIELDS["safety_identifier"],
    "service_tier": CHAT_FIELDS["service_tier"],
    "store": Only(values=(False,), reason="providers must not store your content. Tok0n always sends false"),
    "stream": CHAT_FIELDS["stream"],
    "stream_options": CHAT_FIELDS["stream_options"],
    "temperature": CHAT_FIELDS["temperature"],
    "text": Object(members={"format": _FORMAT, "verbosity": WORD}, extra="text."),
    "tool_choice": TextOr(other=TOOL_CHOICE, examples=("none", "auto", "required")),
    "tools": TOOLS,
    "top_logprobs": CHAT_FIELDS["top_logprobs"],
    "top_p": CHAT_FIELDS["top_p"],
    "truncation": WORD,
    "user": CHAT_FIELDS["user"],
}
"""Every documented field except those of `REJECTED_UNLESS_ALLOWED`. Null means absent, except for required fields."""

STREAMING_OVERRIDES: dict[str, Field] = {
    "stream": Boolean(note="`true` needs a model that streams on this endpoint. `GET /v1/models` lists them."),
    "stream_options": Object(
        members={"include_obfuscation": Boolean(note="Passed on to the provider.")},
        extra="stream_options.",
        note="Only with `stream: true`.",
    ),
}
"""What replaces the same fields of `FIELDS` if the gateway streams."""

BODY = Object(
    members=FIELDS,
    required=frozenset({"model", "input"}),
    note=OTHER_FIELDS_NOTE,
)

REJECTED_UNLESS_ALLOWED = {
    "access_programs": "it depends on the operator's account with the provider",
    "background_options": "responses don't run in the background",
    "context_management": "providers may not report the tokens of a compaction",
    "image": "it changes what an image costs",
    "moderation": "it makes the provider do work that is not part of the response",
    "prompt_cache_options": "providers can charge for writing their cache",
}
"""Documented fields that are rejected unless the operator allows them in a model's `extra_fields`."""

_UNKNOWN = Field().check
_CHECKS: dict[str, Check | None] = {name: field.check for name, field in FIELDS.items()} | {"model": None}
_STREAMING_CHECKS = _CHECKS | {name: field.check for name, field in STREAMING_OVERRIDES.items()}


def check_fields(
    values: Mapping[str, Any], raw: dict[str, msgspec.Raw], model: Model, *, is_streaming: bool = False
) -> int:
    """Check all fields except the model. Returns the bytes of the `extra_fields`.

    Removes an unknown field that is null from `raw`, so that no upstream rejects it.
    """
    checks = _STREAMING_CHECKS if is_streaming else _CHECKS
    FIELDS["input"].check(values.get("input"), "input", model)
    extra_bytes = 0
    for name, value in values.items():
        check = checks.get(name, _UNKNOWN)
        if check is not _UNKNOWN:
            if check is not None and value is not None and name != "input":
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
