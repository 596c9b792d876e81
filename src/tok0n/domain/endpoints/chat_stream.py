"""Read a chat stream of an upstream, and render what the client gets.

Source: OpenAI API reference, "The chat completion chunk object". An event is decoded in full, or differs only in
its texts from one that was (`event_template`), so what an event means is never guessed from its bytes.
"""

import json
from typing import Any

import msgspec

from tok0n.domain.answer_json import decode, splice_member
from tok0n.domain.endpoints.error_shapes import render_openai_error
from tok0n.domain.endpoints.event_reader import EventReader
from tok0n.domain.errors import InvalidRequest, Tok0nError
from tok0n.domain.event_template import EventTemplate, make_template
from tok0n.domain.ledger import Receipt
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.stream import Event
from tok0n.domain.upstream_failures import Scrub
from tok0n.domain.usage import read_usage

DONE = b"data: [DONE]\n\n"

_EMPTY: tuple[Any, ...] = (None, "", [], {})
_FINAL_MEMBERS = ("id", "object", "created", "model", "service_tier", "system_fingerprint", "provider")
"""The members that our chunk with the usage takes from the upstream's last chunk with one."""

_encode = msgspec.json.Encoder().encode

KEEP_ALIVE = b": keep-alive\n"
"""A comment of one line, between two events."""


class ChatStreamReader(EventReader):
    """Reads one stream. Implements `StreamReader`."""

    def __init__(self, request: MeteredRequest, *, event_bytes_max: int, scrub: Scrub) -> None:
        super().__init__(request, event_bytes_max=event_bytes_max, scrub=scrub)
        self._model_members: tuple[Any, bytes, bytes] = (None, b"", b"")
        self._choices = request.n
        self._includes_usage = request.stream is not None and request.stream.includes_usage
        self._finished: set[int] = set()
        self._final_chunk: dict[str, Any] = {}
        self._template: EventTemplate | None = None

    def render_completion(self, receipt: Receipt) -> bytes:
        """Render the chunk with the usage, if the customer asked for it, and the last event."""
        if not self._includes_usage:
            return DONE
        charge = {
            "reserved": receipt.reserved,
            "charged": receipt.charged,
            "available": receipt.balance.available,
        }
        usage = self._final_chunk["usage"] | {"tok0n": charge}
        # Unlike msgspec, `json` also encodes what upstreams send beside valid JSON: lone surrogates and NaN.
        chunk = json.dumps(self._final_chunk | {"usage": usage}, separators=(",", ":"))
        return b"data: %b\n\n%b" % (chunk.encode(), DONE)

    def render_failure(self, error: Tok0nError, *, request_id: str) -> bytes:
        """Render the error event. No event may follow it."""
        param = error.param if isinstance(error, InvalidRequest) else None
        body = render_openai_error(message=error.message, code=error.code, param=param)
        return b"data: %b\n\n" % body

    def render_keep_alive(self) -> bytes:
        """Render a comment, which clients ignore."""
        return KEEP_ALIVE

    def _read(self, event: Event) -> bytes:
        """Return what the client gets of an event."""
        if self._template is not None and event.name is None:
            output = self._template.apply(event.data)
            if output is not None:
                return output
        if event.data == b"[DONE]":
            self._finish()
            return b""
        values = decode(event.data)
        choices = values.get("choices") if type(values) is dict else None
        if type(choices) is list and values.get("error") is None and (event.name is None or event.name.isascii()):
            return self._relay(event, values, choices) if self._read_choices(values, choices) else b""
        if values is None and event.data.strip() == b"[DONE]":  # some providers add white space
            self._finish()
        else:
            self._fail_as_reported(values)
        return b""

    def _read_choices(self, values: dict[str, Any], choices: list[Any]) -> bool:
        """Read whether the choices have content or end the answer. Returns False if the stream has failed."""
        has_report = values.get("usage") is not None or values.get("x_groq") is not None
        for position, choice in enumerate(choices):
            if type(choice) is not dict:
                self._fail_as_reported(None)
                return False
            reason = choice.get("finish_reason")
            if choice.get("error") is not None or reason == "error":
                self._fail_as_reported({"error": choice.get("error")})
                return False
            if reason:
                self._finish_choice(choice.get("index"), position)
            elif not self.has_content:
                self.has_content = _has_content(choice.get("delta"))
            if choice.get("usage") is not None:
                has_report = True
        if has_report:
            self._read_usage(values, choices)
        return True

    def _relay(self, event: Event, values: dict[str, Any], choices: list[Any]) -> bytes:
        """Render a chunk with the public model and without usage. A chunk with only usage is withheld."""
        if values.get("usage") is not None:
            if not choices:
                return b""
            event.data = splice_member(event.data, "usage", b"null" if self._includes_usage else None)
        data = event.data
        model = values.get("model")
        if model != self._public_model and "model" in values:
            event.data = self._with_public_model(event.data, model)
        output = event.render()
        if self.has_content and event.name is None and self._is_plain(values, choices):
            self._template = make_template(data, output)
        return output

    def _is_plain(self, values: dict[str, Any], choices: list[Any]) -> bool:
        """Whether events that differ from this one only in their texts change nothing that is remembered."""
        return (
            values.get("usage") is None
            and values.get("x_groq") is None
            and all(choice.get("finish_reason") is None and choice.get("usage") is None for choice in choices)
        )

    def _finish_choice(self, index: Any, position: int) -> None:
        self.has_content = True
        if type(index) is not int:
            index = position
        if 0 <= index < self._choices:
            self._finished.add(index)

    def _read_usage(self, values: dict[str, Any], choices: list[Any]) -> None:
        """Remember the valid report in a chunk, if any, and what our chunk with the usage takes from this one."""
        groq = values.get("x_groq")
        reports = [values.get("usage"), groq.get("usage") if type(groq) is dict else None]
        reports += [choice.get("usage") for choice in choices]
        for report in reports:
            usage = read_usage(report)
            if usage is not None:
                break
        else:
            return
        self.usage = usage
        if len(self._finished) >= self._choices:
            self.is_complete = self.has_content = True
        if self._includes_usage:
            is_whole = not choices and report is values.get("usage")
            members = values if is_whole else {name: values[name] for name in _FINAL_MEMBERS if name in values}
            self._final_chunk = members | {"model": self._public_model, "choices": [], "usage": report}

    def _with_public_model(self, data: bytes, model: Any) -> bytes:
        """Replace the model. Most chunks of a stream have it in the same bytes, and no other member of that name."""
        if type(model) is str and model.isascii() and data.count(b'"model"') == 1 and b"\\u00" not in data:
            member, before, after = self._model_members
            if model != member:
                before, after = b'"model":%b' % _encode(model), b'"model":%b' % self._public_model_json
                self._model_members = model, before, after
            if before in data:
                return data.replace(before, after)
        return splice_member(data, "model", self._public_model_json)


def _has_content(delta: Any) -> bool:
    return type(delta) is dict and any(name != "role" and value not in _EMPTY for name, value in delta.items())
