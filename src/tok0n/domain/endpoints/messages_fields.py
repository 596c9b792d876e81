"""The fields of POST /v1/messages and POST /v1/messages/count_tokens.

`FIELDS` lists every documented field, accepted or not. The tables are the source of the checks, of an error's `param`
and of the OpenAPI schema. A field is accepted if it can't make the upstream do unbounded or separately billed work.

Sources: Anthropic API reference, "Create a Message" and "Count tokens in a Message" (anthropic-python 2.14.0,
`types/message_create_params.py` and `types/beta/message_create_params.py`); what Claude Code 2.1.197 and 2.1.332 send.
"""

import re
from collections.abc import Mapping
from typing import Any

from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.fields import (
    NAME_CHARACTERS_MAX,
    OTHER_FIELDS_NOTE,
    Array,
    Boolean,
    Custom,
    Field,
    Integer,
    NotServed,
    Number,
    Object,
    Only,
    OutputLimit,
    Path,
    Schema,
    Tagged,
    Text,
    TextOr,
    must,
    path_text,
    reject,
)
from tok0n.domain.endpoints.find_model import MODEL_ID

WORD_CHARACTERS_MAX = 512
MESSAGES_MAX = 100_000
"""The limit in Anthropic's API reference."""
BLOCKS_MAX = 10_000
STOP_SEQUENCES_MAX = 1_000
TOP_K_MAX = 1_000_000

NOT_PERMITTED = "Extra inputs are not permitted"
"""Anthropic's words for an unknown field. Claude Code recognizes them and goes on without the field."""

_TEXT = Text()
_WORD = Text(characters_max=WORD_CHARACTERS_MAX)
_OBJECT = Object()
_ANY = Field()


class Members(Object, frozen=True, kw_only=True):
    """An object that rejects an unknown member with Anthropic's words."""

    def _reject_unknown(self, value: Mapping[str, Any], param: Path, model: Model) -> None:
        for name, member in value.items():
            if name not in self.members and member is not None and self.extra + name not in model.extra_fields:
                path = path_text((param, name[:NAME_CHARACTERS_MAX]))
                reject(path, f"{path}: {NOT_PERMITTED}")


class MaxTokens(OutputLimit, frozen=True, kw_only=True):
    """The required output limit. Above the model's limit, the message is Anthropic's: Claude Code then adapts."""

    def check(self, value: Any, param: Path, model: Model) -> None:
        """Raise `InvalidRequest` unless `value` is a positive integer up to the model's limit."""
        if value is None:
            reject(param, "max_tokens is required: set it to the most tokens that the response may have.")
        if type(value) is int and value > model.max_output_tokens:
            reject(
                param,
                f"max_tokens: {value} > {model.max_output_tokens}, which is the maximum allowed number of output tokens"
                f" for {model.id}",
            )
        super().check(value, param, model)


class Source(Field, frozen=True, kw_only=True):
    """Where an image or a document comes from. Only inline sources have a bound."""

    kinds: tuple[str, ...]

    @property
    def expectation(self) -> str:
        """The kinds and the reason, for the error message."""
        kinds = " or ".join(map(repr, self.kinds))
        return f"be {kinds}: other sources can't be bounded, so send the data in the request"

    def check(self, value: Any, param: Path, model: Model) -> None:
        """Raise `InvalidRequest` unless the source has its data with it."""
        if type(value) is not dict:
            must(param, "be an object")
        if value.get("type") not in self.kinds:
            must((param, "type"), self.expectation)
        if type(value.get("data")) is not str:
            must((param, "data"), "be a string")

    def shape(self) -> Schema:
        """Return the JSON schema."""
        properties: Schema = {
            "type": {"enum": list(self.kinds)},
            "media_type": {"type": "string"},
            "data": {"type": "string"},
        }
        return {"type": "object", "required": ["type", "data"], "properties": properties}


def _object(**members: Field) -> Object:
    """Return an object kind with these required members. Other members are allowed."""
    return Object(members=members, required=frozenset(members))


MEDIA = {"image": "image_tokens_max", "document": "file_tokens_max"}
"""The blocks that cost a fixed maximum, and the model's setting that has it."""


def _block(required: Mapping[str, Field], **optional: Field) -> Members:
    members = {"type": _ANY, **required, "cache_control": _OBJECT, **optional}
    return Members(members=members, required=frozenset(required), extra="messages.content.")


