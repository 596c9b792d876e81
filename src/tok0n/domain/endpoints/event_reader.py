"""What the readers of all streams share: parsing, the end of a body, and how a stream fails.

A subclass reads one event at a time. `TypedEventReader` is for the APIs whose events have a `type` and an `event` line.
"""

from typing import Any, ClassVar

import msgspec

from tok0n.domain.answer_json import decode, splice_inner_member, splice_member
from tok0n.domain.errors import Tok0nError, UpstreamFailed
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.stream import Event, EventParser
from tok0n.domain.upstream_failures import Scrub, invalid_response, missing_usage, read_error_in_stream
from tok0n.domain.usage import Usage

_encode = msgspec.json.Encoder().encode


class EventReader:
    """Reads one stream. Implements `feed`, `end` and the attributes of `StreamReader`."""

    def __init__(self, request: MeteredRequest, *, event_bytes_max: int, scrub: Scrub) -> None:
        self.events_read = 0
        self.has_content = False
        self.usage: Usage | None = None
        self.is_complete = False
        self.has_ended = False
        self.failure: Tok0nError | None = None
        self._parser = EventParser(event_bytes_max=event_bytes_max)
        self._scrub = scrub
        self._public_model = request.model.id
        self._upstream_model = request.route.upstream_model
        self._public_model_json = _encode(self._public_model)

    def feed(self, piece: bytes) -> bytes:
        """Read bytes as they arrive. Returns the whole events to relay now."""
        if self._is_over():
            return b""
        return self._read_all(self._parser.feed(piece))

    def end(self) -> bytes:
        """Read the clean end of the body. Sets `failure` unless the answer is complete."""
        if self._is_over():
            return b""
        output = self._read_all(self._parser.end())
        if self._parser.is_document:
            self._fail_as_reported(decode(self._parser.document))
        elif not self._is_over():
            self._fail_early()
        return output

    def _read(self, event: Event) -> bytes:
        """Return what the client gets of an event."""
        raise NotImplementedError

    def _is_over(self) -> bool:
        return self.has_ended or self.failure is not None

    def _read_all(self, events: list[Event]) -> bytes:
        output = []
        self.events_read += len(events)
        for event in events:
            output.append(self._read(event))
            if self.has_ended or self.failure is not None:
                break
        else:
            if self._parser.is_too_long:
                self._fail(invalid_response(200, "with an event that is too long"))
        return b"".join(output)

    def _finish(self) -> None:
        """Handle the upstream's marker of the end of the stream."""
        if self.usage is None:
            self._fail(missing_usage())
        else:
            self.is_complete = self.has_ended = self.has_content = True

    def _fail_early(self) -> None:
        self._fail(
            UpstreamFailed(
                "The upstream provider ended its response too early.",
                detail="the stream ended before the answer was complete",
                outcome_unknown=True,
                status=200,
            )
        )

    def _fail_as_reported(self, values: Any) -> None:
        """Fail with the error in an event or in a body. Without one, the upstream sent something else."""
        error = read_error_in_stream(
            values,
            is_early=not self.has_content,
            public_model=self._public_model,
            upstream_model=self._upstream_model,
            scrub=self._scrub,
        )
        self._fail(error)

    def _fail(self, error: Tok0nError) -> None:
        """End the stream. What follows a complete answer, or a failure, doesn't change it."""
        if self.is_complete:
            self.has_ended = True
        elif self.failure is None:
            self.failure = error


class TypedEventReader(EventReader):
    """Reads a stream whose events have a `type`. `_answer_member` is the member with the answer and its model."""

    _answer_member: ClassVar[str]

    def _set_model(self, event: Event, values: dict[str, Any]) -> None:
        """Set the model of the answer in an event, and of the event if it has one."""
        answer = values.get(self._answer_member)
        if type(answer) is dict and answer.get("model", self._public_model) != self._public_model:
            event.data = splice_inner_member(event.data, self._answer_member, "model", self._public_model_json)
        if values.get("model") not in (None, self._public_model):
            event.data = splice_member(event.data, "model", self._public_model_json)


def is_utf8(text: bytes) -> bool:
    """Whether bytes are valid UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
