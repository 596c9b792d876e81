"""The header anthropic-beta: which of its values are forwarded, and which members go with them.

A value and the members that need it go together: an upstream rejects a member whose value it doesn't get. A value that
the model doesn't list is dropped, together with its members.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from tok0n.domain.catalogue import Model
from tok0n.domain.endpoints.fields import must

VERSION = "2023-06-01"
"""The value of anthropic-version for requests without one."""

BETAS_MAX = 64
"""The most values of anthropic-beta in one request."""

DEFAULT_BETAS = (
    "claude-code-20250219",
    "interleaved-thinking-2025-05-14",
    "context-management-2025-06-27",
    "thinking-token-count-2026-05-13",
    "effort-2025-11-24",
    "prompt-caching-scope-2026-01-05",
    "mid-conversation-system-2026-04-07",
    "redact-thinking-2026-02-12",
    "mid-conversation-tool-changes-2026-07-01",
    "advanced-tool-use-2025-11-20",
    "per-turn-control-2026-07-01",
    "thinking-display-updates-2026-08-18",
    "afk-mode-2026-01-31",
    "token-counting-2024-11-01",
    "computer-use-2024-10-22",
    "computer-use-2025-01-24",
    "computer-use-2025-11-24",
    "dev-full-thinking-2025-05-14",
    "extended-cache-ttl-2025-04-11",
    "fine-grained-tool-streaming-2025-05-14",
    "model-context-window-exceeded-2025-08-26",
    "output-128k-2025-02-19",
    "pdfs-2024-09-25",
    "prompt-caching-2024-07-31",
    "structured-outputs-2025-11-13",
    "task-budgets-2026-03-13",
    "thinking-binding-controls-2026-08-01",
    "token-efficient-tools-2025-02-19",
)
"""The values that travel unless the operator lists others for a model.

Sources: what Claude Code 2.1.197 and 2.1.332 send, recorded on 2026-11-28, down to `token-counting-2024-11-01`. Then
the values in anthropic-python 2.14.0 (`types/anthropic_beta_param.py`) that accepted fields need, and Anthropic's
documentation of fine-grained tool streaming. Not in the list: values for fields that Tok0n rejects
(`dangerous-tool-use`, `fallback-credit`, `mcp-client`, `compact`) and values with another price (`context-1m`,
`fast-mode`).
"""

_VERSION = re.compile(r"\d{4}-\d{2}-\d{2}")
_BETA = re.compile(r"[A-Za-z0-9._-]{1,64}")

_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A member that needs a beta. In `path`, `*` stands for every item of a list.

    `values` are the values that need the beta, or empty if all do. `kinds` are the types of the items that need it,
    if the path ends with `*`.
    """

    path: tuple[str, ...]
    values: frozenset[str] = frozenset()
    kinds: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The path without list items, for the header that names what was dropped."""
        return ".".join(step for step in self.path if step != "*")


def _members(*paths: str) -> tuple[Member, ...]:
    return tuple(Member(path=tuple(path.split("."))) for path in paths)


def _tools(*kinds: str) -> tuple[Member, ...]:
    return (Member(path=("tools", "*"), kinds=frozenset(kinds)),)


_CACHED = ("", "system.*.", "tools.*.", "messages.*.content.*.", "messages.*.content.*.content.*.")
"""Where `cache_control` can stand."""

MEMBERS: dict[str, tuple[Member, ...]] = {
    "context-management-2025-06-27": _members("context_management"),
    "effort-2025-11-24": _members("output_config.effort"),
    "prompt-caching-2024-07-31": _members(*(f"{place}cache_control" for place in _CACHED)),
    "prompt-caching-scope-2026-01-05": _members(*(f"{place}cache_control.scope" for place in _CACHED)),
    "extended-cache-ttl-2025-04-11": _members(*(f"{place}cache_control.ttl" for place in _CACHED)),
    "advanced-tool-use-2025-11-20": _members("tools.*.defer_loading", "tools.*.input_examples"),
    "thinking-display-updates-2026-08-18": (Member(path=("thinking", "display"), values=frozenset({"updates"})),),
    "thinking-binding-controls-2026-08-01": _members("thinking.block_binding"),
    "task-budgets-2026-03-13": _members("output_config.task_budget"),
    "structured-outputs-2025-11-13": _members("output_format", "output_config.format", "tools.*.strict"),
    "fine-grained-tool-streaming-2025-05-14": _members("tools.*.eager_input_streaming"),
    "computer-use-2024-10-22": _tools("computer_20241022", "text_editor_20241022", "bash_20241022"),
    "computer-use-2025-01-24": _tools("computer_20250124"),
    "computer-use-2025-11-24": _tools("computer_20251124"),
}
"""The members that each beta brings. Without the beta's value, they don't travel either.

