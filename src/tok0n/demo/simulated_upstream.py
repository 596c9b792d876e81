"""The simulated upstream of `tok0n demo`. It has no language model, and its responses say so.

It is an OpenAI-compatible HTTP server, so the demo uses the same client as with a real provider. It stores nothing.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tok0n.demo.simulated_stream import (
    SLOW_WORD_SECONDS,
    WORD_SECONDS,
    EventStream,
    Pause,
    StreamOptions,
    events_of,
)
from tok0n.domain.catalogue import VERIFICATION_OUTPUT_TOKENS, VERIFICATION_PROMPT

MODELS = ("demo", "demo-slow", "demo-broken")
OWNED_BY = "tok0n-demo"
SLOW_SECONDS = 2.0
CHOICES_MAX = 128
CONTEXT_WINDOW_TOKENS = 128_000
QUOTED_CHARACTERS_MAX = 300
OUTPUT_TOKENS_DEFAULT = 1024
BYTES_PER_TOKEN = 4
"""The usual ratio for English text. It gives fewer tokens than bytes, so usage stays below the gateway's bound."""

_FORMATS = {"json_object", "json_schema"}


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """The members of a message that the simulation uses."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The text of the content."""
        if isinstance(self.content, list):
            return " ".join(part.get("text", "") for part in self.content)
        return self.content or ""

    @property
    def tokens(self) -> int:
        """The tokens of the message's text and tool calls."""
        calls = [call.get("function", {}) for call in self.tool_calls or []]
        return 4 + sum(map(_tokens, [self.text, *(call.get("name", "") + call.get("arguments", "") for call in calls)]))


class _ChatRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request that the simulation uses. It ignores the others."""

    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    response_format: dict[str, Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None

    @property
    def limit(self) -> int:
        """The output limit of each choice, in tokens."""
        return self.max_completion_tokens or self.max_tokens or OUTPUT_TOKENS_DEFAULT

    @property
    def prompt_tokens(self) -> int:
        """The tokens of the messages and tool definitions."""
        definitions = _tokens(_json(self.tools)) if self.tools else 0
        return 3 + definitions + sum(message.tokens for message in self.messages)

    @property
    def is_verification(self) -> bool:
        """Whether the request is a verification by the gateway."""
        return (
            len(self.messages) == 1
            and self.messages[0].text == VERIFICATION_PROMPT
            and self.limit <= VERIFICATION_OUTPUT_TOKENS
        )


Failure = Callable[[dict[str, Any]], Response]

_decode = msgspec.json.Decoder(_ChatRequest).decode


def simulated_upstream(*, api_key: str | None, pause: Pause = asyncio.sleep) -> Starlette:
    """Return the server. `demo` responds immediately, `demo-slow` after `SLOW_SECONDS`, and `demo-broken` fails.

    Streams have a pause before each word. `demo-broken` answers a verification correctly, because the gateway lists
    only verified models.
    """
    failures = itertools.cycle(_FAILURES)

    async def models(request: Request) -> Response:
        if (rejection := _check_key(request, api_key)) is not None:
            return rejection
        data = [{"id": model, "object": "model", "created": 0, "owned_by": OWNED_BY} for model in MODELS]
        return JSONResponse({"object": "list", "data": data})

    async def chat(request: Request) -> Response:
        if (rejection := _check_key(request, api_key)) is not None:
            return rejection
        try:
            chat_request = _decode(await request.body())
            if (rejection := _check_request(chat_request)) is not None:
                return rejection
            completion = _completion(chat_request)
        except (msgspec.DecodeError, LookupError, ValueError, TypeError, AttributeError, RecursionError):
            return _error(400, "The simulated upstream could not read this request.")
        is_broken = chat_request.model == "demo-broken" and not chat_request.is_verification
        if chat_request.stream:
            return _stream(chat_request, completion, pause, next(failures) if is_broken else None)
        if chat_request.model == "demo-slow":
            await pause(SLOW_SECONDS)
        return next(failures)(completion) if is_broken else JSONResponse(completion)

    return Starlette(
        routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])],
    )


def _check_key(request: Request, api_key: str | None) -> Response | None:
    if api_key is None or request.headers.get("authorization") == f"Bearer {api_key}":
        return None
    return _error(401, "Incorrect API key provided.", code="invalid_api_key")


def _check_request(request: _ChatRequest) -> Response | None:
    """Return the error for an unknown model or a prompt that exceeds the context window."""
    if request.model not in MODELS:
        return _error(404, f"The model {request.model!r} does not exist.", code="model_not_found", param="model")
    if request.stream_options is not None and not request.stream:
        return _error(400, "stream_options requires stream: true.", param="stream_options")
    tokens = request.prompt_tokens
    if tokens > CONTEXT_WINDOW_TOKENS:
        message = f"The context window of this simulated model is {CONTEXT_WINDOW_TOKENS} tokens. You sent {tokens}."
        return _error(400, message, code="context_length_exceeded", param="messages")
    return None


def _stream(request: _ChatRequest, completion: dict[str, Any], pause: Pause, failure: Failure | None) -> Response:
    """Stream a completion. A failure that changes the body of a response changes the stream in the same way."""
    options = request.stream_options or StreamOptions()
    if failure is _without_usage:
        options = StreamOptions()
    elif failure not in {None, _truncated_json, _truncated_body}:
        assert failure is not None
        return failure(completion)
    events = events_of(completion, options)
    if failure is _truncated_json:
        events = [*events[: len(events) // 2], events[0][:-20] + b"\n\n"]
    return EventStream(
        events,
        pause=pause,
        pause_seconds=SLOW_WORD_SECONDS if request.model == "demo-slow" else WORD_SECONDS,
        is_cut=failure is _truncated_body,
    )


def _error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    kind: str = "invalid_request_error",
    headers: dict[str, str] | None = None,
) -> Response:
    """Return an error in OpenAI's format."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers)


