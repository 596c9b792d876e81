"""Streams of chat completions as upstreams send them, and what Tok0n makes of them."""

import json
from typing import Any

from tok0n.domain.catalogue import Model, Route
from tok0n.domain.endpoints.chat_stream import ChatStreamReader
from tok0n.domain.ledger import Balance, Receipt
from tok0n.domain.metered_request import MeteredRequest, StreamOptions
from tok0n.domain.scrub import scrub

BYTES_MAX = 10_000
ROUTE = Route(upstream="u", upstream_model="gpt-4o-2024-08-06")
MODEL = Model(id="m", routes=(ROUTE,), max_output_tokens=10, default_output_tokens=10)
RECEIPT = Receipt(request_id="r", reserved=50, charged=12, shortfall=0, balance=Balance(posted=100, pending=7))

USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}
HEAD: dict[str, Any] = {
    "id": "c-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "gpt-4o-2024-08-06",
    "system_fingerprint": "fp",
}
DONE = "[DONE]"


def chunk(content: Any = None, *, end: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    """Return a chunk with one choice. `content` is the text or the whole delta."""
    delta = content if isinstance(content, dict) else {} if content is None else {"content": content}
    return HEAD | {"choices": [{"index": index, "delta": delta, "finish_reason": end}]} | more


def without_choices(**more: Any) -> dict[str, Any]:
    return HEAD | {"choices": []} | more


def body_of(*events: Any) -> bytes:
    texts = (event if isinstance(event, str) else json.dumps(event, separators=(",", ":")) for event in events)
    return "".join(f"data: {text}\n\n" for text in texts).encode()


def request_of(*, n: int = 1, includes_usage: bool = False) -> MeteredRequest:
    return MeteredRequest(
        model=MODEL,
        route=ROUTE,
        upstream_body=b"",
        prompt_bound=1,
        output_limit=1,
        n=n,
        prediction_bytes=0,
        stream=StreamOptions(includes_usage=includes_usage),
    )


def reader(**options: Any) -> ChatStreamReader:
    return ChatStreamReader(
        request_of(**options), event_bytes_max=BYTES_MAX, scrub=lambda text: scrub(text, ["secret"])
    )


def read(body: bytes, *, piece_bytes: int = BYTES_MAX, is_cut: bool = False, **options: Any) -> Any:
    """Return the reader and its output after a whole body. `is_cut`: the body has no clean end."""
    stream = reader(**options)
    output = b"".join(stream.feed(body[at : at + piece_bytes]) for at in range(0, len(body), piece_bytes))
    return stream, output + (b"" if is_cut else stream.end())


def events_of(output: bytes) -> list[Any]:
    """Return the decoded data of events."""
    parts = output.decode().split("\n\n")
    assert parts.pop() == ""
    return [DONE if part == "data: [DONE]" else json.loads(part.removeprefix("data: ")) for part in parts]


def ours(*events: dict[str, Any]) -> list[Any]:
    return [event | {"model": "m"} for event in events]


def final(usage: dict[str, Any] = USAGE, **more: Any) -> list[Any]:
    charge = {"tok0n": {"reserved": 50, "charged": 12, "available": 93}}
    return [HEAD | {"model": "m", "choices": [], "usage": usage | charge} | more, DONE]


START = chunk({"role": "assistant", "content": ""})
HELLO = chunk("Hello")
STOP = chunk(end="stop")
TOOL = chunk({"tool_calls": [{"index": 0, "id": "t", "function": {"name": "f", "arguments": ""}}]})
ZEROS = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
FILTERED = without_choices(model="", prompt_filter_results=[{"prompt_index": 0}])


def openai_error(**error: Any) -> dict[str, Any]:
    return {"error": {"message": "gpt-4o-2024-08-06 says secret", "param": None} | error}
