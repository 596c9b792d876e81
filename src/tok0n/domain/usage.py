"""Read the usage that an upstream reports, and believe it only when it is whole. Never guesses a figure.

Usage that is missing or impossible is `None` to the caller, who then charges nothing: a charge must rest on a number
that the upstream really gave.
"""

from typing import Any, TypeGuard

import msgspec

TOKENS_MAX = 2**53
"""The largest count of tokens anywhere, inclusive: what a JSON number carries exactly (RFC 8259, section 6)."""

_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
_DETAILS_NAMES = frozenset(_DETAILS)
_DETAILS_MAX = 32
_DETAIL_NAME_CHARACTERS_MAX = 64


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens that the upstream reports for one completion. `total_tokens` is the charge.

    `details` holds breakdowns such as `completion_tokens_details.reasoning_tokens`: kept, never added to anything.
    """

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    details: dict[str, int] = {}


def read_usage(reported: Any) -> Usage | None:
    """The usage in a decoded `usage` member, or None when it is missing or cannot be true.

    True means: three real integers (a bool, a float or a string is not one), each from 0 to 2^53, with
    `total_tokens` ≥ `prompt_tokens` + `completion_tokens`, and a total above zero. If `completion_tokens` is missing or
    null, it is the rest of the total: Gemini leaves it out when all output was reasoning.
    """
    if type(reported) is not dict:
        return None
    prompt = reported.get("prompt_tokens")
    total = reported.get("total_tokens")
    if type(prompt) is not int or type(total) is not int:
        return None
    completion = reported.get("completion_tokens")
    if completion is None:
        completion = total - prompt
    if type(completion) is not int or not 0 < total <= TOKENS_MAX:
        return None
    if prompt < 0 or completion < 0 or total < prompt + completion:
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion, total_tokens=total, details=_details(reported))


def _is_count(value: Any) -> TypeGuard[int]:
    return type(value) is int and 0 <= value <= TOKENS_MAX


def _details(reported: dict[str, Any]) -> dict[str, int]:
    """Only names and counts are kept, so that no text of an answer can come into the log this way."""
    details: dict[str, int] = {}
    if _DETAILS_NAMES.isdisjoint(reported):
        return details
    for group in _DETAILS:
        members = reported.get(group)
        if type(members) is not dict:
            continue
        for name, value in members.items():
            if len(details) == _DETAILS_MAX:
                return details
            if _is_count(value) and _is_name(name):
                details[f"{group}.{name}"] = value
    return details


def _is_name(name: str) -> bool:
    return len(name) <= _DETAIL_NAME_CHARACTERS_MAX and name.endswith("_tokens") and name.isidentifier()
