"""Convert the guide's Markdown to HTML and to plain text: anchors for headings, tabs for code in several languages."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import msgspec
from markupsafe import Markup, escape

from tok0n.web.public.guide import page_of_file

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

RENDERED_PAGES_MAX = 128
"""How many rendered pages are cached. A page is rendered again when its text changes, with its model."""

_LANGUAGES = {"sh": "curl", "python": "Python", "js": "JavaScript"}
"""The languages whose code becomes a group of tabs, if nothing stands between."""

_CONTENTS_LEVELS = ("h2", "h3")
"""The headings that "On this page" lists."""


class Heading(msgspec.Struct, frozen=True, kw_only=True):
    """A heading of a page. `level` is 1 for the title."""

    level: int
    text: str
    anchor: str


class RenderedPage(msgspec.Struct, frozen=True, kw_only=True):
    """The HTML of a page, and the headings that "On this page" lists."""

    html: Markup
    contents: tuple[Heading, ...]


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """A heading with the plain text until the next one."""

    heading: Heading
    text: str


@lru_cache(maxsize=RENDERED_PAGES_MAX)
def render(text: str, prefix: str = "") -> RenderedPage:
    """Convert the Markdown of a page to HTML, without raw HTML. Local links get `prefix`."""
    markdown, tokens = _parse(text)
    contents = []
    anchors = _Anchors()
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = _heading(token, tokens[index + 1], anchors)
            token.attrSet("id", heading.anchor)
            if token.tag in _CONTENTS_LEVELS:
                contents.append(heading)
        elif token.type == "table_open":
            token.attrSet("tabindex", "0")
            _label_cells(tokens, index)
        for child in token.children or ():
            if child.type == "link_open":
                _set_target(child, prefix)
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    return RenderedPage(html=Markup(html), contents=tuple(contents))  # noqa: S704  rendered without raw HTML


def sections_of(text: str) -> list[Section]:
    """Return the sections of a page. The first one has the title."""
    _, tokens = _parse(text)
    anchors = _Anchors()
    headings: list[Heading] = []
    texts: list[list[str]] = []
    for index, token in enumerate(tokens):
        if token.type == "heading_open":
            headings.append(_heading(token, tokens[index + 1], anchors))
            texts.append([])
        elif texts and token.type == "fence":
            texts[-1].append(token.content)
        elif texts and token.type == "inline" and tokens[index - 1].type != "heading_open":
            texts[-1].append(_plain(token))
    return [
        Section(heading=heading, text=" ".join(" ".join(parts).split()))
        for heading, parts in zip(headings, texts, strict=True)
    ]


class _Anchors:
    """Numbers the anchors of headings with the same text."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}

    def unique_anchor(self, text: str) -> str:
        anchor = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
        count = self._counts[anchor] = self._counts.get(anchor, 0) + 1
        return anchor if count == 1 else f"{anchor}-{count}"


def _parse(text: str) -> "tuple[MarkdownIt, list[Token]]":
    from markdown_it import MarkdownIt  # noqa: PLC0415  slow to import

    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    markdown.add_render_rule("fence", lambda _, tokens, index, *__: _render_fence(tokens, index))
    markdown.add_render_rule("heading_close", lambda _, tokens, index, *__: _render_heading_close(tokens, index))
    return markdown, markdown.parse(text)


def _heading(token: "Token", inline: "Token", anchors: _Anchors) -> Heading:
    text = _plain(inline)
    return Heading(level=int(token.tag[1:]), text=text, anchor=anchors.unique_anchor(text))


def _label_cells(tokens: Sequence["Token"], table: int) -> None:
    """Give each cell the heading of its column, which a narrow window shows beside it."""
    labels: list[str] = []
    column = 0
    for index in range(table, len(tokens)):
        token = tokens[index]
        if token.type == "table_close":
            return
        if token.type == "tr_open":
            column = 0
        elif token.type == "th_open":
            labels.append(_plain(tokens[index + 1]))
        elif token.type == "td_open":
            token.attrSet("data-label", labels[column])
            column += 1


def _plain(inline: "Token") -> str:
    return "".join(child.content or " " for child in inline.children or ())


def _render_heading_close(tokens: Sequence["Token"], index: int) -> str:
    """Add a link to the heading itself, so that a reader can copy its URL."""
    token = tokens[index]
    if token.tag == "h1":
        return "</h1>\n"
    anchor = escape(str(tokens[index - 2].attrGet("id")))
    return f' <a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a></{token.tag}>\n'


def _render_fence(tokens: Sequence["Token"], index: int) -> str:
    """Render code. Blocks that follow each other in different languages become one group of tabs."""
    first = index
    while first and _is_same_group(tokens[first - 1], tokens[first]):
        first -= 1
    if first < index:
        return ""  # the first block rendered its whole group
    end = index + 1
    while end < len(tokens) and _is_same_group(tokens[end - 1], tokens[end]):
        end += 1
    group = tokens[index:end]
    if len(group) == 1:
        return _code(group[0], index)
    labels = []
    for number, token in enumerate(group):
        language, checked = _LANGUAGES[token.info], "" if number else " checked"
        labels.append(
            f'<label><input type="radio" name="language-{index}" value="{language}" data-language{checked}'
            f' autocomplete="off">{language}</label>'
        )
    blocks = [_code(token, index + number) for number, token in enumerate(group)]
    return (
        f'<div class="snippet-tabs" role="group" aria-label="Example code"><div class="languages">{"".join(labels)}'
        f"</div>{''.join(blocks)}</div>\n"
    )


def _is_same_group(previous: "Token", following: "Token") -> bool:
    are_code = previous.type == following.type == "fence" and previous.level == following.level
    return are_code and previous.info != following.info and {previous.info, following.info} <= _LANGUAGES.keys()


def _code(token: "Token", index: int) -> str:
    pre = f'<pre class="code" id="code-{index}" tabindex="0"><code>{escape(token.content)}</code></pre>'
    button = f'<button class="button copy" type="button" data-copy="code-{index}" hidden>Copy</button>'
    return f'<div class="snippet">{pre}{button}</div>\n'


def _set_target(link: "Token", prefix: str) -> None:
    """Point a link between files at the page of the file, or at /docs if the file has no page."""
    target = str(link.attrGet("href"))
    if "://" in target or target.startswith("#"):
        return
    if target.startswith("/"):
        link.attrSet("href", prefix + target)
        return
    file, _, anchor = target.partition("#")
    page = page_of_file(file)
    path = f"/docs/{page.slug}{'#' + anchor if anchor else ''}" if page else "/docs"
    link.attrSet("href", prefix + path)
