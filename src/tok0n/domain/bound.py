"""Compute an upper bound of the tokens that a request can cost. The bound holds for every upstream.

A byte-level tokenizer never produces more tokens than bytes. It may normalize the text first, which can expand it, so a
string counts as the longest of its UTF-8, NFC and NFKC forms. Fixed allowances for each message and for the request
cover the text that a chat template adds. A template renders the definitions of tools and formats in fewer tokens than
they have bytes, and adds text around each tool.
"""

import functools
import re
import unicodedata
from collections.abc import Collection, Iterator
from typing import Any, Literal

import msgspec

REQUEST_TOKENS = 512
MESSAGE_TOKENS = 16
TOOLS_TOKENS = 512
TOOL_TOKENS = 64
EXTRA_FIELD_FACTOR = 4

PIECE_CHARACTERS = 1_024
"""Half the maximum length of a piece. Pieces are short because `unicodedata` holds the GIL while it normalizes one."""

RUN_CHARACTERS = 64
"""The longest run of combining characters normalized as one piece, because sorting a run takes quadratic time.

Text in Stream-Safe format (UAX #15, section 13) has at most 30 in a row, so its bound is exact.
"""

CUT_BYTES = 16
"""The bytes that the bound adds for each cut within a run, because the pieces can need fewer bytes than the whole text.

Usually they need more, because characters don't compose across a cut. But a mark before the cut can compose if the mark
that would block it in the whole text is behind the cut. A starter saves at most 6 bytes this way (every NFC composition
in Unicode 14).
"""

UTF8_BYTES_MAX = 4
"""The most bytes of one character in UTF-8."""

EXACT_BYTES_MAX = 16 * 1024
"""The most bytes of non-ASCII strings to normalize on the event loop. Takes well under a millisecond."""

_BOUNDARY = re.compile("[\x00-\x7f\u4e00-\u9fff]")


_COMBINING_BY_DECOMPOSITION = "\u0f73\u0f75\u0f81\uff9e\uff9f"
"""Starters that decompose to combining characters only."""


class TextSize(msgspec.Struct, kw_only=True):
    """The bytes of a request's ASCII strings, and its non-ASCII strings.

    Normalization never changes ASCII but can lengthen any other string. Non-ASCII strings are bounded later: during
    parsing if they are short, after admission if they are long.
    """

    ascii_bytes: int = 0
    other: list[str] = []

    def add(self, value: Any) -> None:
        """Add the string values of a decoded JSON value, at any depth."""
        stack: list[Any] = [value]
        while stack:
            value = stack.pop()
            kind = type(value)
            if kind is str:
                if value.isascii():
                    self.ascii_bytes += len(value)
                else:
                    self.other.append(value)
            elif kind is dict:
                stack.extend(value.values())
            elif kind is list:
                stack.extend(value)


def string_bound(text: str, *, piece_characters: int = PIECE_CHARACTERS) -> int:
    """Return the most tokens that a byte-level tokenizer can make of `text`, with any normalization."""
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
    """Return the bytes of `text`, of its NFC form and of its NFKC form."""
    size = len(text.encode())
    return (
        size,
        size if unicodedata.is_normalized("NFC", text) else _size("NFC", text),
        size if unicodedata.is_normalized("NFKC", text) else _size("NFKC", text),
    )


def _size(form: Literal["NFC", "NFKC"], text: str) -> int:
    return len(unicodedata.normalize(form, text).encode())


