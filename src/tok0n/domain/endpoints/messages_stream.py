"""Read a stream of message events of an upstream, and render what the client gets.

Source: Anthropic API reference, "Streaming messages". A client takes the `message_delta` with the reason to stop, or
`message_stop`, for the end, so these wait for the settlement. An event with content is decoded only as far as `_Head`,
which has the members that decide what it means. That is exact, and faster than decoding the whole event.
"""

from typing import Any

import msgspec

from tok0n.domain.answer_json import decode
from tok0n.domain.endpoints.error_shapes import render_anthropic_error
from tok0n.domain.endpoints.event_reader import TypedEventReader, is_utf8
from tok0n.domain.endpoints.messages_usage import StreamUsage
from tok0n.domain.errors import InvalidRequest, Tok0nError
from tok0n.domain.ledger import Receipt
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.stream import Event
from tok0n.domain.upstream_failures import Scrub, invalid_response

MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
"""What ends a complete answer whose upstream broke off before it sent this event."""

KEEP_ALIVE = b'event: ping\ndata: {"type": "ping"}\n\n'
"""An event, because the idle clocks of clients ignore comments."""

_START, _DELTA, _STOP, _ERROR = "message_start", "message_delta", "message_stop", "error"
_DECISIVE = frozenset({_START, _DELTA, _STOP, _ERROR})
"""The types of events that can hold usage, an end or an error."""

_DECISIVE_NAMES = frozenset(kind.encode() for kind in _DECISIVE)
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_ABSENT = msgspec.Raw(b"")


class _Head(msgspec.Struct, gc=False):
    """The members that decide what an event means."""

    type: str
    error: Any = None
    model: Any = None
    message: msgspec.Raw = _ABSENT


_decode_head = msgspec.json.Decoder(_Head).decode
_encode = msgspec.json.Encoder().encode


class MessagesStreamReader(TypedEventReader):
    """Reads one stream. Implements `StreamReader`."""

    _answer_member = "message"

    def __init__(self, request: MeteredRequest, *, event_bytes_max: int, scrub: Scrub) -> None:
        super().__init__(request, event_bytes_max=event_bytes_max, scrub=scrub)
        self._deferred_bytes_max = event_bytes_max
        self._usage = StreamUsage()
        self._is_stopped = False
        self._deferred: list[bytes] = []
        self._deferred_bytes = 0

    def render_completion(self, receipt: Receipt) -> bytes:
        """Render the deferred events. The last is `message_stop`, even if the upstream sent none."""
        deferred = b"".join(self._deferred)
        return deferred if self._is_ended() else deferred + MESSAGE_STOP

    def render_failure(self, error: Tok0nError, *, request_id: str) -> bytes:
        """Render the error event. No event may follow it."""
        param = error.param if isinstance(error, InvalidRequest) else None
        body = render_anthropic_error(message=error.message, code=error.code, param=param, request_id=request_id)
        return b"event: error\ndata: %b\n\n" % body

    def render_keep_alive(self) -> bytes:
        """Render a ping."""
        return KEEP_ALIVE

    def _is_ended(self) -> bool:
        return bool(self._deferred) and self._deferred[-1].startswith(b"event: message_stop\n")

    def _read(self, event: Event) -> bytes:
        """Return what the client gets of an event."""
        data, name = event.data, event.name
        try:
            head = _decode_head(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._read_values(event, decode(data))
        if (
            not self.has_content
            or self._is_stopped
            or head.type in _DECISIVE
            or head.message is not _ABSENT
            or head.error is not None
            or head.model is not None
            or not (data.isascii() or is_utf8(data))
            or (name is not None and (name in _DECISIVE_NAMES or not name.isascii()))
        ):
            return self._read_values(event, decode(data))
        return self._render(event, head.type)

    def _read_values(self, event: Event, values: Any) -> bytes:
        """Return what the client gets of a decoded event."""
        name = event.name
        kind = values.get("type") if type(values) is dict else None
        if event.data.strip() == b"[DONE]":
            self._fail_early()
        elif type(kind) is not str or kind == _ERROR or values.get("error") is not None:
            self._fail_as_reported(values)
        elif name is not None and (not name.isascii() or (name in _DECISIVE_NAMES and name.decode() != kind)):
            self._fail_as_reported(values if name == b"error" else None)
        elif kind == _START and type(values.get("message")) is not dict:
            self._fail_as_reported(None)
        else:
            self._set_model(event, values)
            output = self._render(event, kind)
            self._read_state(kind, values)
            if self.failure is None:
                return self._defer(output) if self._is_deferred(kind) else output
        return b""

    def _render(self, event: Event, kind: str) -> bytes:
        """Render an event, with its type as its name if it has none."""
        if event.name is None:
            event.name = _name_of(kind)
            if event.name is None:
                self._fail_as_reported(None)
                return b""
        return event.render()

    def _read_state(self, kind: str, values: dict[str, Any]) -> None:
        """Read the usage, and whether the event begins the content or ends the answer."""
        if self.failure is not None:
            return
        if kind == _START:
            self._usage.read_start(values["message"].get("usage"))
        elif kind == _DELTA:
            self._read_delta(values)
        elif kind == _STOP:
            self._is_stopped = True
            self._finish()
        elif not self.has_content:
            self.has_content = _has_content(kind, values)

    def _read_delta(self, values: dict[str, Any]) -> None:
        delta = values.get("delta")
        if type(delta) is dict and delta.get("stop_reason") is not None:
            self._is_stopped = True
        usage = self._usage.read_delta(values.get("usage"))
        if usage is not None:
            self.usage = usage
            if self._is_stopped:
                self.is_complete = self.has_content = True

    def _is_deferred(self, kind: str) -> bool:
        """Whether the client may only see the event after the settlement: from the reason to stop on, except pings."""
        return self._is_stopped and kind != "ping"

    def _defer(self, output: bytes) -> bytes:
        self._deferred_bytes += len(output)
        if self._deferred and self._deferred_bytes > self._deferred_bytes_max:
            self._fail(invalid_response(200, "with too many events after the end of the message"))
        else:
            self._deferred.append(output)
        return b""


def _has_content(kind: str, values: dict[str, Any]) -> bool:
    """Whether an event says something, or starts a block that isn't text or thinking."""
    if kind == "content_block_delta":
        delta = values.get("delta")
        return type(delta) is dict and any(name != "type" and value not in _EMPTY for name, value in delta.items())
    if kind != "content_block_start":
        return False
    block = values.get("content_block")
    if type(block) is not dict:
        return False
    if block.get("type") not in ("text", "thinking"):
        return True
    return any(name != "type" and value not in _EMPTY for name, value in block.items())


def _name_of(kind: str) -> bytes | None:
    """Return a type as the name of an event, or None if it can't be one."""
    return kind.encode() if kind.isascii() and kind.isprintable() and kind else None
