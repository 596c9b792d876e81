"""Search the guide: each section whose text has all words of the query, best first, with a highlighted excerpt."""

import re
from collections.abc import Iterable, Sequence

import msgspec
from markupsafe import Markup

from tok0n.web.public.guide import Guide, GuidePage
from tok0n.web.public.guide_rendering import Section, sections_of

QUERY_CHARACTERS_MAX = 100
WORDS_MAX = 8
RESULTS_MAX = 20
EXCERPT_CHARACTERS = 220
"""About how much of a section's text a result shows."""

_TITLE_SCORE = 40
_HEADING_SCORE = 20
_WHOLE_WORD_SCORE = 4
_COUNT_MAX = 5
"""Further occurrences of a word in a section don't count."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """A section that matches. `heading` and `excerpt` have the words of the query in <mark>."""

    page: GuidePage
    anchor: str
    heading: Markup
    excerpt: Markup


class _Entry(msgspec.Struct, frozen=True, kw_only=True):
    page: GuidePage
    section: Section
    heading: str
    text: str


class GuideSearch:
    """Finds sections of a guide. The first search builds the index, which has the models of that time."""

    def __init__(self, guide: Guide) -> None:
        self._guide = guide
        self._entries: list[_Entry] | None = None

    def find(self, query: str) -> list[Result]:
        """Return at most `RESULTS_MAX` sections with all words of the query. Case doesn't matter."""
        words = words_of(query)
        if not words:
            return []
        if self._entries is None:
            self._entries = list(_entries(self._guide))
        scored = [(score, entry) for entry in self._entries if (score := _score(entry, words))]
        scored.sort(key=lambda item: -item[0])  # stable: equal scores keep the order of the guide
        return [_result(entry, words) for _, entry in scored[:RESULTS_MAX]]


def words_of(query: str) -> list[str]:
    """Return the words to search for, in lower case."""
    return list(dict.fromkeys(query[:QUERY_CHARACTERS_MAX].lower().split()))[:WORDS_MAX]


def _entries(guide: Guide) -> Iterable[_Entry]:
    for page in guide.pages:
        for section in sections_of(guide.text(page)):
            heading = f"{page.title} {section.heading.text}".lower()
            yield _Entry(page=page, section=section, heading=heading, text=section.text.lower())


def _score(entry: _Entry, words: Sequence[str]) -> int:
    """Return how well a section matches, or 0 if it lacks a word."""
    total = 0
    for word in words:
        count = entry.text.count(word)
        in_heading = word in entry.heading
        if not count and not in_heading:
            return 0
        total += min(count, _COUNT_MAX)
        if in_heading:
            total += _TITLE_SCORE if entry.section.heading.level == 1 else _HEADING_SCORE
        if re.search(rf"(?<!\w){re.escape(word)}(?!\w)", entry.text):
            total += _WHOLE_WORD_SCORE
    return total


def _result(entry: _Entry, words: Sequence[str]) -> Result:
    return Result(
        page=entry.page,
        anchor="" if entry.section.heading.level == 1 else entry.section.heading.anchor,
        heading=highlight(entry.section.heading.text, words),
        excerpt=highlight(_excerpt(entry.section.text, words), words),
    )


def _excerpt(text: str, words: Sequence[str]) -> str:
    """Return the part of a text around the first of the words."""
    if len(text) <= EXCERPT_CHARACTERS:
        return text
    lower = text.lower()
    first = min((index for word in words if (index := lower.find(word)) >= 0), default=0)
    start = max(0, first - EXCERPT_CHARACTERS // 3)
    start = text.rfind(" ", 0, start) + 1 if start else 0
    end = text.find(" ", start + EXCERPT_CHARACTERS)
    end = len(text) if end < 0 else end
    return f"{'… ' if start else ''}{text[start:end]}{' …' if end < len(text) else ''}"


def highlight(text: str, words: Sequence[str]) -> Markup:
    """Return the text as HTML, with the words in <mark>."""
    pattern = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
    pieces = re.split(f"({pattern})", text, flags=re.IGNORECASE)
    html = Markup()
    for number, piece in enumerate(pieces):
        html += Markup("<mark>{}</mark>").format(piece) if number % 2 else piece
    return html
