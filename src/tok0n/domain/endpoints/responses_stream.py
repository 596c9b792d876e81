"""Read a stream of response events of an upstream, and render what the client gets.

Source: OpenAI API reference, "Streaming events" of responses. A client takes `response.completed` or
`response.incomplete` for the end, so these wait for the settlement. Any other event is decoded only as far as `_Head`,
which has the members that decide what it means. That is exact, and faster than a search for the bytes of their names.
"""

import functools
import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from tok0n.domain.answer_json import decode
from tok0n.domain.endpoints.event_reader import TypedEventReader, is_utf8
from tok0n.domain.errors import InvalidRequest, Tok0nError
from tok0n.domain.ids import request_time_us
from tok0n.domain.ledger import Receipt
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.stream import Event
from tok0n.domain.upstream_failures import (
    Scrub,
    invalid_response,
    read_message_in_stream,
)
from tok0n.domain.usage import Usage, UsageNames, read_usage

FINISHED = ("completed", "incomplete", None)
"""The values of `status` in a response that is billed. Some upstreams omit it."""

KEEP_ALIVE = b": keep-alive\n"
"""A comment of one line, between two events."""

KEPT_MEMBER_CHARACTERS_MAX = 1_024
"""The error event repeats the members of the response in `response.created` up to this length each, as JSON.

Longer lists become empty, and other longer values become null, because each open stream keeps these members in memory.
"""

_CREATED = "response.created"
_FAILED = "response.failed"
_ENDS = frozenset({"response.completed", "response.incomplete"})
_DECISIVE = _ENDS | {"error", _FAILED, "response.cancelled"}
"""The types of events that end a stream."""

_DECISIVE_NAMES = frozenset(kind.encode() for kind in _DECISIVE)
_WITHOUT_CONTENT = frozenset(
    {
        _CREATED,
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
    }
)
_USAGE_NAMES = UsageNames(
    prompt="input_tokens",
    completion="output_tokens",
    details=("input_tokens_details", "output_tokens_details"),
)
_CODE = re.compile(r"[a-z_]{1,64}")
_ABSENT = msgspec.Raw(b"")


class _Head(msgspec.Struct, gc=False):
    """The members that decide what an event means."""

    type: str
    sequence_number: Any = None
    error: Any = None
    model: Any = None
    response: msgspec.Raw = _ABSENT


_decode_head = msgspec.json.Decoder(_Head).decode
_encode = msgspec.json.Encoder().encode


def read_response_usage(values: Mapping[str, Any]) -> Usage | None:
    """Return the usage in a decoded response, or None if it is missing or impossible."""
    return read_usage(values.get("usage"), _USAGE_NAMES)


