"""The upstream of `tok0n demo`: SIMULATED, and saying so. No language model is behind it, and it never pretends one is.

It is an OpenAI-compatible HTTP server like any other, so that the demo takes the real way to it. It keeps nothing.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tok0n.domain.catalogue import VERIFICATION_PROMPT

MODELS = ("demo", "demo-slow", "demo-broken")
OWNED_BY = "tok0n-demo"
SLOW_SECONDS = 2.0
QUOTED_CHARACTERS_MAX = 300
OUTPUT_TOKENS_DEFAULT = 1024

Pause = Callable[[float], Awaitable[None]]


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
            body = msgspec.json.decode(await request.body())
            model, messages = body["model"], body["messages"]
            if model not in MODELS:
                return _error(404, f"The model {model!r} does not exist.", code="model_not_found")
            answer = _completion(model, messages, body)
        except (msgspec.DecodeError, LookupError, TypeError, AttributeError, ValueError):
            return _error(400, "The simulated upstream could not read this request.")
        if model == "demo-slow":
            await pause(SLOW_SECONDS)
        if model == "demo-broken" and _text(messages[-1]) != VERIFICATION_PROMPT:
            return next(failures)(answer)
        return JSONResponse(answer)

    return Starlette(
        routes=[Route("/v1/models", models), Route("/v1/chat/completions", chat, methods=["POST"])],
    )


def _completion(model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> dict[str, Any]:
    """A completion in OpenAI's shape, with usage by the rule of thumb of four bytes a token."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or OUTPUT_TOKENS_DEFAULT
    choices = [_choice(index, _answer(model, messages, body), limit) for index in range(body.get("n") or 1)]
    prompt_tokens = 3 + sum(4 + _tokens(_text(message)) for message in messages)
    completion_tokens = sum(max(1, _tokens(choice["message"]["content"])) for choice in choices)
    return {
        "id": f"chatcmpl-simulated-{time.time_ns():x}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
    }


def _choice(index: int, text: str, limit: int) -> dict[str, Any]:
    """One choice, cut at the output limit as a model would be."""
    kept = text.encode()[: 4 * limit].decode(errors="ignore")
    return {
        "index": index,
        "message": {"role": "assistant", "content": kept, "refusal": None},
        "logprobs": None,
        "finish_reason": "stop" if kept == text else "length",
    }


def _answer(model: str, messages: list[dict[str, Any]], body: dict[str, Any]) -> str:
    """What it is, and the request in its own words."""
    asked = _text(messages[-1])
    if asked == VERIFICATION_PROMPT:
        return "OK"
    said = _in_words(model, messages, asked, body)
    if (body.get("response_format") or {}).get("type") in {"json_object", "json_schema"}:
        return msgspec.json.encode({"simulated": True, "answer": said}).decode()
    return said


def _in_words(model: str, messages: list[dict[str, Any]], asked: str, body: dict[str, Any]) -> str:
    quoted = asked if len(asked) <= QUOTED_CHARACTERS_MAX else asked[:QUOTED_CHARACTERS_MAX] + "…"
    role = messages[-1]["role"]
    sentences = [
        f"This is {model}, a simulated model inside Tok0n's demo: no language model is behind it.",
        f"Your last message, as {role}, has {_count(len(asked.split()), 'word')}: “{quoted}”.",
    ]
    system = [message for message in messages if message["role"] in {"system", "developer"}]
    if system:
        sentences.append(f"You also gave {_count(len(system), 'instruction')}, which a real model would follow.")
    earlier = len(messages) - len(system) - 1
    if earlier > 0:
        sentences.append(f"Before it came {_count(earlier, 'more message')}.")
    if body.get("tools"):
        sentences.append(f"It could have called one of {_count(len(body['tools']), 'tool')}, and did not.")
    sentences.append("The gateway reserved tokens for this, charged what the usage below says, and released the rest.")
    return " ".join(sentences)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return " ".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _tokens(text: str) -> int:
    return (len(text.encode()) + 3) // 4


def _refuse_key(request: Request, api_key: str | None) -> Response | None:
    if api_key is None or request.headers.get("authorization") == f"Bearer {api_key}":
        return None
    return _error(401, "Incorrect API key provided.", code="invalid_api_key")


def _error(status: int, message: str, *, code: str | None = None, kind: str = "invalid_request_error") -> Response:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": code}}, status)


def _overloaded(_: dict[str, Any]) -> Response:
    return _error(503, "The simulated upstream is overloaded.", kind="server_error")


def _limited(_: dict[str, Any]) -> Response:
    return _error(429, "The simulated upstream limits the gateway.", kind="rate_limit_error")


def _crashed(_: dict[str, Any]) -> Response:
    return _error(500, "The simulated upstream failed.", kind="server_error")


def _page(_: dict[str, Any]) -> Response:
    return Response("<html><body>502 Bad Gateway</body></html>", media_type="text/html")


def _cut(answer: dict[str, Any]) -> Response:
    return Response(msgspec.json.encode(answer)[:-20], media_type="application/json")


def _without_usage(answer: dict[str, Any]) -> Response:
    return JSONResponse({key: value for key, value in answer.items() if key != "usage"})


_FAILURES = (_crashed, _without_usage, _limited, _page, _overloaded, _cut)
"""How `demo-broken` fails, in turn: an error, no usage, a rate limit, a web page, overload, half an answer."""
