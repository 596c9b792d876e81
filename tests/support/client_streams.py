"""Streams for the tests of clients. The prompt says which one the upstream sends. Each has a usage of its own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.gateways import Running, environment, running
from support.scripted_upstream import ScriptedUpstream
from tok0n.bootstrap import wiring
from tok0n.domain.endpoints.chat_stream import KEEP_ALIVE
from tok0n.http.pushed_body import PushedBody
from tok0n.services import relay

TOKENS = 1_000_000
PROMPT_TOKENS = 9
CLIENT_SECONDS_MAX = 60
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
REJECTED = "this gateway doesn't stream responses"
"""What a client reads if the gateway doesn't stream."""


def _choice(delta: dict[str, Any], *, index: int = 0, finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish} | more


def _words(*words: str, index: int = 0) -> list[dict[str, Any]]:
    role: dict[str, Any] = {"role": "assistant", "content": "", "refusal": None}
    deltas = [role, *({"content": word} for word in words)]
    return [*(_choice(delta, index=index) for delta in deltas), _choice({}, index=index, finish="stop")]


def _tool_calls() -> Iterable[dict[str, Any]]:
    """Yield two calls, whose arguments arrive in pieces."""
    yield _choice({"role": "assistant", "content": None, "refusal": None})
    for index, arguments in enumerate((['{"a"', ": 1, ", '"b": 2}'], ['{"a": 3,', ' "b": 4}'])):
        call = {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": "add", "arguments": ""}}
        yield _choice({"tool_calls": [call]})
        for piece in arguments:
            yield _choice({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield _choice({}, finish="tool_calls")


def _logprobs() -> Iterable[dict[str, Any]]:
    for choice in _words("Hello", "."):
        text = choice["delta"].get("content")
        token = {"token": text, "logprob": -0.25, "bytes": None, "top_logprobs": []}
        yield choice | ({"logprobs": {"content": [token], "refusal": None}} if text else {})


def _reasoning() -> Iterable[dict[str, Any]]:
    first, *rest = _words("Hello", ".")
    yield first
    yield from (_choice({"reasoning_content": piece}) for piece in ("Let me ", "think."))
    yield from rest


STREAMS: dict[str, list[dict[str, Any]]] = {
    "text": _words("Hello", ", ", "wörld", "."),
    "tools": list(_tool_calls()),
    "two": [choice for both in zip(_words("a", "b"), _words("c", "d", index=1), strict=True) for choice in both],
    "logprobs": list(_logprobs()),
    "reasoning": list(_reasoning()),
    "long": _words(*(f"{number} " for number in range(1000))),
    "continuous": _words(*(f"{number} " for number in range(1000))),
    "json": _words('{"city": ', '"Oslo"}'),
    "error": _words("Hello", ", ")[:-1],
    "cut": _words("Hello", ", ")[:-1],
    "quiet": _words("Hello", ", ", "wörld", "."),
    "silent": _words("Hello", ", ", "wörld", "."),
    "early error": _words()[:1],
    "too long": _words()[:1],
}
"""The choices that the upstream sends for each prompt. `ERRORS` and a cut follow on those that have no end."""

_OVERLOADED = {"message": "The model upstream-demo is overloaded.", "type": "server_error", "code": None}
_TOO_LONG = {"message": "Too long.", "type": "invalid_request_error", "code": "context_length_exceeded"}
ERRORS = {"error": _OVERLOADED, "early error": _OVERLOADED, "too long": _TOO_LONG}


def total_tokens(prompt: str) -> int:
    """Return the tokens that the upstream reports at the end of a stream."""
    return PROMPT_TOKENS + 10 * (1 + list(STREAMS).index(prompt))


def _usage(total: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": total - PROMPT_TOKENS, "total_tokens": total}


def _event(values: dict[str, Any] | str) -> bytes:
    data = values if isinstance(values, str) else json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(choices: list[dict[str, Any]], *, usage: dict[str, int] | None = None) -> bytes:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "upstream-demo"}
    return _event(head | {"service_tier": "default", "choices": choices, "usage": usage})


class StreamingUpstream(ScriptedUpstream):
    """Sends the stream of `STREAMS` that the last message of the request names. After the result of a tool: "text".

    The stream of "long" stops in the middle until `resumed` is set. That of "continuous" takes seconds, and each chunk
    reports one token more. That of "quiet" stops in the middle until the client got a comment, and that of "silent"
    before it begins.
    """

    def __init__(self) -> None:
        super().__init__(self._stream)
        self.resumed = asyncio.Event()
        self.kept_alive = asyncio.Event()
        self.chunks_sent = 0

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        request = json.loads(self.bodies[-1])
        last = request["messages"][-1]
        content = "text" if last["role"] == "tool" else last["content"]
        prompt = content if isinstance(content, str) else content[0]["text"]
        assert (request["stream"], request["stream_options"]["include_usage"]) == (True, True)
        writer.write(HEAD)
        for position, choice in enumerate(STREAMS[prompt]):
            if prompt == "long" and position == len(STREAMS[prompt]) // 2:
                await self.resumed.wait()
            if (prompt, position) in {("silent", 0), ("quiet", 3)}:
                self.kept_alive.clear()
                await self.kept_alive.wait()
            usage = _usage(PROMPT_TOKENS + position + 1) if prompt == "continuous" else None
            writer.write(_chunk([choice], usage=usage))
            self.chunks_sent += 1
            await writer.drain()
            if prompt == "continuous":
                await asyncio.sleep(0.005)
        if prompt == "cut":
            writer.close()
        elif prompt in ERRORS:
            writer.write(_event({"error": ERRORS[prompt]}) + b"0\r\n\r\n")
        else:
            writer.write(_chunk([], usage=_usage(total_tokens(prompt))) + _event("[DONE]") + b"0\r\n\r\n")
        await writer.drain()


@contextlib.asynccontextmanager
async def streaming_gateway(
    folder: Path, upstream: StreamingUpstream, *, hold_seconds: float = 10, upstream_more: str = ""
) -> AsyncIterator[Running]:
    """Run a gateway that streams, and sends a comment as soon as an upstream is silent."""
    push = PushedBody.push

    def push_and_tell(body: PushedBody, piece: bytes) -> None:
        push(body, piece)
        if piece == KEEP_ALIVE:
            upstream.kept_alive.set()

    overrides = {"server.streaming": True, "server.stream_hold_seconds": hold_seconds}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay, "KEEP_ALIVE_SECONDS", 0)
        patch.setattr(wiring, "CHECK_STREAMS_SECONDS", 0.02)
        patch.setattr(PushedBody, "push", push_and_tell)
        async with running(
            folder,
            upstream_url=upstream.base_url,
            tokens=TOKENS,
            upstream_more=upstream_more,
            overrides=overrides,
        ) as gateway:
            yield gateway


async def charged_tokens(gateway: Running) -> int:
    """Wait for the end of all streams. Returns what the account was charged, after a clean audit."""
    async with asyncio.timeout(10):
        while (balance := (await gateway.account()).balance).pending:
            await asyncio.sleep(0.01)
    assert await gateway.audit_is_clean()
    return TOKENS - balance.posted


async def assert_charged(gateway: Running, *prompts: str) -> None:
    """Wait for the end of all streams. The account was charged what the upstream reported for `prompts`."""
    assert await charged_tokens(gateway) == sum(map(total_tokens, prompts))


async def run_client(gateway: Running, *command: str | Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run a client to its end. Returns its exit code, and what it printed. Its errors are printed too if it failed."""
    variables = {"TOK0N_BASE_URL": gateway.base_url, "TOK0N_API_KEY": gateway.api_key, "TOK0N_TOOL": json.dumps(TOOL)}
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        env=environment(variables | dict(env or {})),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(CLIENT_SECONDS_MAX):
            out, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, (out + errors if process.returncode else out).decode()


async def results_of(gateway: Running, *command: str | Path, env: Mapping[str, str] | None = None) -> Any:
    """Return the JSON document that a client prints, which must succeed."""
    code, text = await run_client(gateway, *command, env=env)
    assert code == 0, text
    return json.loads(text.splitlines()[-1])
