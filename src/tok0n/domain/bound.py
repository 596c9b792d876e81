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

PIECE_CHARACTERS = 1_024
"""A piece has twice as many at the most: what normalisation makes longest then takes it three milliseconds."""

CUT_BYTES = 16
"""What is added where a text had to be cut within a run: more than one character can save by composing with others.

Across such a cut nothing composes, so that the pieces count more; but a mark may compose before it which, in the whole,
would have come second. The most that any starter saves so is 6 bytes (all compositions of NFC in Unicode 14).
"""

_BOUNDARY = re.compile("[\x00-\x7f\u4e00-\u9fff]")


def string_bound(text: str) -> int:
    """The most tokens that a byte-level tokenizer can make of `text`, whatever it normalises first."""
    if text.isascii():
        return len(text)
    plain = composed = compatible = cuts = 0
    for piece, is_cut in _pieces(text):
        cuts += is_cut
        size = len(piece.encode())
        plain += size
        composed += size if unicodedata.is_normalized("NFC", piece) else _size("NFC", piece)
        compatible += size if unicodedata.is_normalized("NFKC", piece) else _size("NFKC", piece)
    return max(plain, composed, compatible) + cuts * CUT_BYTES


def _size(form: Literal["NFC", "NFKC"], text: str) -> int:
    return len(unicodedata.normalize(form, text).encode())


def _pieces(text: str) -> Iterator[tuple[str, bool]]:
    """Cut a long text, so that no one call of normalisation holds the interpreter for long; where a run is cut, say so.

    Neither ASCII nor a unified ideograph ever joins with, or moves past, what stands before it (UAX #15, section 9.1):
    before those, a cut changes nothing.
    """
    start = 0
    while len(text) - start > 2 * PIECE_CHARACTERS:
        boundary = _BOUNDARY.search(text, start + PIECE_CHARACTERS, start + 2 * PIECE_CHARACTERS)
        end = start + 2 * PIECE_CHARACTERS if boundary is None else boundary.start()
        yield text[start:end], boundary is None
        start = end
    yield text[start:], False


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
