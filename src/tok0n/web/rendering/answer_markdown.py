"""Convert a model's response, which is untrusted, from Markdown to HTML. Code blocks get a button that copies them.

Raw HTML stays text, images become links, and links lead only to web pages and email addresses. The result has no
scripts, styles or other elements that load something.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

CHARACTERS_MAX = 20_000
"""A longer response is shown as it is, because converting it would take too long."""

BRACKETS_MAX = 1_000
"""The parser searches the end of a link from each opening bracket."""

_SCHEMES = ("http://", "https://", "mailto:")
_HEADING_LEVELS_ABOVE = 2
"""The page has headings of two levels above those of a response."""

_HEADING_LEVEL_MAX = 6


def render_answer(text: str, *, id_prefix: str) -> Markup:
    """Return the HTML of a response. The ids of its code blocks begin with `id_prefix`."""
    if len(text) > CHARACTERS_MAX or text.count("[") > BRACKETS_MAX:
        return Markup('<p class="plain">{}</p>').format(text)
    markdown = _markdown()
    tokens = markdown.parse(text)
    for token in tokens:
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{min(_HEADING_LEVEL_MAX, int(token.tag[1:]) + _HEADING_LEVELS_ABOVE)}"
        elif token.type in {"th_open", "td_open"} and str(token.attrs.pop("style", "")).endswith("right"):
            token.attrSet("class", "number")  # pages allow no inline styles
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("rel", "nofollow noopener noreferrer")
                child.attrSet("target", "_blank")
    html: str = markdown.renderer.render(tokens, markdown.options, {"id_prefix": id_prefix})
    return Markup(html)  # noqa: S704  rendered without raw HTML


@cache
def _markdown() -> "MarkdownIt":
    from markdown_it import MarkdownIt  # noqa: PLC0415  slow to import

    markdown = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    markdown.disable("image")
    markdown.add_render_rule("fence", _render_code)
    markdown.add_render_rule("code_block", _render_code)
    markdown.add_render_rule("table_open", lambda *_: '<table tabindex="0">')
    markdown.validateLink = _is_safe  # type: ignore[method-assign]
    return markdown


def _is_safe(url: str) -> bool:
    return url.strip().lower().startswith(_SCHEMES)


def _render_code(_: Any, tokens: Sequence["Token"], index: int, __: Any, env: dict[str, str]) -> str:
    code_id = f"{env['id_prefix']}-code-{index}"
    language = tokens[index].info.strip().split(" ")[0]
    return Markup(
        '<div class="snippet"><pre class="code" id="{}" tabindex="0"{}><code>{}</code></pre>'
        '<button class="button copy" type="button" data-copy="{}" hidden>Copy</button></div>\n'
    ).format(
        code_id,
        Markup(' data-language="{}"').format(escape(language)) if language else "",
        tokens[index].content.removesuffix("\n"),
        code_id,
    )