def _completion(request: _ChatRequest) -> dict[str, Any]:
    """Return a completion in OpenAI's format."""
    choices = [_choice(request, index) for index in range(request.n or 1)]
    prompt_tokens = request.prompt_tokens
    completion_tokens = sum(_completion_tokens(request, choice["message"]) for choice in choices)
    return {
        "id": f"chatcmpl-simulated-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _choice(request: _ChatRequest, index: int) -> dict[str, Any]:
    """Return a choice, truncated at the output limit."""
    function = _function_to_call(request)
    text = _json(_sample(function.get("parameters"))) if function else _until_stop(request, _reply(request))
    truncated = text.encode()[: BYTES_PER_TOKEN * request.limit].decode(errors="ignore")
    message: dict[str, Any] = {"role": "assistant", "content": None if function else truncated, "refusal": None}
    if function:
        call = {"name": function.get("name"), "arguments": truncated}
        message["tool_calls"] = [{"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": call}]
    complete_reason = "tool_calls" if function else "stop"
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": complete_reason if truncated == text else "length",
    }


def _completion_tokens(request: _ChatRequest, message: dict[str, Any]) -> int:
    """Return the tokens of a choice, from 1 to the output limit."""
    calls = [call["function"] for call in message.get("tool_calls", [])]
    text = message["content"] or "".join(call["name"] + call["arguments"] for call in calls)
    return min(request.limit, max(1, _tokens(text)))


def _function_to_call(request: _ChatRequest) -> dict[str, Any] | None:
    """Return the function that `tool_choice` names, or else the first one. None after a tool's response."""
    functions = [tool["function"] for tool in request.tools or [] if isinstance(tool.get("function"), dict)]
    if isinstance(request.tool_choice, dict) and isinstance(request.tool_choice.get("function"), dict):
        name = request.tool_choice["function"].get("name")
        functions = [function for function in functions if function.get("name") == name]
    elif request.tool_choice == "none" or (request.tool_choice != "required" and request.messages[-1].role == "tool"):
        return None
    return functions[0] if functions else None


