"""The upstream of `tok0n demo`: SIMULATED, and saying so. No language model is behind it, and it never pretends one is.

It is an OpenAI-compatible HTTP server like any other, so that the demo takes the real way to it. It keeps nothing.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tok0n.domain.catalogue import VERIFICATION_OUTPUT_TOKENS, VERIFICATION_PROMPT

MODELS = ("demo", "demo-slow", "demo-broken")
OWNED_BY = "tok0n-demo"
SLOW_SECONDS = 2.0
CHOICES_MAX = 128
CONTEXT_WINDOW_TOKENS = 128_000
QUOTED_CHARACTERS_MAX = 300
OUTPUT_TOKENS_DEFAULT = 1024
BYTES_A_TOKEN = 4
"""The rule of thumb for English text; never more tokens than bytes, so never above the gateway's bound."""

_FORMATS = {"json_object", "json_schema"}

Pause = Callable[[float], Awaitable[None]]


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """One message, as far as the simulation looks at it."""

    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """What it says."""
        if isinstance(self.content, list):
            return " ".join(part.get("text", "") for part in self.content)
        return self.content or ""

    @property
    def tokens(self) -> int:
        """What it costs: its text and the calls that it repeats."""
        calls = [call.get("function", {}) for call in self.tool_calls or []]
        return 4 + sum(map(_tokens, [self.text, *(call.get("name", "") + call.get("arguments", "") for call in calls)]))


class _Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One request, as far as the simulation looks at it; what it does not know it passes over."""

    model: str
    messages: Annotated[list[_Message], msgspec.Meta(min_length=1)]
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=CHOICES_MAX)] | None = None
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
        """What all that was sent costs."""
        definitions = _tokens(_json(self.tools)) if self.tools else 0
        return 3 + definitions + sum(message.tokens for message in self.messages)

    @property
    def is_verification(self) -> bool:
        """Whether the gateway asks this to see that the model works."""
        return (
            len(self.messages) == 1
            and self.messages[0].text == VERIFICATION_PROMPT
            and self.limit <= VERIFICATION_OUTPUT_TOKENS
        )


_decode = msgspec.json.Decoder(_Ask).decode


def simulated_upstream(*, api_key: str | None, pause: Pause = asyncio.sleep) -> Starlette:
    """The server. `demo` answers at once, `demo-slow` after two seconds, `demo-broken` fails in changing ways.

    `demo-broken` answers a verification properly: a model that never works could not be in the list.
    """
    failures = itertools.cycle(_FAILURES)

    async def models(request: Request) -> Response:
        if (refusal := _refuse_key(request, api_key)) is not None:
            return refusal
        data = [{"id": model, "object": "model", "created": 0, "owned_by": OWNED_BY} for model in MODELS]
        return JSONResponse({"object": "list", "data": data})

    async def chat(request: Request) -> Response:
        if (refusal := _refuse_key(request, api_key)) is not None:
            return refusal
        try:
            ask = _decode(await request.body())
            if (refusal := _refuse(ask)) is not None:
                return refusal
            answer = _completion(ask)
        except (msgspec.DecodeError, LookupError, ValueError, TypeError, AttributeError, RecursionError):
            return _error(400, "The simulated upstream could not read this request.")
        if ask.model == "demo-slow":
            await pause(SLOW_SECONDS)
        if ask.model == "demo-broken" and not ask.is_verification:
            return next(failures)(answer)
        return JSONResponse(answer)

    return Starlette(
        routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])],
    )


def _refuse_key(request: Request, api_key: str | None) -> Response | None:
    if api_key is None or request.headers.get("authorization") == f"Bearer {api_key}":
        return None
    return _error(401, "Incorrect API key provided.", code="invalid_api_key")


def _refuse(ask: _Ask) -> Response | None:
    """Refuse what no model of this name and size could serve."""
    if ask.model not in MODELS:
        return _error(404, f"The model {ask.model!r} does not exist.", code="model_not_found", param="model")
    tokens = ask.prompt_tokens
    if tokens > CONTEXT_WINDOW_TOKENS:
        message = f"The context window of this simulated model is {CONTEXT_WINDOW_TOKENS} tokens; you sent {tokens}."
        return _error(400, message, code="context_length_exceeded", param="messages")
    return None


def _error(
    status: int,
    message: str,
    *,
    code: str | None = None,
    param: str | None = None,
    kind: str = "invalid_request_error",
    headers: dict[str, str] | None = None,
) -> Response:
    """An error in OpenAI's shape."""
    error = {"message": message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, headers)


