"""What Anthropic's SDK for Python knows of a request to /v1/messages, as a table.

`anthropic_sdk.json` has the table, so that tests don't need the SDK. To update it, install the SDK, and run
`python -m support.anthropic_sdk` in `tests`.
"""

import importlib
import json
from pathlib import Path
from typing import Any, get_args, get_type_hints

TABLE = Path(__file__).with_name("anthropic_sdk.json")
VERSION = "2.14.0"
"""The version of the SDK that the table is from."""


def read_table() -> dict[str, Any]:
    """Return the stored table."""
    table: dict[str, Any] = json.loads(TABLE.read_text())
    return table


def make_table() -> dict[str, Any]:
    """Return the table of the installed SDK. Raises `ImportError` without one."""
    types = [importlib.import_module(f"anthropic.types{beta}") for beta in ("", ".beta")]
    creates = [get_type_hints(kind.message_create_params.MessageCreateParamsBase) for kind in types]
    counts = [get_type_hints(kind.message_count_tokens_params.MessageCountTokensParams) for kind in types]
    messages = [_members(create["messages"]) for create in creates]
    turns = [_members(turn["user"]["content"]) for turn in (_by("role", found) for found in messages)]
    results = [_members(_by("type", blocks)["tool_result"]["content"]) for blocks in turns]
    systems = [_members(turn["system"]["content"]) for turn in (_by("role", found) for found in messages)]
    return {
        "version": importlib.import_module("anthropic").__version__,
        "fields": sorted(set().union(*creates)),
        "count_fields": sorted(set().union(*counts)),
        "messages": _names("role", messages),
        "blocks": _names("type", turns),
        "result_blocks": sorted(_names("type", results)),
        "system_blocks": sorted(_names("type", systems)),
        "tools": _names("type", [_members(create["tools"]) for create in creates]),
        "betas": sorted(_words(importlib.import_module("anthropic.types.anthropic_beta_param").AnthropicBetaParam)),
    }


def _members(hint: Any) -> list[dict[str, Any]]:
    """Return the members of each dictionary type in a type, by name."""
    if hasattr(hint, "__total__"):
        return [get_type_hints(hint)]
    return [members for inner in get_args(hint) for members in _members(inner)]


def _words(hint: Any) -> set[str]:
    """Return the strings in a literal, at any depth."""
    return {hint} if isinstance(hint, str) else {word for inner in get_args(hint) for word in _words(inner)}


def _by(tag: str, members: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {word: found for found in members for word in _words(found.get(tag)) or {""}}


def _names(tag: str, groups: list[list[dict[str, Any]]]) -> dict[str, list[str]]:
    """Return the names of the members of each kind, in any of the groups."""
    names: dict[str, set[str]] = {}
    for group in groups:
        for word, members in _by(tag, group).items():
            names.setdefault(word, set()).update(members)
    return {word: sorted(names[word]) for word in sorted(names)}


if __name__ == "__main__":
    TABLE.write_text(json.dumps(make_table(), indent=1) + "\n")
