"""Read the playground's form, and turn it into the request that an SDK would send."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from markupsafe import Markup

from tok0n.domain.conversation import Exchange, check_size, read_conversation, turns_of, write_conversation
from tok0n.domain.endpoints.example import PROMPT, Draft, Example, Output
from tok0n.domain.errors import InvalidRequest
from tok0n.services.passwords import FormError
from tok0n.web.rendering.answer_markdown import render_answer
from tok0n.web.rendering.snippets import ServedEndpoint

MARKDOWN_CHARACTERS_MAX = 40_000
"""How much text of responses a page converts from Markdown, newest first. It shows the rest as it is."""


class ExchangeView(msgspec.Struct, frozen=True, kw_only=True):
    """An exchange as a page shows it. `number` counts from 1. `counts` are figures of the response by their labels.

    `usd_micros` is the cost of the charged tokens. None if they have no price.
    """

    exchange: Exchange
    number: int
    usd_micros: int | None = None
    is_markdown: bool = True
    counts: tuple[tuple[str, int], ...] = ()

    @property
    def html(self) -> Markup:
        """The response as HTML."""
        if not self.is_markdown:
            return Markup('<p class="plain">{}</p>').format(self.exchange.assistant)
        return render_answer(self.exchange.assistant, id_prefix=f"answer-{self.number}")

    @property
    def json(self) -> str:
        """The exchange for the page's script."""
        return write_conversation([self.exchange])

    @property
    def released(self) -> int:
        """The tokens of the reservation that were released."""
        return max(0, self.exchange.reserved - (self.exchange.charged or 0))


def exchanges_of(form: Mapping[str, str]) -> tuple[Exchange, ...]:
    """Return the conversation of a form, or none if it can't be read."""
    try:
        return read_conversation(form.get("conversation", ""))
    except InvalidRequest:
        return ()


def check_conversation(form: Mapping[str, str], example: Example) -> tuple[Exchange, ...]:
    """Return the exchanges that a request of this endpoint continues. Raises `FormError`."""
    try:
        exchanges = read_conversation(form.get("conversation", ""))
        if not example.form.has_turns:
            return ()
        check_size(exchanges)
    except InvalidRequest as error:
        raise FormError(error.message, field="conversation") from None
    return exchanges


def views_of(exchanges: Sequence[Exchange], costs: Mapping[str, int]) -> list[ExchangeView]:
    """Return the exchanges for a page, which converts only so much Markdown. `costs` are by request id."""
    views = []
    left = MARKDOWN_CHARACTERS_MAX
    for number in range(len(exchanges), 0, -1):
        exchange = exchanges[number - 1]
        left -= len(exchange.assistant)
        usd_micros = costs.get(exchange.request_id)
        view = ExchangeView(exchange=exchange, number=number, usd_micros=usd_micros, is_markdown=left >= 0)
        views.append(view)
    return views[::-1]


def read_body(form: Mapping[str, str], example: Example) -> dict[str, Any]:
    """Return the request body, as an SDK would send it. Raises `FormError`."""
    exchanges = check_conversation(form, example)
    if not form.get("user", "").strip():
        raise FormError(f"Enter a {example.form.text_noun}.", field="user")
    return _make_body(form, example, form["user"], exchanges)


def read_shown_body(form: Mapping[str, str], example: Example) -> dict[str, Any]:
    """Return the body that the code of the page sends. Without a text, it is that of the last exchange, or an example.

    Raises `FormError`.
    """
    exchanges = check_conversation(form, example)
    if form.get("user", "").strip():
        return _make_body(form, example, form["user"], exchanges)
    if exchanges:
        return _make_body(form, example, exchanges[-1].user, exchanges[:-1])
    return _make_body(form, example, PROMPT, ())


def _make_body(form: Mapping[str, str], example: Example, text: str, earlier: Sequence[Exchange]) -> dict[str, Any]:
    system = form.get("system", "") if example.form.system_label else ""
    return example.make_request(
        Draft(
            model=form.get("model", ""),
            text=text,
            system=system if system.strip() else "",
            output_tokens=_read_limit(form, example),
            temperature=_read_temperature(form, example),
            earlier=turns_of(earlier),
        )
    )


def _read_limit(form: Mapping[str, str], example: Example) -> int | None:
    limit = form.get("limit", "").strip() if example.form.has_limit else ""
    if limit and not (limit.isascii() and limit.isdecimal()):
        raise FormError("Enter the output limit as a whole number of tokens.", field="limit")
    if example.form.needs_limit and not limit:
        raise FormError("Enter an output limit. This endpoint requires one.", field="limit")
    return int(limit[:20]) if limit else None


def _read_temperature(form: Mapping[str, str], example: Example) -> float | None:
    text = form.get("temperature", "").strip().replace(",", ".") if example.form.has_turns else ""
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise FormError("Enter the temperature as a number, or leave it empty.", field="temperature")
    return int(value) if value.is_integer() else value


def find_selected(form: Mapping[str, str], served: ServedEndpoint) -> str | None:
    """Return the id of the form's model if the endpoint has it."""
    selected = form.get("model", "")
    return selected if selected in {model.id for model in served.models} else None


def output_text(output: Output) -> str:
    """Return the text of a response, or its JSON if it has none. Lone surrogates become question marks."""
    content = output.content
    try:
        text = content if isinstance(content, str) else json.dumps(content, indent=2, ensure_ascii=False)
    except RecursionError:
        text = "This response is nested too deeply to display."
    return text.encode(errors="replace").decode()
