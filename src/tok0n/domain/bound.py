"""Bound what a request can cost, before it runs. Knows no upstream and never guesses low.

A byte-level tokenizer never makes more tokens than there are bytes, but it may normalise the text first, and
normalisation can expand it: so a string counts the longest of its UTF-8, NFC and NFKC forms. What a chat template adds
around the messages is covered by a fixed allowance for each message and for the request; tool and format definitions
are rewritten by providers in ways that are not documented, hence their factor of four.
"""

import unicodedata
from typing import Any

REQUEST_TOKENS = 512
MESSAGE_TOKENS = 16
TOOLS_TOKENS = 512
DEFINITION_FACTOR = 4


def string_bound(text: str) -> int:
    """The most tokens that a byte-level tokenizer can make of `text`, whatever it normalises first."""
    if text.isascii():
        return len(text)
    size = len(text.encode())
    if unicodedata.is_normalized("NFKC", text) and unicodedata.is_normalized("NFC", text):
        return size
    return max(
        size,
        len(unicodedata.normalize("NFC", text).encode()),
        len(unicodedata.normalize("NFKC", text).encode()),
    )


def strings_bound(value: Any) -> int:
    """The sum over all string values in a decoded JSON value, at any depth."""
    total = 0
    waiting: list[Any] = [value]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is str:
            total += len(value) if value.isascii() else string_bound(value)
        elif kind is dict:
            waiting.extend(value.values())
        elif kind is list:
            waiting.extend(value)
    return total


def prompt_bound(
    *,
    messages: int,
    strings: int,
    parts: int,
    definitions_bytes: int,
    has_tools: bool,
    context_window_tokens: int | None,
) -> int:
    """The most prompt tokens that a request can cost.

    `strings` is the bound of all strings in its messages, `parts` what its image, audio and file parts can cost at the
    most, `definitions_bytes` the size of what is rewritten into the prompt (tools, response format, unknown fields).
    """
    bound = REQUEST_TOKENS + MESSAGE_TOKENS * messages + strings + parts
    bound += DEFINITION_FACTOR * definitions_bytes
    if has_tools:
        bound += TOOLS_TOKENS
    return bound if context_window_tokens is None else min(bound, context_window_tokens)