def _completion(ask: _Ask) -> dict[str, Any]:
    """A completion in OpenAI's shape."""
    choices = [_choice(ask, index) for index in range(ask.n or 1)]
    prompt_tokens = ask.prompt_tokens
    completion_tokens = sum(_spent(ask, choice["message"]) for choice in choices)
    return {
        "id": f"chatcmpl-simulated-{uuid.uuid4().hex}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": ask.model,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _choice(ask: _Ask, index: int) -> dict[str, Any]:
    """One choice, cut at the output limit as a model would be."""
    function = _function_to_call(ask)
    text = _json(_sample(function.get("parameters"))) if function else _until_stop(ask, _answer(ask))
    kept = text.encode()[: BYTES_A_TOKEN * ask.limit].decode(errors="ignore")
    message: dict[str, Any] = {"role": "assistant", "content": None if function else kept, "refusal": None}
    if function:
        call = {"name": function.get("name"), "arguments": kept}
        message["tool_calls"] = [{"id": f"call_{uuid.uuid4().hex}", "type": "function", "function": call}]
    whole = "tool_calls" if function else "stop"
    return {
        "index": index,
        "message": message,
        "logprobs": None,
        "finish_reason": whole if kept == text else "length",
    }


def _spent(ask: _Ask, message: dict[str, Any]) -> int:
    """The tokens of one choice: at least one, and never above the limit."""
    calls = [call["function"] for call in message.get("tool_calls", [])]
    said = message["content"] or "".join(call["name"] + call["arguments"] for call in calls)
    return min(ask.limit, max(1, _tokens(said)))


def _function_to_call(ask: _Ask) -> dict[str, Any] | None:
    """The function that is named, or else the first, once: what a tool has answered is then talked about."""
    functions = [tool["function"] for tool in ask.tools or [] if isinstance(tool.get("function"), dict)]
    if isinstance(ask.tool_choice, dict) and isinstance(ask.tool_choice.get("function"), dict):
        wanted = ask.tool_choice["function"].get("name")
        functions = [function for function in functions if function.get("name") == wanted]
    elif ask.tool_choice == "none" or (ask.tool_choice != "required" and ask.messages[-1].role == "tool"):
        return None
    return functions[0] if functions else None


def _sample(schema: Any) -> Any:
    """A made-up value of the shape that a JSON schema describes, as far as its types say."""
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


def _until_stop(ask: _Ask, text: str) -> str:
    stops = [ask.stop] if isinstance(ask.stop, str) else ask.stop or []
    return text[: min((text.find(stop) for stop in stops if stop and stop in text), default=len(text))]


def _answer(ask: _Ask) -> str:
    """What it is, and the request in its own words: as JSON where that was asked for."""
    if ask.messages[-1].text == VERIFICATION_PROMPT:
        return "OK"
    wanted = ask.response_format or {}
    if wanted.get("type") not in _FORMATS:
        return _in_words(ask)
    if wanted["type"] == "json_schema":
        return _json(_sample(wanted["json_schema"].get("schema")))
    return _json({"simulated": True, "answer": _in_words(ask)})


def _in_words(ask: _Ask) -> str:
    last = ask.messages[-1]
    asked = last.text
    quoted = asked if len(asked) <= QUOTED_CHARACTERS_MAX else asked[:QUOTED_CHARACTERS_MAX] + "…"
    sentences = [
        f"This is {ask.model}, a simulated model inside Tok0n's demo: no language model is behind it.",
        f"Your last message, as {last.role}, has {_count(len(asked.split()), 'word')}: “{quoted}”.",
    ]
    instructions = sum(message.role in {"system", "developer"} for message in ask.messages[:-1])
    if instructions:
        sentences.append(f"You also gave {_count(instructions, 'instruction')}, which a real model would follow.")
    earlier = len(ask.messages) - 1 - instructions
    if earlier:
        sentences.append(f"Before it came {_count(earlier, 'more message')}.")
    if ask.tools:
        sentences.append(f"It could have called one of {_count(len(ask.tools), 'tool')}, and did not.")
    sentences.append("The gateway reserved tokens for this, charged what the usage below says, and released the rest.")
    return " ".join(sentences)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _tokens(text: str) -> int:
    return -(-len(text.encode()) // BYTES_A_TOKEN)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class _HungUp(Response):
    """Half of the body that was announced; then the server closes the connection, and says so in its log."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})


def _crashed(_: dict[str, Any]) -> Response:
    return _error(500, "The simulated upstream failed.", kind="server_error")


def _without_usage(answer: dict[str, Any]) -> Response:
    return JSONResponse({key: value for key, value in answer.items() if key != "usage"})


def _limited(_: dict[str, Any]) -> Response:
    message = "The simulated upstream limits the gateway."
    return _error(429, message, kind="rate_limit_error", headers={"retry-after": "1"})


def _page(_: dict[str, Any]) -> Response:
    return Response("<html><body>502 Bad Gateway</body></html>", media_type="text/html")


def _overloaded(_: dict[str, Any]) -> Response:
    return _error(503, "The simulated upstream is overloaded.", kind="server_error")


def _broken(answer: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(answer)[:-20], media_type="application/json")


def _cut(answer: dict[str, Any]) -> Response:
    return _HungUp(msgspec.json.encode(answer), media_type="application/json")


_FAILURES = (_crashed, _without_usage, _limited, _page, _overloaded, _broken, _cut)
"""How `demo-broken` fails, in turn: a 500, an answer without usage, a 429 with retry-after, a web page with status 200,
a 503, JSON that is not whole, and a connection that is closed in the middle of the body."""
