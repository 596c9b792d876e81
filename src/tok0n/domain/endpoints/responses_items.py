"""The input items, content parts and tools of POST /v1/responses, and how much a request counts in the bound.

Clients send items back as they received them, so the tables include the members that providers add. An item that only
refers to something stored at the provider is rejected, and so is an item of a tool that isn't served.

Sources: OpenAI API reference, "Create a model response" (openai-python 3.54, `response_input_item_param.py`); what
Codex 0.171.0 sends.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from tok0n.domain.bound import TextSize, definition_size
from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.fields import (
    Array,
    Boolean,
    Field,
    NotServed,
    Object,
    Only,
    Path,
    Tagged,
    Text,
    TextOr,
    must,
    path_text,
    reject,
)
from tok0n.domain.endpoints.hosted_tools import TOOL_ITEMS, count_tools, is_hosted

WORD_CHARACTERS_MAX = 512
ITEMS_MAX = 10_000
PARTS_MAX = 10_000

DEFINITION_FIELDS = ("tools", "text", "tool_choice")
"""The fields that define tools and formats. Providers render their JSON into the prompt, so its bytes count."""

HOSTED = "providers don't bill their own tools by the token"
STORED = "nothing is stored at the provider"

TEXT = Text()
WORD = Text(characters_max=WORD_CHARACTERS_MAX)
OBJECT = Object()
_LIST = Array(items_max=PARTS_MAX)
_OBJECT_WITH_NAME = Object(members={"name": WORD}, required=frozenset({"name"}))


class _Tool(Tagged, frozen=True, kw_only=True):
    """A tool of a request. Hosted tools pass unchecked, because they are dropped or rejected later."""

    def check(self, value: Any, param: Path, model: Model) -> None:
        if not is_hosted(value):
            super().check(value, param, model)


class _Item(Tagged, frozen=True, kw_only=True):
    """An input item. `not_served` maps the documented types that are always rejected to the reason."""

    not_served: Mapping[str, str]

    def check(self, value: Any, param: Path, model: Model) -> None:
        if type(value) is not dict:
            must(param, "be an object")
        kind = value.get(self.tag)
        if kind is None and "role" not in value:
            must(param, "have a type, or the role of a message. References to stored items are not supported")
        if type(kind) is str and kind in self.not_served:
            path = path_text((param, self.tag))
            reject(path, f"{path} {kind} is not supported: {self.not_served[kind]}.")
        super().check(value, param, model)


_INNER_TOOL = _Tool(kinds={"function": _OBJECT_WITH_NAME, "custom": _OBJECT_WITH_NAME}, expected="function or custom")
_TOOL = _Tool(
    kinds={
        "function": _OBJECT_WITH_NAME,
        "custom": _OBJECT_WITH_NAME,
        "namespace": Object(
            members={"name": WORD, "tools": Array(items=_INNER_TOOL, limit="tools_max")},
            required=frozenset({"name", "tools"}),
        ),
        "tool_search": Object(members={"execution": Only(values=("client",), reason=HOSTED)}),
    },
    expected=f"function, custom, namespace, or tool_search with execution client: {HOSTED}",
)
TOOLS = Array(
    items=_TOOL,
    limit="tools_max",
    note="Tools that the provider would run itself are dropped or rejected. The operator may allow more tools.",
)
TOOL_CHOICE = Tagged(
    kinds={
        "function": _OBJECT_WITH_NAME,
        "custom": _OBJECT_WITH_NAME,
        "allowed_tools": Object(
            members={
                "tools": Array(
                    items=Tagged(
                        kinds=dict.fromkeys(("function", "custom", "namespace"), OBJECT),
                        expected=f"function, custom or namespace: {HOSTED}",
                    ),
                    items_max=PARTS_MAX,
                )
            },
            required=frozenset({"tools"}),
        ),
    },
    expected=f"function, custom or allowed_tools: {HOSTED}",
)

_MEDIA = {"input_image": ("image_url", "image_tokens_max"), "input_file": ("file_data", "file_tokens_max")}
"""The content parts that cost a fixed maximum: the member with the data, and the model's setting with the maximum."""


def _part(required: str, value: Field = TEXT, **optional: Field) -> Object:
    members = {"type": Field(), required: value, **optional}
    return Object(members=members, required=frozenset({required}), extra="input.content.")


_NOT_SERVED = {
    "file_id": NotServed(reason=f"{STORED}. Send the data itself"),
    "file_url": NotServed(reason="the size of the file isn't known before the call. Send it as file_data"),
}
_PARTS = {
    "input_text": _part("text"),
    "output_text": _part("text", annotations=_LIST, logprobs=_LIST),
    "refusal": _part("refusal"),
    "input_image": _part("image_url", detail=WORD),
    "input_file": _part("file_data", filename=TEXT, detail=WORD),
}


class _Part(Tagged, frozen=True, kw_only=True):
    """A content part. A part that refers to a stored file says so, though it lacks the data that is required."""

    def check(self, value: Any, param: Path, model: Model) -> None:
        if type(value) is dict:
            if len(value) == 2 and value.get("type") == "input_text" and type(value.get("text")) is str:
                return  # the most common part skips the tables for speed
            for name in _NOT_SERVED.keys() & value.keys():
                if value[name] is not None:
                    _NOT_SERVED[name].check(value[name], (param, name), model)
        super().check(value, param, model)


