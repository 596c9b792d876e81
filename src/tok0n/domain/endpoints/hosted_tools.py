"""Find the tools that a provider would run itself, and drop or reject them. They are not served.

A request can define tools in three places: in `tools`, in the `tools` of an input item, and inside a namespace.

Sources: OpenAI API reference, "Create a model response", `tools`; what Codex 0.171.0 sends.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import msgspec

from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.fields import Path, path_text, reject

TOOL_ITEMS = frozenset({"additional_tools", "tool_search_output"})
"""The types of input items that define tools."""

_HOSTED = re.compile(
    r"(?:web_search|web_search_preview|file_search|code_interpreter|computer|computer_use|computer_use_preview"
    r"|image_generation|mcp|programmatic_tool_calling)(?:_\d{4}_\d{2}_\d{2})?"
)
_SWITCHES = {
    "web_search": 'In Codex, set web_search = "disabled".',
    "tool_search": "In Codex, use --disable multi_agent.",
}
"""How to switch off a tool that a client sends by default."""

_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def is_hosted(tool: Any) -> bool:
    """Whether a provider runs this tool. `tool_search` is the client's only if `execution` says so."""
    kind = tool.get("type") if type(tool) is dict else None
    if kind == "tool_search":
        return bool(tool.get("execution") != "client")
    return type(kind) is str and _HOSTED.fullmatch(kind) is not None


def drop_hosted_tools(values: dict[str, Any], raw: dict[str, msgspec.Raw], model: Model) -> tuple[str, ...]:
    """Remove the hosted tools of a checked request from `values` and `raw`. Returns the types that it removed.

    Every other tool keeps its bytes. Raises `InvalidRequest` if the model's `hosted_tools` is "refuse", or if
    `tool_choice` is neither absent nor "auto", because the customer then counts on the tools.
    """
    places = list(_hosted_places(values))
    if not places:
        return ()
    if model.hosted_tools == "refuse" or values.get("tool_choice") not in (None, "auto"):
        path, tool = places[0]
        choice = '"auto"' if model.hosted_tools == "drop" else None
        reject_hosted(path, tool["type"], choice=choice, switches=_SWITCHES)
    if _has_hosted(values.get("tools")):
        values["tools"], raw["tools"] = _without_hosted(values["tools"], raw["tools"])
    items = values["input"] if type(values["input"]) is list else []
    positions = [position for position, item in enumerate(items) if _defines_hosted(item)]
    if positions:
        texts = _decode_items(raw["input"])
        for position in positions:
            members = _decode_members(texts[position])
            tools, members["tools"] = _without_hosted(items[position]["tools"], members["tools"])
            items[position] = items[position] | {"tools": tools}
            texts[position] = msgspec.Raw(_encode(members))
        raw["input"] = msgspec.Raw(_encode(texts))
    return tuple(dict.fromkeys(tool["type"] for _, tool in places))


def count_tools(tools: Any) -> int:
    """Count the tools in a checked list, namespaces and the tools inside them included."""
    return sum(1 + len(tool.get("tools") or ()) for tool in tools)


def _hosted_places(values: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the path of each hosted tool, and the tool."""
    yield from _hosted_in(values.get("tools"), "tools")
    if type(values["input"]) is list:
        for position, item in enumerate(values["input"]):
            if _defines_tools(item):
                yield from _hosted_in(item["tools"], (("input", position), "tools"))


def _hosted_in(tools: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for position, tool in enumerate(tools or ()):
        if is_hosted(tool):
            yield (path, position), tool
        elif tool["type"] == "namespace":
            yield from _hosted_in(tool["tools"], ((path, position), "tools"))


def _has_hosted(tools: Any) -> bool:
    return next(_hosted_in(tools, ""), None) is not None


def _defines_tools(item: dict[str, Any]) -> bool:
    return item.get("type") in TOOL_ITEMS


def _defines_hosted(item: dict[str, Any]) -> bool:
    return _defines_tools(item) and _has_hosted(item["tools"])


def _without_hosted(tools: list[Any], raw: msgspec.Raw) -> tuple[list[Any], msgspec.Raw]:
    """Return a list of tools without the hosted ones, decoded and as JSON."""
    kept, texts = [], []
    for tool, text in zip(tools, _decode_items(raw), strict=True):
        if is_hosted(tool):
            continue
        if tool["type"] == "namespace" and _has_hosted(tool["tools"]):
            members = _decode_members(text)
            inner, members["tools"] = _without_hosted(tool["tools"], members["tools"])
            kept.append(tool | {"tools": inner})
            texts.append(msgspec.Raw(_encode(members)))
        else:
            kept.append(tool)
            texts.append(text)
    return kept, msgspec.Raw(_encode(texts))


def reject_hosted(path: Path, kind: str, *, choice: str | None, switches: Mapping[str, str]) -> NoReturn:
    """Reject a tool of the type `kind`, and say how to do without it.

    `choice` is the `tool_choice` that has it dropped, if there is one. `switches` says by the start of a type how to
    switch the tool off in a client that sends it by default.
    """
    advice = "Remove it from the request"
    if choice is not None:
        advice += f", or send tool_choice {choice} to have it dropped"
    switch = next((text for name, text in switches.items() if kind.startswith(name)), "")
    message = f"{path_text(path)} is the tool {kind}, which the provider would run itself. It isn't served."
    reject(path, f"{message} {advice}. {switch}".rstrip())