_CITATIONS = {"citations": _ANY}
_TEXT_BLOCK = _block({"text": _TEXT}, **_CITATIONS)
_RESULTS: dict[str, Object] = {
    "text": _TEXT_BLOCK,
    "image": _block({"source": Source(kinds=("base64",))}, transformations=_OBJECT),
    "document": _block({"source": Source(kinds=("base64", "text"))}, title=_TEXT, context=_TEXT, **_CITATIONS),
    "search_result": _block(
        {
            "content": Array(items=Tagged(kinds={"text": _TEXT_BLOCK}, expected="text"), items_max=BLOCKS_MAX),
            "source": _TEXT,
            "title": _TEXT,
        },
        **_CITATIONS,
    ),
    "tool_reference": _block({"tool_name": _TEXT}),
}
"""The blocks of a tool's result."""

_CHANGE = _block(
    {
        "tool": Tagged(
            kinds={"tool_reference": _object(name=_TEXT)},
            expected="tool_reference. Define tools in the field tools",
        )
    }
)


def _blocks(kinds: Mapping[str, Object]) -> TextOr:
    block = Tagged(kinds=kinds, limits=MEDIA, expected=f"one of {', '.join(kinds)}")
    return TextOr(
        other=Array(items=block, items_max=BLOCKS_MAX, expected="a string or a list of blocks"),
        note="If the operator declares them for a model, it also accepts image and document blocks.",
    )


_SYSTEM_BLOCKS: dict[str, Object] = {"text": _TEXT_BLOCK, "tool_addition": _CHANGE, "tool_removal": _CHANGE}
_USE = {"id": _TEXT, "name": _TEXT, "input": _OBJECT}
_BLOCKS = _RESULTS | _SYSTEM_BLOCKS
_BLOCKS |= {
    "thinking": _block({"thinking": _TEXT}, signature=_TEXT),
    "redacted_thinking": _block({"data": _TEXT}),
    "tool_use": _block(_USE, caller=_OBJECT, toolset_name=_TEXT),
    "tool_result": _block({"tool_use_id": _TEXT}, content=_blocks(_RESULTS), is_error=Boolean(), toolset_name=_TEXT),
}


def _message(blocks: Mapping[str, Object]) -> Members:
    return Members(
        members={"role": _ANY, "content": _blocks(blocks)}, required=frozenset({"content"}), extra="messages."
    )


_TURN = _message(_BLOCKS)
ROLES = {"user": _TURN, "assistant": _TURN, "system": _message(_SYSTEM_BLOCKS)}
MESSAGE = Tagged(tag="role", kinds=ROLES, expected=f"one of {', '.join(ROLES)}")
MESSAGES = Array(
    items=MESSAGE,
    items_max=MESSAGES_MAX,
    expected="a list of at least one message",
    empty="be a list of at least one message",
)


def _check_edits(value: Any, param: Path) -> None:
    if type(value) is not dict:
        must(param, "be an object")
    if not value.keys() <= {"edits"}:
        name = next(name for name in value if name != "edits")[:NAME_CHARACTERS_MAX]
        reject(path_text((param, name)), f"{path_text((param, name))}: {NOT_PERMITTED}")
    edits = value.get("edits")
    if type(edits) is not list and edits is not None:
        must((param, "edits"), "be a list")
    for position, edit in enumerate(edits or ()):
        kind = edit.get("type") if type(edit) is dict else None
        if type(kind) is not str or not kind.startswith("clear_"):
            reason = "the tokens of other edits are not in the usage that providers report"
            must(((((param, "edits"), position)), "type"), f"start with clear_: {reason}")


_CONTEXT_MANAGEMENT = Custom(
    rule=_check_edits,
    json_schema={
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "edits": {
                "type": "array",
                "items": {"type": "object", "properties": {"type": {"type": "string", "pattern": "^clear_"}}},
            }
        },
    },
)
_TOOL = Members(
    members={
        "type": _WORD,
        "name": _TEXT,
        "description": _TEXT,
        "input_schema": _OBJECT,
        "cache_control": _OBJECT,
        "defer_loading": Boolean(),
        "strict": Boolean(),
        "eager_input_streaming": Boolean(),
        "input_examples": Array(),
        "allowed_callers": Array(
            items=Only(values=("direct",), reason="tools that the provider runs are not served"),
        ),
    },
    required=frozenset({"name", "input_schema"}),
    extra="tools.",
)
HOSTED_TOOL = re.compile(
    r"(?:web_search|web_fetch|code_execution|tool_search_tool|mcp_toolset|advisor)(?:_[a-z0-9_]{1,64})?"
)
"""The types of the tools that the provider runs: Anthropic's server tools. A response header may name them."""

TYPED_TOOL = re.compile(r"(?:bash|text_editor|memory|computer)_[0-9]{8}")
"""The types of the tools that the client runs and the provider describes."""

_TYPED_TOOL = _object(type=_WORD, name=_TEXT)


