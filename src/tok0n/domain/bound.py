"""Bound what a request can cost, before it runs. Knows no upstream and never guesses low.

A byte-level tokenizer never makes more tokens than there are bytes, but it may normalize the text first, and
normalization can expand it: so a string counts the longest of its UTF-8, NFC and NFKC forms. What a chat template adds
around the messages is covered by a fixed allowance for each message and for the request; tool and format definitions
are rewritten by providers in ways that are not documented, hence their factor of four.
"""

import functools
import re
import unicodedata
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

REQUEST_TOKENS = 512
MESSAGE_TOKENS = 16
TOOLS_TOKENS = 512
DEFINITION_FACTOR = 4

PIECE_CHARACTERS = 1_024
"""A piece has at most twice as many characters, so that no call of `unicodedata` holds the interpreter for long."""

RUN_CHARACTERS = 64
"""The longest run of combining characters that is normalized in one piece, because sorting a run takes quadratic time.

Text in Stream-Safe format (UAX #15, section 13) has at most 30 in a row. Its bound is exact.
"""

CUT_BYTES = 16
"""Added for each cut within a run: more than one character can save when it composes with others.

Nothing composes across such a cut, so the pieces count more than the whole. But a mark may compose before the cut that
would come second in the whole. A starter saves at most 6 bytes this way (all compositions of NFC in Unicode 14).
"""

_BOUNDARY = re.compile("[\x00-\x7f\u4e00-\u9fff]")


_COMBINING_BY_DECOMPOSITION = "\u0f73\u0f75\u0f81\uff9e\uff9f"
"""Starters that decompose to combining characters alone."""


class TextSize(msgspec.Struct, kw_only=True):
    """The text of a request so far: the bytes of its ASCII strings, and the other strings.

    Normalization never changes ASCII. It can make any other string longer, so those strings are bounded later: at once
    if they are short, after the admission if they are long.
    """

    ascii_bytes: int = 0
    other: list[str] = []

    def add(self, value: Any) -> None:
        """Add all string values in a decoded JSON value, at any depth."""
        waiting: list[Any] = [value]
        while waiting:
            value = waiting.pop()
            kind = type(value)
            if kind is str:
                if value.isascii():
                    self.ascii_bytes += len(value)
                else:
                    self.other.append(value)
            elif kind is dict:
                waiting.extend(value.values())
            elif kind is list:
                waiting.extend(value)


def string_bound(text: str, *, piece_characters: int = PIECE_CHARACTERS) -> int:
    """The most tokens that a byte-level tokenizer can make of `text`, whatever it normalizes first."""
    if text.isascii():
        return len(text)
    if len(text) <= 2 * piece_characters and not _has_long_run(text):
        return max(_sizes(text))
    plain = composed = compatible = cuts = 0
    for piece, is_cut in _normalizable_pieces(text, piece_characters):
        cuts += is_cut
        sizes = _sizes(piece)
        plain += sizes[0]
        composed += sizes[1]
        compatible += sizes[2]
    return max(plain, composed, compatible) + cuts * CUT_BYTES


def _sizes(text: str) -> tuple[int, int, int]:
    """The bytes of `text` and of its NFC and NFKC forms."""
    size = len(text.encode())
    return (
        size,
        size if unicodedata.is_normalized("NFC", text) else _size("NFC", text),
        size if unicodedata.is_normalized("NFKC", text) else _size("NFKC", text),
    )


def _size(form: Literal["NFC", "NFKC"], text: str) -> int:
    return len(unicodedata.normalize(form, text).encode())


def _normalizable_pieces(text: str, size: int) -> Iterator[tuple[str, bool]]:
    """Split `text` as `_pieces` does, but into pieces that normalize in linear time."""
    for piece, is_cut in _pieces(text, size):
        if _has_long_run(piece):
            parts = list(_pieces(piece, RUN_CHARACTERS // 2))
            yield from parts[:-1]
            yield parts[-1][0], is_cut
        else:
            yield piece, is_cut


def _pieces(text: str, size: int) -> Iterator[tuple[str, bool]]:
    """Split `text` into pieces of at most twice `size` characters, each with whether it ends within a run.

    Neither ASCII nor a unified ideograph ever joins with, or moves past, what stands before it (UAX #15, section 9.1):
    before those, a cut changes nothing.
    """
    start = 0
    while len(text) - start > 2 * size:
        boundary = _BOUNDARY.search(text, start + size, start + 2 * size)
        end = start + 2 * size if boundary is None else boundary.start()
        yield text[start:end], boundary is None
        start = end
    yield text[start:], False


def _has_long_run(piece: str) -> bool:
    """Whether a run of combining characters is long. Finds every run of twice `RUN_CHARACTERS`, in linear time.

    Such a run contains a sampled character that `RUN_CHARACTERS` more follow.
    """
    if len(piece) <= 2 * RUN_CHARACTERS:
        return False
    sampled = piece[::RUN_CHARACTERS]
    combining = _combining_characters()
    if combining.isdisjoint(sampled):
        return False
    run = _run_pattern()
    return any(run.match(piece, index * RUN_CHARACTERS) for index, one in enumerate(sampled) if one in combining)


@functools.cache
def _combining_characters() -> frozenset[str]:
    """The characters that decompose to nothing but combining characters.

    Unicode assigns them in its first two planes only.
    """
    classed = filter(unicodedata.combining, map(chr, range(0x300, 0x20000)))
    return frozenset(classed).union(_COMBINING_BY_DECOMPOSITION)


@functools.cache
def _run_pattern() -> re.Pattern[str]:
    characters = "".join(map(re.escape, sorted(_combining_characters())))
    return re.compile(f"[{characters}]{{{RUN_CHARACTERS}}}")


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