Source: anthropic-python 2.14.0, `types/beta`; agents' requests, recorded on 2026-11-28.
"""

BLOCKS = {"tool_addition": "mid-conversation-tool-changes-2026-07-01"}
BLOCKS["tool_removal"] = BLOCKS["tool_addition"]
"""The blocks that need a beta. A message can't go on without its block, so it is rejected and not dropped."""


def read_version(headers: Mapping[bytes, bytes]) -> str:
    """Return the version to forward. Raises `InvalidRequest` unless it is a date."""
    version = headers.get(b"anthropic-version", b"").decode("latin-1").strip()
    if version and not (version.isascii() and _VERSION.fullmatch(version)):
        must("anthropic-version", f"be a date such as {VERSION}")
    return version or VERSION


def read_betas(headers: Mapping[bytes, bytes]) -> tuple[str, ...]:
    """Return the values of anthropic-beta in their order. Raises `InvalidRequest` if one can't be a name."""
    text = headers.get(b"anthropic-beta", b"").decode("latin-1")
    betas = tuple(dict.fromkeys(filter(None, (value.strip() for value in text.split(",")))))
    if len(betas) > BETAS_MAX:
        must("anthropic-beta", f"have at most {BETAS_MAX} values")
    if not all(map(_BETA.fullmatch, betas)):
        must("anthropic-beta", "be a list of names such as interleaved-thinking-2025-05-14, separated by commas")
    return betas


def split_betas(betas: Iterable[str], model: Model) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the values that travel, and those that are dropped."""
    allowed = frozenset(DEFAULT_BETAS if model.anthropic_betas is None else model.anthropic_betas)
    betas = tuple(betas)
    return tuple(beta for beta in betas if beta in allowed), tuple(beta for beta in betas if beta not in allowed)


def drop_members(
    values: dict[str, Any], raw: dict[str, msgspec.Raw], *, forwarded: Iterable[str], dropped: Iterable[str]
) -> tuple[str, ...]:
    """Remove the members of dropped betas from `values` and `raw`. Returns their names.

    A member that a forwarded beta needs as well stays. All other bytes stay, except white space around the members of
    an object or list that changes.
    """
    kept = {member for beta in forwarded for member in MEMBERS.get(beta, ())}
    names = []
    for member in dict.fromkeys(member for beta in dropped for member in MEMBERS.get(beta, ())):
        first, *rest = member.path
        if member in kept or first not in raw:
            continue
        changed = _without(raw[first], rest, member) if rest else None
        if changed is raw[first]:
            continue
        names.append(member.name)
        if changed is None:
            del raw[first], values[first]
        else:
            raw[first], values[first] = changed, _decode(changed)
    return tuple(dict.fromkeys(names))


def reject_blocks(messages: list[Any], model: Model, *, dropped: Iterable[str]) -> None:
    """Raise `InvalidRequest` if a block of the checked messages needs a beta that is dropped."""
    kinds = {kind: beta for kind, beta in BLOCKS.items() if beta in dropped}
    if not kinds:
        return
    for position, message in enumerate(messages):
        content = message["content"]
        for index, block in enumerate(content if type(content) is list else ()):
            kind = block["type"]
            if kind in kinds:
                path = (((("messages", position), "content"), index), "type")
                must(path, f"not be {kind}: it needs the beta {kinds[kind]}, which model {model.id} doesn't accept")


def _without(value: msgspec.Raw, path: list[str], member: Member) -> msgspec.Raw | None:
    """Return the JSON value without the member at `path`: the same object if it has none, None to drop it whole."""
    if not path:
        return value if member.values and _decode(value) not in member.values else None
    step, *rest = path
    start = bytes(value).lstrip()[:1]
    if step == "*":
        return _without_in_items(value, rest, member) if start == b"[" else value
    if start != b"{":
        return value
    members = _decode_members(value)
    if step not in members:
        return value
    changed = _without(members[step], rest, member)
    if changed is members[step]:
        return value
    if changed is None:
        del members[step]
    else:
        members[step] = changed
    return msgspec.Raw(_encode(members))


def _without_in_items(value: msgspec.Raw, path: list[str], member: Member) -> msgspec.Raw:
    items = _decode_items(value)
    if path:
        changed = [_without(item, path, member) for item in items]
    else:
        changed = [None if _kind(item) in member.kinds else item for item in items]
    if all(new is old for new, old in zip(changed, items, strict=True)):
        return value
    return msgspec.Raw(_encode([item for item in changed if item is not None]))


def _kind(item: msgspec.Raw) -> str | None:
    value = _decode(item)
    kind = value.get("type") if type(value) is dict else None
    return kind if type(kind) is str else None