class Tool(Field, frozen=True, kw_only=True):
    """A tool. Without a type, it is the client's own."""

    def check(self, value: Any, param: Path, model: Model) -> None:
        """Raise `InvalidRequest` if the tool is invalid. Accepts hosted tools, which are dropped or rejected later."""
        kind = value.get("type") if type(value) is dict else None
        if kind is None or kind == "custom":
            _TOOL.check(value, param, model)
        elif type(kind) is str and TYPED_TOOL.fullmatch(kind):
            _TYPED_TOOL.check(value, param, model)
        elif type(kind) is not str or not HOSTED_TOOL.fullmatch(kind):
            must((param, "type"), "be custom, or bash, text_editor, memory or computer with its date")

    def shape(self) -> Schema:
        """Return the JSON schema."""
        own = _TOOL.shape()
        own["properties"] |= {"type": {"enum": ["custom", None]}}
        typed = {"type": {"type": "string", "pattern": f"^{TYPED_TOOL.pattern}$"}, "name": {"type": "string"}}
        return {"anyOf": [own, {"type": "object", "required": ["type", "name"], "properties": typed}]}


_THINKING = Object(members={"type": _WORD}, required=frozenset({"type"}))
_TOOL_CHOICE = Tagged(
    kinds={"auto": _OBJECT, "any": _OBJECT, "none": _OBJECT, "tool": _object(name=_TEXT)},
    expected="auto, any, tool or none",
)
_FORMAT = Object(members={"type": _WORD}, required=frozenset({"type"}))
_ELSEWHERE = NotServed(reason="it lets the provider store the request, link it to other data, or bill it elsewhere")
_RUNS = NotServed(reason="providers run it themselves and don't bill it by the token")

FIELDS: dict[str, Field] = {
    "model": MODEL_ID,
    "messages": MESSAGES,
    "max_tokens": MaxTokens(note="At most the model's `max_output_tokens`."),
    "billing_policy": _ELSEWHERE,
    "cache_control": _OBJECT,
    "compaction": NotServed(reason="its tokens are not in the usage that providers report"),
    "container": _RUNS,
    "context_management": _CONTEXT_MANAGEMENT,
    "diagnostics": _ELSEWHERE,
    "fallback_credit_token": NotServed(reason="it changes the provider's price"),
    "fallbacks": NotServed(reason="a request must run on the model that it names"),
    "inference_geo": NotServed(reason="it changes the provider's price"),
    "mcp_servers": _RUNS,
    "metadata": Members(members={"user_id": _TEXT}, extra="metadata."),
    "output_config": Members(
        members={"effort": _WORD, "format": _FORMAT, "task_budget": _OBJECT}, extra="output_config."
    ),
    "output_format": _FORMAT,
    "service_tier": Only(values=("auto", "standard_only"), reason="other tiers have other prices"),
    "speed": Only(values=("standard",), reason="other speeds have other prices"),
    "stop_sequences": Array(items=_TEXT, items_max=STOP_SEQUENCES_MAX),
    "stream": Only(values=(False,), reason="this gateway doesn't stream responses"),
    "system": TextOr(
        other=Array(
            items=Tagged(kinds={"text": _TEXT_BLOCK}, expected="text"),
            items_max=BLOCKS_MAX,
            expected="a string or a list of text blocks",
        )
    ),
    "temperature": Number(low=0, high=1),
    "thinking": _THINKING,
    "thread": _ELSEWHERE,
    "tool_choice": _TOOL_CHOICE,
    "tools": Array(items=Tool(), limit="tools_max", note="The operator may allow more tools for a model."),
    "top_k": Integer(low=0, high=TOP_K_MAX),
    "top_p": Number(low=0, high=1),
    "user_profile_id": _ELSEWHERE,
    "workspace_id": _ELSEWHERE,
}
"""Every documented field. Null means absent, except for required fields."""

STREAM = Boolean(note="`true` needs a model that streams. `GET /v1/models` lists them with `streams`.")
"""What replaces `stream` if the gateway streams."""

_NOT_IN_COUNT_TOKENS = frozenset(
    {"max_tokens", "metadata", "service_tier", "stop_sequences", "stream", "temperature", "top_k", "top_p"}
)
COUNT_FIELDS = {name: field for name, field in FIELDS.items() if name not in _NOT_IN_COUNT_TOKENS}
"""The fields of POST /v1/messages/count_tokens."""

DEFINITION_FIELDS = frozenset({"tools", "output_config", "output_format", "tool_choice"})
"""The fields that define tools and formats. Providers render their JSON into the prompt, so its bytes count."""

REQUIRED = frozenset({"model", "messages", "max_tokens"})

BODY = Object(
    members=FIELDS,
    required=REQUIRED,
    note=OTHER_FIELDS_NOTE,
)
COUNT_BODY = Object(members=COUNT_FIELDS, required=REQUIRED - {"max_tokens"}, note=BODY.note)