_CONTENT = TextOr(
    other=Array(
        items=_Part(
            kinds=_PARTS,
            limits={kind: setting for kind, (_, setting) in _MEDIA.items()},
            expected=f"one of {', '.join(_PARTS)}",
        ),
        items_max=PARTS_MAX,
        expected="a string or a list of parts",
    ),
    note="If the operator declares them for a model, it also accepts input_image and input_file parts.",
)


def _item(required: Mapping[str, Field], **optional: Field) -> Object:
    shared: dict[str, Field] = {"type": Field(), "id": TEXT, "status": WORD, "created_by": TEXT}
    return Object(members={**shared, **required, **optional}, required=frozenset(required), extra="input.")


def _call(argument: str, **optional: Field) -> Object:
    required = {"call_id": TEXT, "name": TEXT, argument: TEXT}
    return _item(required, **{"namespace": TEXT, "caller": OBJECT, "async": Boolean()}, **optional)


def _texts(kind: str) -> Array:
    return Array(items=Tagged(kinds={kind: _part("text")}, expected=kind), items_max=PARTS_MAX)


_ROLE = Only(values=("user", "assistant", "system", "developer"), reason="messages have no other roles")
_CLIENT = Only(values=("client",), reason=HOSTED)
_ITEMS = {
    "message": _item({"role": _ROLE, "content": _CONTENT}, phase=WORD),
    "reasoning": _item({}, summary=_texts("summary_text"), content=_texts("reasoning_text"), encrypted_content=TEXT),
    "function_call": _call("arguments"),
    "function_call_output": _item({"output": _CONTENT}, call_id=TEXT, name=TEXT, namespace=TEXT, caller=OBJECT),
    "custom_tool_call": _call("input"),
    "custom_tool_call_output": _item({"call_id": TEXT, "output": _CONTENT}, name=TEXT, namespace=TEXT, caller=OBJECT),
    "tool_search_call": _item({"execution": _CLIENT}, call_id=TEXT, arguments=Field()),
    "tool_search_output": _item({"execution": _CLIENT, "tools": TOOLS}, call_id=TEXT),
    "additional_tools": _item({"tools": TOOLS}, role=_ROLE),
    "compaction": _item({"encrypted_content": TEXT}),
    "configuration_update": _item({}, reasoning=OBJECT, text=OBJECT),
}
_HOSTED_ITEMS = (
    "file_search_call",
    "computer_call",
    "computer_call_output",
    "web_search_call",
    "image_generation_call",
    "code_interpreter_call",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "program",
    "program_output",
)
_TYPED_ITEMS = (
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
)
ITEM = _Item(
    kinds=_ITEMS,
    expected=f"one of {', '.join(_ITEMS)}",
    default="message",
    not_served={
        "item_reference": f"{STORED}. Send the item itself",
        "compaction_trigger": "providers may not report the tokens of a compaction",
        **dict.fromkeys(_HOSTED_ITEMS, HOSTED),
        **dict.fromkeys(_TYPED_ITEMS, "its tool is not served. Use a function or custom tool"),
    },
)
INPUT = TextOr(
    other=Array(
        items=ITEM,
        items_max=ITEMS_MAX,
        expected="a string or a list of at least one item",
        empty="be a string or a list of at least one item",
    ),
)

_encode = msgspec.json.Encoder().encode


class RequestSize(msgspec.Struct, kw_only=True):
    """What counts in the bound: messages, strings, the maximum of the media parts, and definitions with their tools."""

    messages: int = 0
    text: TextSize
    part_tokens: int = 0
    definition_bytes: int = 0
    tools: int = 0

    def add_definition(self, value: Any, raw: bytes) -> None:
        """Add JSON that providers render into the prompt, without its non-ASCII strings, which `text` gets."""
        self.definition_bytes += definition_size(value, raw, self.text)


def request_size(values: Mapping[str, Any], raw: Mapping[str, msgspec.Raw], model: Model) -> RequestSize:
    """Measure a checked request. `values` and `raw` have only what travels."""
    size = RequestSize(text=TextSize())
    for name in DEFINITION_FIELDS:
        if type(values.get(name)) in {list, dict}:
            size.add_definition(values[name], bytes(raw[name]))
    size.tools = count_tools(values.get("tools") or ())
    if values.get("instructions") is not None:
        size.messages += 1
        size.text.add(values["instructions"])
    items = values["input"]
    if type(items) is str:
        size.messages += 1
        size.text.add(items)
        return size
    size.messages += len(items)
    strings: list[Any] = []
    for item in items:
        _add_item(item, model, size, strings)
    size.text.add(strings)
    return size


def _add_item(item: Mapping[str, Any], model: Model, size: RequestSize, strings: list[Any]) -> None:
    """Add an item: its texts to `strings`, its objects as JSON. Media parts cost a fixed maximum instead."""
    for name, value in item.items():
        kind = type(value)
        if kind is str:
            strings.append(value)
        elif kind is list and name in {"content", "output"}:
            strings += [_without_media(part, model, size) for part in value]
        elif kind is dict or kind is list:
            size.add_definition(value, _encode(value))
            if name == "tools" and item.get("type") in TOOL_ITEMS:
                size.tools += count_tools(value)


def _without_media(part: Any, model: Model, size: RequestSize) -> Any:
    """Return a content part without its media data, whose maximum is added to `size`."""
    kind = part.get("type") if type(part) is dict else None
    if type(kind) is not str or kind not in _MEDIA:
        return part
    data, setting = _MEDIA[kind]
    size.part_tokens += getattr(model, setting)
    return [value for name, value in part.items() if name not in {"type", data}]
