"""Streams of messages as upstreams send them, and what Tok0n makes of them."""

import json
from typing import Any

from support.models import make_model
from tok0n.domain.endpoints.messages_stream import MessagesStreamReader
from tok0n.domain.ledger import Balance, Receipt
from tok0n.domain.metered_request import MeteredRequest, StreamOptions
from tok0n.domain.scrub import scrub

BYTES_MAX = 10_000
MODEL = make_model(upstream_model="claude-um", endpoints=("messages",))
RECEIPT = Receipt(request_id="r", reserved=50, charged=12, shortfall=0, balance=Balance(posted=100, pending=7))

ZEROS = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}


def start(usage: Any = None, **more: Any) -> dict[str, Any]:
    """Return `message_start`. By default, its usage is 5 input tokens and 1 output token."""
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-um",
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": 5, "output_tokens": 1} if usage is None else usage,
    }
    return {"type": "message_start", "message": message | more}


def delta(usage: Any = None, stop_reason: Any = "end_turn", **more: Any) -> dict[str, Any]:
    """Return `message_delta`, by default with the reason to stop and without usage."""
    usages = {} if usage is None else {"usage": usage}
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason, "stop_sequence": None}} | usages | more


def text(words: str, index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": words}}


START = start()
PING = {"type": "ping"}
BLOCK = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
BLOCK_STOP = {"type": "content_block_stop", "index": 0}
HELLO = text("Hello")
DELTA = delta({"output_tokens": 7})
STOP = {"type": "message_stop"}


def event_of(event: Any, *, is_named: bool = True) -> bytes:
    """Return one event. A text is the data as it is."""
    if isinstance(event, bytes):
        return event
    if isinstance(event, str):
        return f"data: {event}\n\n".encode()
    data = json.dumps(event, separators=(",", ":"))
    kind = event.get("type") if isinstance(event, dict) else None
    name = f"event: {kind}\n" if is_named and isinstance(kind, str) and kind.isprintable() and kind.isascii() else ""
    return f"{name}data: {data}\n\n".encode()


def body_of(*events: Any, is_named: bool = True) -> bytes:
    return b"".join(event_of(event, is_named=is_named) for event in events)


def reader() -> MessagesStreamReader:
    request = MeteredRequest(
        model=MODEL,
        route=MODEL.routes[0],
        upstream_body=b"",
        prompt_bound=1,
        output_limit=1,
        n=1,
        prediction_bytes=0,
        stream=StreamOptions(),
    )
    return MessagesStreamReader(request, event_bytes_max=BYTES_MAX, scrub=lambda text: scrub(text, ["secret"]))


def read(body: bytes, *, piece_bytes: int = BYTES_MAX, is_cut: bool = False) -> Any:
    """Return the reader and its output after a whole body. `is_cut`: the body has no clean end."""
    stream = reader()
    output = b"".join(stream.feed(body[at : at + piece_bytes]) for at in range(0, len(body), piece_bytes))
    return stream, output + (b"" if is_cut else stream.end())


def ours(*events: Any) -> bytes:
    """Return events as the client gets them: named, with the public model."""
    return body_of(*events).replace(b'"claude-um"', b'"m"')


def anthropic_error(kind: str | None, message: str = "claude-um says secret") -> dict[str, Any]:
    error = {"message": message} | ({} if kind is None else {"type": kind})
    return {"type": "error", "error": error}
