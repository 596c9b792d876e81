"""Bound what a request can cost, before it runs. Knows no upstream and never guesses low.

A byte-level tokenizer never makes more tokens than there are bytes, but it may normalise the text first, and
normalisation can expand it: so a string counts the longest of its UTF-8, NFC and NFKC forms. What a chat template adds
around the messages is covered by a fixed allowance for each message and for the request; tool and format definitions
are rewritten by providers in ways that are not documented, hence their factor of four.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

REQUEST_TOKENS = 512
MESSAGE_TOKENS = 16
TOOLS_TOKENS = 512
DEFINITION_FACTOR = 4

PIECE_CHARACTERS = 8_192
_BOUNDARY = re.compile("[\x00-\x7f\u4e00-\u9fff]")


def string_bound(text: str) -> int:
    """The most tokens that a byte-level tokenizer can make of `text`, whatever it normalises first."""
    if text.isascii():
        return len(text)
    plain = composed = compatible = 0
    for piece in _pieces(text):
        size = len(piece.encode())
        plain += size
        composed += size if unicodedata.is_normalized("NFC", piece) else _size("NFC", piece)
        compatible += size if unicodedata.is_normalized("NFKC", piece) else _size("NFKC", piece)
    return max(plain, composed, compatible)


def _size(form: Literal["NFC", "NFKC"], text: str) -> int:
    return len(unicodedata.normalize(form, text).encode())


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text where normalisation does not reach across, so that no one call holds the interpreter for long.

    Neither ASCII nor a unified ideograph ever joins with, or moves past, what stands before it (UAX #15, section 9.1).
    """
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        boundary = _BOUNDARY.search(text, start + PIECE_CHARACTERS)
        if boundary is None:
            break
        yield text[start : boundary.start()]
        start = boundary.start()
    yield text[start:]


def strings_bound(value: Any) -> int:
    """The sum over all string values in a decoded JSON value, at any depth."""
    total = 0
    waiting: list[Any] = [value]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        if kind is str:
            total += string_bound(value)
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
