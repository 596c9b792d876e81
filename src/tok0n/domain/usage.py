"""Read the token usage that an upstream reports. Never estimates a figure.

Missing or impossible usage is None, and the request is not charged: every charge is a figure the upstream reported.
"""

from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

import msgspec

TOKENS_MAX = 2**53
"""The largest number of tokens anywhere, because JSON parsers may round larger integers (RFC 8259, section 6)."""

_DETAILS_MAX = 32
_DETAIL_NAME_CHARACTERS_MAX = 64


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens that the upstream reports for a completion. `total_tokens` is the charge.

    `details` has breakdowns such as `completion_tokens_details.reasoning_tokens`, by the upstream's names. They don't
    add to the charge.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    details: dict[str, int] = {}


class UsageNames(msgspec.Struct, frozen=True, kw_only=True):
    """An API's names for the two figures. `details` names the members with their breakdowns."""

    prompt: str
    completion: str
    details: tuple[str, str]


CHAT_NAMES = UsageNames(
    prompt="prompt_tokens",
    completion="completion_tokens",
    details=("prompt_tokens_details", "completion_tokens_details"),
)


def read_usage(reported: Any, names: UsageNames = CHAT_NAMES) -> Usage | None:
    """Return the usage in a decoded `usage` member, or None if it is missing or impossible.

    The three figures must be integers (not bool, float or string) from 0 to 2^53, with a total above 0 and
    `total_tokens` ≥ `prompt_tokens` + `completion_tokens`. If `completion_tokens` is missing or null, it is computed as
    the rest of the total, because Gemini omits it if all output was reasoning.
    """
    if type(reported) is not dict:
        return None
    prompt = reported.get(names.prompt)
    total = reported.get("total_tokens")
    if type(prompt) is not int or type(total) is not int:
        return None
    completion = reported.get(names.completion)
    if completion is None:
        completion = total - prompt
    if type(completion) is not int or not 0 < total <= TOKENS_MAX:
        return None
    if prompt < 0 or completion < 0 or total < prompt + completion:
        return None
    details = read_details(reported, names.details)
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total, details=details)


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a decoded value is a number of tokens."""
    return type(value) is int and 0 <= value <= TOKENS_MAX


def read_details(reported: Mapping[str, Any], groups: Collection[str]) -> dict[str, int]:
    """Return the breakdowns in the members `groups`.

    Keeps only names and counts, so no text of a response gets into the log.
    """
    details: dict[str, int] = {}
    for group in groups:
        members = reported.get(group)
        if type(members) is not dict:
            continue
        for name, value in members.items():
            if len(details) == _DETAILS_MAX:
                return details
            if is_count(value) and _is_name(name):
                details[f"{group}.{name}"] = value
    return details


def _is_name(name: str) -> bool:
    return len(name) <= _DETAIL_NAME_CHARACTERS_MAX and name.endswith("_tokens") and name.isidentifier()
