"""Find the tools that the provider would run itself, and drop or reject them. They are not served.

Source: Anthropic API reference, "Create a Message", `tools` (anthropic-python 2.14.0, `types/tool_union_param.py`).
"""

from typing import Any

import msgspec

from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.hosted_tools import reject_hosted
from tok0n.domain.endpoints.messages_fields import HOSTED_TOOL, TYPED_TOOL

TYPED_TOOL_TOKENS = 1_024
"""The most tokens of the description that the provider adds for a typed tool of the client."""

_SWITCHES = {
    "web_search": 'In Claude Code, add "WebSearch" to permissions.deny.',
    "mcp_toolset": "Connect the client to the MCP server instead.",
}
"""How to switch off a tool that a client sends by default."""

_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


def drop_hosted_tools(values: dict[str, Any], raw: dict[str, msgspec.Raw], model: Model) -> tuple[str, ...]:
    """Remove the hosted tools of a checked request from `values` and `raw`. Returns the types that it removed.

    Every other tool keeps its bytes. Raises `InvalidRequest` if the model's `hosted_tools` is "refuse", if
    `tool_choice` is neither absent nor auto, or if all tools are hosted. The customer then counts on the tools.
    """
    tools = values.get("tools") or []
    hosted = [position for position, tool in enumerate(tools) if _is_hosted(tool)]
    if not hosted:
        return ()
    choice = values.get("tool_choice")
    if model.hosted_tools == "refuse" or len(hosted) == len(tools) or (choice and choice["type"] != "auto"):
        can_be_dropped = model.hosted_tools == "drop" and len(hosted) < len(tools)
        reject_hosted(
            ("tools", hosted[0]),
            tools[hosted[0]]["type"],
            choice='{"type": "auto"}' if can_be_dropped else None,
            switches=_SWITCHES,
        )
    kinds = tuple(dict.fromkeys(tools[position]["type"] for position in hosted))
    texts = _decode_items(raw["tools"])
    raw["tools"] = msgspec.Raw(_encode([text for text, tool in zip(texts, tools, strict=True) if not _is_hosted(tool)]))
    values["tools"] = [tool for tool in tools if not _is_hosted(tool)]
    return kinds


def typed_tool_tokens(tools: list[Any]) -> int:
    """Return the most tokens that the provider adds to describe the typed tools in a checked list."""
    return TYPED_TOOL_TOKENS * sum(TYPED_TOOL.fullmatch(tool.get("type") or "") is not None for tool in tools)


def _is_hosted(tool: dict[str, Any]) -> bool:
    kind = tool.get("type")
    return kind is not None and HOSTED_TOOL.fullmatch(kind) is not None