def _normalizable_pieces(text: str, size: int) -> Iterator[tuple[str, bool]]:
    """Split `text` into pieces that normalize in linear time, and say for each whether it may end within a run."""
    for piece, is_cut in _pieces(text, size):
        if _has_long_run(piece):
            parts = list(_pieces(piece, RUN_CHARACTERS // 2))
            yield from parts[:-1]
            yield parts[-1][0], is_cut
        else:
            yield piece, is_cut


def _pieces(text: str, size: int) -> Iterator[tuple[str, bool]]:
    """Split `text` into pieces of at most `2 * size` characters, and say for each whether it may end within a run.

    ASCII characters and unified ideographs never compose with or reorder around the text before them (UAX #15, section
    9.1), so a cut before one doesn't change the normalized text.
    """
    start = 0
    while len(text) - start > 2 * size:
        boundary = _BOUNDARY.search(text, start + size, start + 2 * size)
        end = start + 2 * size if boundary is None else boundary.start()
        yield text[start:end], boundary is None
        start = end
    yield text[start:], False


def _has_long_run(piece: str) -> bool:
    """Whether `piece` has a long run of combining characters. Takes linear time.

    Finds every run of `2 * RUN_CHARACTERS`, because in such a run at least `RUN_CHARACTERS` characters start at a
    sampled one.
    """
    if len(piece) <= 2 * RUN_CHARACTERS:
        return False
    sampled = piece[::RUN_CHARACTERS]
    combining = _combining_characters()
    if combining.isdisjoint(sampled):
        return False
    run = _run_pattern()
    return any(run.match(piece, index * RUN_CHARACTERS) for index, sign in enumerate(sampled) if sign in combining)


@functools.cache
def _combining_characters() -> frozenset[str]:
    """Return the characters that decompose to combining characters only. All are in Unicode's first two planes."""
    classed = filter(unicodedata.combining, map(chr, range(0x300, 0x20000)))
    return frozenset(classed).union(_COMBINING_BY_DECOMPOSITION)


@functools.cache
def _run_pattern() -> re.Pattern[str]:
    characters = "".join(map(re.escape, sorted(_combining_characters())))
    return re.compile(f"[{characters}]{{{RUN_CHARACTERS}}}")


def definition_size(value: Any, raw: bytes, text: TextSize) -> int:
    """Return the bytes that a tool or a format counts, without its non-ASCII strings and names, which `text` gets.

    `raw` is the JSON of `value`. Its escapes take at least as many bytes as the characters that they stand for.
    """
    size = len(raw)
    if raw.isascii() and b"\\u" not in raw:
        return size
    stack: list[Any] = [value]
    while stack:
        value = stack.pop()
        kind = type(value)
        if kind is dict:
            stack.extend(value)
            stack.extend(value.values())
        elif kind is list:
            stack.extend(value)
        elif kind is str and not value.isascii():
            text.other.append(value)
            size -= len(value.encode())
    return size


def bound_texts(texts: Collection[str]) -> tuple[int, bool]:
    """Return the bound of non-ASCII strings, and whether it is exact. An inexact bound is their UTF-8 bytes."""
    if sum(map(len, texts)) > EXACT_BYTES_MAX // UTF8_BYTES_MAX:
        size = sum(len(text.encode()) for text in texts)
        if size > EXACT_BYTES_MAX:
            return size, False
    return sum(map(string_bound, texts)), True


def prompt_bound(
    text: TextSize,
    *,
    messages: int,
    parts: int = 0,
    definitions: int = 0,
    tools: int = 0,
    extra_bytes: int = 0,
    context_window_tokens: int | None,
) -> tuple[int, tuple[str, ...]]:
    """Return the most prompt tokens that a request can cost, and the texts that it counts by their bytes only.

    `text` is the size of all strings in its messages, and `parts` the maximum tokens of its image, audio and file
    parts. `definitions` is the bound of its tools and formats, `tools` their number, and `extra_bytes` the size of the
    operator's extra fields, whose use is unknown.
    """
    texts = text.other
    text_bytes, is_exact = bound_texts(texts) if texts else (0, True)
    bound = REQUEST_TOKENS + MESSAGE_TOKENS * messages + text.ascii_bytes + text_bytes + parts + definitions
    bound += EXTRA_FIELD_FACTOR * extra_bytes
    if tools:
        bound += TOOLS_TOKENS + TOOL_TOKENS * tools
    if context_window_tokens is not None and bound >= context_window_tokens:
        return context_window_tokens, ()
    return bound, () if is_exact else tuple(texts)