def _sample(schema: Any) -> Any:
    """Return a sample value for a JSON schema. Considers only types, enums, examples and defaults."""
    if not isinstance(schema, dict):
        return {}
    for name in ("enum", "examples"):
        if isinstance(schema.get(name), list) and schema[name]:
            return schema[name][0]
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "string"
    if kind == "object":
        return {name: _sample(part) for name, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_sample(schema.get("items", {"type": "string"}))]
    return {"integer": 1, "number": 1, "boolean": True, "null": None}.get(kind, "simulated")


def _until_stop(request: _ChatRequest, text: str) -> str:
    stops = [request.stop] if isinstance(request.stop, str) else request.stop or []
    return text[: min((text.find(stop) for stop in stops if stop and stop in text), default=len(text))]


def _reply(request: _ChatRequest) -> str:
    """Return the text of the response, or JSON if `response_format` requires it."""
    if request.messages[-1].text == VERIFICATION_PROMPT:
        return "OK"
    response_format = request.response_format or {}
    if response_format.get("type") not in _FORMATS:
        return _description(request)
    if response_format["type"] == "json_schema":
        return _json(_sample(response_format["json_schema"].get("schema")))
    return _json({"simulated": True, "answer": _description(request)})


def _description(request: _ChatRequest) -> str:
    """Describe the request in sentences."""
    last = request.messages[-1]
    text = last.text
    quoted = text if len(text) <= QUOTED_CHARACTERS_MAX else text[:QUOTED_CHARACTERS_MAX] + "…"
    sentences = [
        f"This is {request.model}, a simulated model in Tok0n's demo. It uses no language model.",
        f"Your last message, as {last.role}, has {_count(len(text.split()), 'word')}: “{quoted}”.",
    ]
    instructions = sum(message.role in {"system", "developer"} for message in request.messages[:-1])
    if instructions:
        sentences.append(f"You also gave {_count(instructions, 'instruction')}, which a real model would follow.")
    earlier = len(request.messages) - 1 - instructions
    if earlier:
        sentences.append(f"You sent {_count(earlier, 'message')} before it.")
    if request.tools:
        sentences.append(f"A real model could have called one of {_count(len(request.tools), 'tool')}.")
    sentences.append("The gateway reserved tokens for this request, charged the usage below, and released the rest.")
    return " ".join(sentences)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class _HungUp(Response):
    """Sends half of the announced body. The server then closes the connection and logs an error."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})


def _crashed(_: dict[str, Any]) -> Response:
    return _error(500, "The simulated upstream failed.", kind="server_error")


def _without_usage(completion: dict[str, Any]) -> Response:
    return JSONResponse({key: value for key, value in completion.items() if key != "usage"})


def _limited(_: dict[str, Any]) -> Response:
    message = "The simulated upstream limits the gateway."
    return _error(429, message, kind="rate_limit_error", headers={"retry-after": "1"})


def _page(_: dict[str, Any]) -> Response:
    return Response("<html><body>502 Bad Gateway</body></html>", media_type="text/html")


def _overloaded(_: dict[str, Any]) -> Response:
    return _error(503, "The simulated upstream is overloaded.", kind="server_error")


def _truncated_json(completion: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(completion)[:-20], media_type="application/json")


def _truncated_body(completion: dict[str, Any]) -> Response:
    return _HungUp(msgspec.json.encode(completion), media_type="application/json")


_FAILURES = (_crashed, _without_usage, _limited, _page, _overloaded, _truncated_json, _truncated_body)
"""The failures of `demo-broken`, in rotation: a 500, no usage, a 429 with retry-after, a web page with status 200, a
503, truncated JSON, and a connection that closes in the middle of the body."""
