"""The simulated upstream of `tok0n demo`. It has no language model, and its responses say so.

It is an HTTP server with OpenAI's and Anthropic's endpoints, so the demo uses the same client as with a real provider.
It keeps the usage of its last answers, and nothing else. `GET /v1/simulated/answers` returns them.
"""

import asyncio
import collections
import functools
import itertools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tok0n.demo.simulated.chat import ChatBody
from tok0n.demo.simulated.embeddings import EmbeddingsBody
from tok0n.demo.simulated.failures import (
    FAILURES,
    ErrorResponse,
    Failure,
    error,
    truncated_body,
    truncated_json,
    without_usage,
)
from tok0n.demo.simulated.messages import CountBody, MessagesBody
from tok0n.demo.simulated.replies import Conversation
from tok0n.demo.simulated.responses import ResponsesBody
from tok0n.demo.simulated_stream import SLOW_WORD_SECONDS, WORD_SECONDS, EventStream, Pause, StreamOptions

MODELS = ("demo", "demo-slow", "demo-broken")
OWNED_BY = "tok0n-demo"
SLOW_SECONDS = 2.0
CONTEXT_WINDOW_TOKENS = 128_000
ANSWERS_MAX = 1_000

_MESSAGES_PATH = "/v1/messages"
"""Below it, errors are Anthropic's."""

_UNREADABLE = (msgspec.DecodeError, LookupError, ValueError, TypeError, AttributeError, RecursionError)


class _Body(Protocol):
    """A decoded request of any endpoint."""

    prompt_field: ClassVar[str]
    """The field with most of the prompt."""

    @property
    def stream(self) -> bool | None:
        """Whether the client wants a stream."""

    @property
    def stream_options(self) -> StreamOptions | None:
        """The options of a stream, of chat alone."""

    def conversation(self) -> Conversation:
        """Return what the simulated model reads."""

    def answer(self, conversation: Conversation) -> dict[str, Any]:
        """Return the whole answer."""

    def events(self, answer: dict[str, Any]) -> list[bytes]:
        """Return the events that stream an answer."""


_ENDPOINTS: dict[str, Callable[[bytes], _Body]] = {
    "/v1/chat/completions": msgspec.json.Decoder(ChatBody).decode,
    "/v1/embeddings": msgspec.json.Decoder(EmbeddingsBody).decode,
    "/v1/responses": msgspec.json.Decoder(ResponsesBody).decode,
    "/v1/messages": msgspec.json.Decoder(MessagesBody).decode,
    "/v1/messages/count_tokens": msgspec.json.Decoder(CountBody).decode,
}


def simulated_upstream(*, api_key: str | None, pause: Pause = asyncio.sleep) -> Starlette:
    """Return the server. `demo` responds immediately, `demo-slow` after `SLOW_SECONDS`, and `demo-broken` fails.

    Streams have a pause before each word. Every model answers a verification correctly and quickly: the
    gateway lists only verified models, and the demo verifies all of them before it is ready.
    """
    simulation = _Simulation(pause)

    def with_key(handle: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        async def checked(request: Request) -> Response:
            response = _check_key(request, api_key) or await handle(request)
            if isinstance(response, ErrorResponse) and request.url.path.startswith(_MESSAGES_PATH):
                return response.for_anthropic()
            return response

        return checked

    return Starlette(
        routes=[
            Route("/v1/models", with_key(_models)),
            Route("/v1/simulated/answers", with_key(simulation.list_answers)),
            *(
                Route(path, with_key(functools.partial(simulation.handle, decode)), methods=["POST"])
                for path, decode in _ENDPOINTS.items()
            ),
        ],
    )


class _Simulation:
    """The failures in rotation, and the usage of the last answers."""

    def __init__(self, pause: Pause) -> None:
        self._pause = pause
        self._failures: Iterator[Failure] = itertools.cycle(FAILURES)
        self._answers: collections.deque[dict[str, Any]] = collections.deque(maxlen=ANSWERS_MAX)

    async def list_answers(self, _: Request) -> Response:
        """Return path, model, stream and usage of the last answers, the oldest first. Failures are not among them."""
        return JSONResponse({"data": list(self._answers)})

    async def handle(self, decode: Callable[[bytes], _Body], request: Request) -> Response:
        """Answer a request of any endpoint."""
        try:
            decoded = decode(await request.body())
            conversation = decoded.conversation()
            if (rejection := _check_request(decoded, conversation)) is not None:
                return rejection
            answer = decoded.answer(conversation)
        except _UNREADABLE:
            return error(400, "The simulated upstream could not read this request.")
        model = conversation.model
        acts_as = "demo" if conversation.is_verification else model
        failure = None
        if acts_as == "demo-broken":
            failure = next(self._failures)
        else:
            record = {"path": request.url.path, "model": model, "stream": decoded.stream is True}
            self._answers.append(record | {"usage": answer.get("usage")})
        if decoded.stream:
            return self._stream(decoded, answer, failure, is_slow=acts_as == "demo-slow")
        if acts_as == "demo-slow":
            await self._pause(SLOW_SECONDS)
        return JSONResponse(answer) if failure is None else failure(answer)

    def _stream(self, request: _Body, answer: dict[str, Any], failure: Failure | None, *, is_slow: bool) -> Response:
        """Stream an answer. A failure that changes the body of an answer changes the stream in the same way."""
        if failure is without_usage:
            answer = {name: value for name, value in answer.items() if name != "usage"}
        elif failure not in {None, truncated_json, truncated_body}:
            assert failure is not None
            return failure(answer)
        events = request.events(answer)
        if failure is truncated_json:
            events = [*events[: len(events) // 2], events[0][:-20] + b"\n\n"]
        return EventStream(
            events,
            pause=self._pause,
            pause_seconds=SLOW_WORD_SECONDS if is_slow else WORD_SECONDS,
            is_cut=failure is truncated_body,
        )


async def _models(_: Request) -> Response:
    data = [{"id": model, "object": "model", "created": 0, "owned_by": OWNED_BY} for model in MODELS]
    return JSONResponse({"object": "list", "data": data})


def _check_key(request: Request, api_key: str | None) -> Response | None:
    headers = request.headers
    if api_key is None or headers.get("authorization") == f"Bearer {api_key}":
        return None
    if request.url.path.startswith(_MESSAGES_PATH) and headers.get("x-api-key") == api_key:
        return None
    return error(401, "Incorrect API key provided.", code="invalid_api_key")


def _check_request(request: _Body, conversation: Conversation) -> Response | None:
    """Return the error for an unknown model or a prompt that exceeds the context window."""
    if conversation.model not in MODELS:
        message = f"The model {conversation.model!r} does not exist."
        return error(404, message, code="model_not_found", param="model")
    if request.stream_options is not None and not request.stream:
        return error(400, "stream_options requires stream: true.", param="stream_options")
    tokens = conversation.prompt_tokens
    if tokens > CONTEXT_WINDOW_TOKENS:
        message = f"The context window of this simulated model is {CONTEXT_WINDOW_TOKENS} tokens. You sent {tokens}."
        return error(400, message, code="context_length_exceeded", param=request.prompt_field)
    return None