class ResponsesStreamReader(TypedEventReader):
    """Reads one stream. Implements `StreamReader`."""

    _answer_member = "response"

    def __init__(self, request: MeteredRequest, *, event_bytes_max: int, scrub: Scrub) -> None:
        super().__init__(request, event_bytes_max=event_bytes_max, scrub=scrub)
        self._sequence_number = -1
        """The number of the last relayed event that has one."""
        self._created: dict[str, Any] = {}
        """The short members of the response in the relayed `response.created`."""
        self._failed: dict[str, Any] = {}
        """The upstream's event with a response that failed."""
        self._end = b""

    def render_completion(self, receipt: Receipt) -> bytes:
        """Render the upstream's last event."""
        return self._end

    def render_failure(self, error: Tok0nError, *, request_id: str) -> bytes:
        """Render `response.failed`: the upstream's with its scrubbed words, or ours. No event may follow it."""
        if self._failed:
            return _render(self._failed | {"type": _FAILED, "response": self._failed_response(error)})
        created = self._created or {
            "id": f"resp_{request_id.removeprefix('req_')}",
            "object": "response",
            "created_at": (request_time_us(request_id) or 0) // 1_000_000,
            "model": self._public_model,
            "output": [],
        }
        failed = {"status": "failed", "error": {"code": _code_of(error), "message": error.message}, "usage": None}
        return _render(
            {"type": _FAILED, "sequence_number": self._sequence_number + 1, "response": {**created, **failed}}
        )

    def render_keep_alive(self) -> bytes:
        """Render an event, because Codex ignores comments. Before `response.created`, SDKs accept only a comment.

        The event repeats the last number, so that the upstream's events keep theirs.
        """
        if not self._created:
            return KEEP_ALIVE
        return _render({"type": "keepalive", "sequence_number": self._sequence_number})

    def _read(self, event: Event) -> bytes:
        """Return what the client gets of an event."""
        data, name = event.data, event.name
        try:
            head = _decode_head(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._read_values(event, decode(data))
        if (
            not self.has_content
            or head.type in _DECISIVE
            or head.response is not _ABSENT
            or head.error is not None
            or head.model is not None
            or not (data.isascii() or is_utf8(data))
            or (name is not None and (name in _DECISIVE_NAMES or not name.isascii()))
        ):
            return self._read_values(event, decode(data))
        return self._relay(event, head.type, head.sequence_number)

    def _read_values(self, event: Event, values: Any) -> bytes:
        """Return what the client gets of a decoded event."""
        name = event.name
        kind = values.get("type") if type(values) is dict else None
        if event.data.strip() == b"[DONE]":
            self._fail_early()
        elif type(kind) is not str or kind == "error" or values.get("error") is not None:
            self._fail_as_reported(values)
        elif name is not None and (not name.isascii() or (name in _DECISIVE_NAMES and name != kind.encode())):
            self._fail_as_reported(None)
        elif kind in _DECISIVE:
            self._read_end(event, kind, values)
        else:
            return self._relay_values(event, kind, values)
        return b""

    def _relay_values(self, event: Event, kind: str, values: dict[str, Any]) -> bytes:
        """Relay an event that ends nothing, with the public model. Remember what it changes."""
        self._set_model(event, values)
        output = self._relay(event, kind, values.get("sequence_number"))
        response = values.get("response")
        if output and kind == _CREATED and type(response) is dict:
            self._created = {name: _shortened(value) for name, value in response.items()}
            self._created["model"] = self._public_model
        if kind.startswith("response.") and kind not in _WITHOUT_CONTENT:
            self.has_content = self.has_content or values.get("delta") != ""
        return output

    def _relay(self, event: Event, kind: str, sequence_number: Any) -> bytes:
        """Render an event, with its type as its name if it has none."""
        if event.name is None:
            event.name = _name_of(kind)
            if event.name is None:
                self._fail_as_reported(None)
                return b""
        if type(sequence_number) is int:
            self._sequence_number = sequence_number
        return event.render()

    def _read_end(self, event: Event, kind: str, values: dict[str, Any]) -> None:
        """Read an event that ends the stream. The client gets it once the charge is stored."""
        response = values.get("response")
        error = response.get("error") if type(response) is dict else None
        if kind not in _ENDS or type(response) is not dict or error is not None:
            if type(response) is dict:
                self._failed = values
            self._fail_as_reported({"error": error})
        elif response.get("status") not in FINISHED:
            self._fail(invalid_response(200, "with a response that is neither completed nor incomplete"))
        else:
            self.usage = read_response_usage(response)
            self._finish()
            if self.has_ended:
                self._set_model(event, values)
                event.name = kind.encode()
                self._end = event.render()

    def _failed_response(self, error: Tok0nError) -> dict[str, Any]:
        """Return the response of the upstream's `response.failed`, with words that the customer may read."""
        response = self._failed["response"]
        reported = response.get("error")
        message = read_message_in_stream(
            {"error": reported},
            public_model=self._public_model,
            upstream_model=self._upstream_model,
            scrub=self._scrub,
        )
        code = reported.get("code") if type(reported) is dict else None
        if message is None:
            code, message = _code_of(error), error.message
        elif type(code) is not str or _CODE.fullmatch(code) is None or self._scrub(code) != code:
            code = _code_of(error)
        failed = {"model": self._public_model, "status": "failed", "error": {"code": code, "message": message}}
        return {**response, **failed}


def _code_of(error: Tok0nError) -> str:
    """Return the code of an error event. `invalid_prompt` is OpenAI's word for input that no repetition can fix."""
    return "invalid_prompt" if isinstance(error, InvalidRequest) else error.code


def _shortened(value: Any) -> Any:
    """Return a member of a response, or an empty value if it is long."""
    if len(json.dumps(value)) <= KEPT_MEMBER_CHARACTERS_MAX:
        return value
    return [] if type(value) is list else None


def _render(values: dict[str, Any]) -> bytes:
    """Render an event. Unlike msgspec, `json` also encodes what upstreams send beside valid JSON."""
    text = json.dumps(values, separators=(",", ":"))
    return b"event: %b\ndata: %b\n\n" % (values["type"].encode(), text.encode())


@functools.lru_cache(maxsize=256)
def _name_of(kind: str) -> bytes | None:
    """Return the `event` line of a type, or None if it doesn't fit in one."""
    return kind.encode() if kind.isascii() and kind.isprintable() and kind.strip() == kind != "" else None
