"""Responses of models are untrusted: their Markdown becomes HTML that can neither run nor load anything."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.markdown_attacks import ATTACKS
from tok0n.web.rendering.answer_markdown import BRACKETS_MAX, CHARACTERS_MAX, render_answer

TAGS = {
    "p",
    "h3",
    "h4",
    "h5",
    "h6",
    "ul",
    "ol",
    "li",
    "blockquote",
    "pre",
    "code",
    "em",
    "strong",
    "s",
    "a",
    "hr",
    "br",
}
TAGS |= {"table", "thead", "tbody", "tr", "th", "td", "div", "button"}
ATTRIBUTES = {
    "href",
    "rel",
    "target",
    "title",
    "class",
    "id",
    "tabindex",
    "type",
    "data-copy",
    "data-language",
    "hidden",
}
ATTRIBUTES |= {"start"}


class Reader(HTMLParser):
    """Collects the elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))


def check(html: str) -> None:
    reader = Reader()
    reader.feed(html)
    for tag, attributes in reader.elements:
        assert tag in TAGS, html
        assert attributes.keys() <= ATTRIBUTES, html
        if tag == "a":
            assert re.match(r"(https?://|mailto:)", attributes["href"] or ""), html
            assert attributes["rel"] == "nofollow noopener noreferrer"
            assert attributes["target"] == "_blank"


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("around", ["{}", "- a\n- {}", "> {}", "x {} y", "# A\n\n{}\n\nb"])
def test_an_attack_stays_text(attack: str, around: str) -> None:
    check(str(render_answer(around.format(attack), id_prefix="answer-1")))


@given(
    st.lists(st.sampled_from([*ATTACKS, "\n", "\n\n", "*", "`", "[", "](", ")", "<", ">", "|", "- ", "x"]), max_size=12)
)
def test_any_mix_of_attacks_stays_text(pieces: list[str]) -> None:
    check(str(render_answer("".join(pieces), id_prefix="answer-1")))


def test_markdown_is_rendered() -> None:
    text = "# Title\n\n*a* **b** ~~c~~ `d` [e](https://f.example)\nnext\n\n1. one\n\n```python\nx < 1\n```\n"
    text += "\n|a|\n|-:|\n|1|\n"
    html = str(render_answer(text, id_prefix="answer-3"))
    for part in (
        "<h3>Title</h3>",
        "<em>a</em> <strong>b</strong> <s>c</s> <code>d</code>",
        '<a href="https://f.example" ',
        "<br />",
        "<ol>",
        "<code>x &lt; 1</code></pre>",
        'data-copy="answer-3-code-',
        '<table tabindex="0">',
        '<td class="number">1</td>',
    ):
        assert part in html, part


def test_a_text_that_takes_too_long_to_convert_is_shown_as_it_is() -> None:
    for text in ("<b>" * (CHARACTERS_MAX // 3 + 1), "[" * (BRACKETS_MAX + 1)):
        html = str(render_answer(text, id_prefix="a"))
        assert html.startswith('<p class="plain">')
        assert "<b>" not in html
