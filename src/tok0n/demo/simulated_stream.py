"""Streams a simulated completion word by word, in the chunks that OpenAI sends."""

import re
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

WORD_SECONDS = 0.05
SLOW_WORD_SECONDS = 0.3
DONE = b"data: [DONE]\n\n"

_WORD = re.compile(r"[^\s,:]*[\s,:]+|[^\s,:]+")

Pause = Callable[[float], Awaitable[None]]


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a stream that the simulation uses. `continuous_usage_stats` is vLLM's."""

    include_usage: bool = False
    continuous_usage_stats: bool = False


class EventStream(Response):
    """Sends events, and pauses before each word."""

    media_type = "text/event-stream"

    def __init__(self, events: list[bytes], *, pause: Pause, pause_seconds: float, is_cut: bool = False) -> None:
        """`is_cut`: the connection breaks off after half of the events."""
        super().__init__()
        del self.headers["content-length"]
        self._events = events[: len(events) // 2] if is_cut else events
        self._is_cut = is_cut
        self._pause = pause
        self._pause_seconds = pause_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        """Send the events, whatever the client does: the server cancels this if it leaves."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for event in self._events:
            if event != DONE:
                await self._pause(self._pause_seconds)
            await send({"type": "http.response.body", "body": event, "more_body": True})
        if not self._is_cut:
            await send({"type": "http.response.body", "body": b""})


def events_of(completion: dict[str, Any], options: StreamOptions) -> list[bytes]:
    """Return the events that stream a completion."""
    usage = completion.get("usage", {})
    chunk = {name: completion[name] for name in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    total = sum(1 for _ in _choices(completion))
    events = []
    for count, choice in enumerate(_choices(completion), start=1):
        extra: dict[str, Any] = {"usage": None} if options.include_usage else {}
        if options.continuous_usage_stats:
            extra = {"usage": _usage_after(usage, share=count / total)}
        events.append(_event(chunk | {"choices": [choice]} | extra))
    if options.include_usage:
        events.append(_event(chunk | {"choices": [], "usage": usage}))
    return [*events, DONE]


def words_of(text: str) -> list[str]:
    """Split a text into words, each with the characters that separate it from the next."""
    return _WORD.findall(text)


def _usage_after(usage: dict[str, Any], *, share: float) -> dict[str, Any]:
    """Return the usage of a part of the output."""
    completion_tokens = max(1, int(usage["completion_tokens"] * share))
    totals = {"completion_tokens": completion_tokens, "total_tokens": usage["prompt_tokens"] + completion_tokens}
    return usage | totals


def _choices(completion: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the only choice of each chunk: all beginnings, then one word of each choice at a time, then all ends."""
    choices = completion["choices"]
    words = {choice["index"]: list(_deltas(choice["message"])) for choice in choices}
    for choice in choices:
        yield _choice(choice["index"], _first_delta(choice["message"]))
    for position in range(max(map(len, words.values()))):
        for index, deltas in words.items():
            if position < len(deltas):
                yield _choice(index, deltas[position])
    for choice in choices:
        yield _choice(choice["index"], {}, finish_reason=choice["finish_reason"])


def _choice(index: int, delta: dict[str, Any], *, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish_reason}


def _first_delta(message: dict[str, Any]) -> dict[str, Any]:
    if not message.get("tool_calls"):
        return {"role": "assistant", "content": "", "refusal": None}
    calls = [
        call | {"index": index, "function": call["function"] | {"arguments": ""}}
        for index, call in enumerate(message["tool_calls"])
    ]
    return {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None}


def _deltas(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for word in _WORD.findall(message["content"] or ""):
        yield {"content": word}
    for index, call in enumerate(message.get("tool_calls", [])):
        for word in _WORD.findall(call["function"]["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": word}}]}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"
