"""Streams of response events as upstreams send them, and what Tok0n makes of them."""

import json
from typing import Any

from tok0n.domain.catalogue import Model, Route
from tok0n.domain.endpoints.responses_stream import ResponsesStreamReader
from tok0n.domain.metered_request import MeteredRequest, StreamOptions
from tok0n.domain.scrub import scrub

BYTES_MAX = 20_000
THEIR_MODEL = "gpt-4o-2024-08-06"
ROUTE = Route(upstream="u", upstream_model=THEIR_MODEL)
MODEL = Model(id="m", routes=(ROUTE,), max_output_tokens=10, default_output_tokens=10, endpoints=("responses",))

USAGE = {
    "input_tokens": 5,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": 7,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 12,
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "in_progress",
    "error": None,
    "incomplete_details": None,
    "instructions": "Be brief.",
    "model": THEIR_MODEL,
    "output": [],
    "tools": [],
    "usage": None,
}
ITEM = {"id": "msg_1", "type": "message", "status": "in_progress", "role": "assistant", "content": []}
PART = {"type": "output_text", "text": "", "annotations": []}


def event(kind: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """Return an event. `number` is its sequence number."""
    return {"type": kind, "sequence_number": number} | more


def response_event(kind: str, number: int = 0, **more: Any) -> dict[str, Any]:
    """Return an event with the whole response. `more` changes the response."""
    return event(f"response.{kind}", number, response=RESPONSE | {"status": kind} | more)


def delta(text: str, number: int = 0, **more: Any) -> dict[str, Any]:
    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    return event("response.output_text.delta", number, **place, delta=text, logprobs=[], **more)


CREATED = response_event("created", 0, status="in_progress")
IN_PROGRESS = response_event("in_progress", 1)
ITEM_ADDED = event("response.output_item.added", 2, output_index=0, item=ITEM)
PART_ADDED = event("response.content_part.added", 3, item_id="msg_1", output_index=0, content_index=0, part=PART)
HELLO = delta("Hello", 4, obfuscation="abc")
WORLD = delta(" wörld \\ud83d 'model'", 5)
OUTPUT = [ITEM | {"status": "completed", "content": [PART | {"text": "Hello wörld"}]}]
ITEM_DONE = event("response.output_item.done", 6, output_index=0, item=OUTPUT[0])
COMPLETED = response_event("completed", 7, usage=USAGE, output=OUTPUT)
INCOMPLETE = response_event("incomplete", 7, usage=USAGE, incomplete_details={"reason": "max_output_tokens"})
BEGINNING = [CREATED, IN_PROGRESS, ITEM_ADDED, PART_ADDED]


def failed(number: int = 7, **error: Any) -> dict[str, Any]:
    """Return `response.failed`."""
    return response_event("failed", number, error={"message": f"{THEIR_MODEL} says secret"} | error)


def body_of(*events: Any, is_named: bool = True, encode: Any = json.dumps) -> bytes:
    """Return the body of a stream. A string is data that has no name."""
    texts = []
    for values in events:
        text = values if isinstance(values, str) else encode(values)
        name = f"event: {values['type']}\n" if is_named and isinstance(values, dict) and "type" in values else ""
        texts.append(f"{name}data: {text}\n\n")
    return "".join(texts).encode()


def request_of() -> MeteredRequest:
    return MeteredRequest(
        model=MODEL,
        route=ROUTE,
        upstream_body=b"",
        prompt_bound=1,
        output_limit=1,
        n=1,
        prediction_bytes=0,
        stream=StreamOptions(),
        limit_field="max_output_tokens",
    )


def reader() -> ResponsesStreamReader:
    return ResponsesStreamReader(request_of(), event_bytes_max=BYTES_MAX, scrub=lambda text: scrub(text, ["secret"]))


def read(body: bytes, *, piece_bytes: int = BYTES_MAX, is_cut: bool = False) -> tuple[ResponsesStreamReader, bytes]:
    """Return the reader and its output after a whole body. `is_cut`: the body has no clean end."""
    stream = reader()
    output = b"".join(stream.feed(body[at : at + piece_bytes]) for at in range(0, len(body), piece_bytes))
    return stream, output + (b"" if is_cut else stream.end())


def events_of(output: bytes) -> list[Any]:
    """Return the decoded data of events. Checks that each is named by its type."""
    parts = output.decode().split("\n\n")
    assert parts.pop() == ""
    events = []
    for part in parts:
        name, _, data = part.partition("\n")
        values = json.loads(data.removeprefix("data: "))
        assert name == f"event: {values['type']}"
        events.append(values)
    return events


def ours(*events: dict[str, Any]) -> list[Any]:
    """Return events as the client gets them: with the public model."""
    return [
        values | {"response": values["response"] | {"model": "m"}} if "response" in values else values
        for values in events
    ]
