"""Render only the texts of a stream, for the playground: a page needs no code for the events of each endpoint.

The events are JSON objects with one member: `text`, then either `receipt` or `error`.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from tok0n.domain.answer_json import decode
from tok0n.domain.endpoints.endpoint import Endpoint, StreamReader
from tok0n.domain.errors import Tok0nError
from tok0n.domain.ledger import Receipt
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.stream import EventParser
from tok0n.domain.usage import Usage

KEEP_ALIVE = b": keep-alive\n\n"


def with_text_stream(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint with streams that have only texts. It must have an example, and may have no streams."""
    example, read_stream = endpoint.example, endpoint.read_stream
    assert example is not None
    if read_stream is None:
        return endpoint

    def read_text_stream(
        request: MeteredRequest, *, event_bytes_max: int, scrub: Callable[[str], str]
    ) -> "TextStreamReader":
        reader = read_stream(request, event_bytes_max=event_bytes_max, scrub=scrub)
        return TextStreamReader(reader, example.read_delta, event_bytes_max=event_bytes_max)

    return msgspec.structs.replace(endpoint, read_stream=read_text_stream)


class TextStreamReader:
    """Reads a stream with the reader of its endpoint, which decides how it ends. Implements `StreamReader`."""

    def __init__(self, reader: StreamReader, read_delta: Callable[[Any], str], *, event_bytes_max: int) -> None:
        self._reader = reader
        self._read_delta = read_delta
        # The reader may have lengthened an event, by the public model, or by the name of the event.
        self._parser = EventParser(event_bytes_max=2 * event_bytes_max)

    @property
    def events_read(self) -> int:
        """How many events were read."""
        return self._reader.events_read

    @property
    def has_content(self) -> bool:
        """Whether an event with content was read."""
        return self._reader.has_content

    @property
    def usage(self) -> Usage | None:
        """The last valid report."""
        return self._reader.usage

    @property
    def is_complete(self) -> bool:
        """Whether the answer is complete and has a valid report."""
        return self._reader.is_complete

    @property
    def has_ended(self) -> bool:
        """Whether the upstream has said that the stream is over."""
        return self._reader.has_ended

    @property
    def failure(self) -> Tok0nError | None:
        """Why the stream can't be charged."""
        return self._reader.failure

    def feed(self, piece: bytes) -> bytes:
        """Read bytes as they arrive. Returns an event with the text that they add, if any."""
        return self._render(self._reader.feed(piece))

    def end(self) -> bytes:
        """Read the clean end of the body."""
        return self._render(self._reader.end())

    def render_completion(self, receipt: Receipt) -> bytes:
        """Render the receipt."""
        charge = {"reserved": receipt.reserved, "charged": receipt.charged, "available": receipt.balance.available}
        return _event({"receipt": charge})

    def render_failure(self, error: Tok0nError, *, request_id: str) -> bytes:
        """Render the customer's message."""
        return _event({"error": error.message})

    def render_keep_alive(self) -> bytes:
        """Render a comment."""
        return KEEP_ALIVE

    def _render(self, events: bytes) -> bytes:
        text = "".join(self._read_delta(decode(event.data)) for event in self._parser.feed(events))
        return _event({"text": text}) if text else b""


def _event(values: dict[str, Any]) -> bytes:
    # Unlike msgspec, `json` also encodes the lone surrogates that upstreams send.
    return b"data: %b\n\n" % json.dumps(values).encode()
