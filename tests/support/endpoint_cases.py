"""What the tests need of each metered endpoint: a request, an upstream's answer to it, and the pieces of its stream.

The tests of endings, faults, cancellation, shutdown and kill -9 run for each row of `CASES`, or of `STREAMS` if they
are about streams. To run them for another endpoint, add a row.
"""

import json
from collections.abc import Callable
from typing import Any

import msgspec

from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.endpoints.count_tokens import COUNT_TOKENS
from tok0n.domain.endpoints.embeddings import EMBEDDINGS
from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.endpoints.messages import MESSAGES
from tok0n.domain.endpoints.responses import RESPONSES

Event = dict[str, Any] | str
"""The decoded data of an event, or "[DONE]"."""

UPSTREAM_MODEL = "upstream-demo"
SERVED = 'endpoints = ["chat", "embeddings", "responses", "messages"]\n'
"""What makes the model of `write_settings` serve every endpoint."""

ERROR_TYPES = {
    "upstream_error": "api_error",
    "api_error": "api_error",
    "overloaded": "overloaded_error",
    "rate_limit_error": "rate_limit_error",
    "invalid_request": "invalid_request_error",
}
"""The type that Anthropic's clients get for each of our codes."""


class StreamCase(msgspec.Struct, frozen=True, kw_only=True):
    """The pieces of a stream that an upstream sends, and how a client reads ours.

    - `fields`: what asks for a stream.
    - `beginning`: the events before content, which are held.
    - `content`: renders an event with a text.
    - `complete`: the events after the text, up to the one that makes the answer complete.
    - `terminal`: what follows `complete` and says that the stream is over. Empty if `complete` says so.
    - `without_usage`: the same end without a report of usage.
    - `bare_end`: the event that says that the stream is over, alone and without usage.
    - `failure`: renders an error event with these members of the error.
    - `keep_alive`: what a silent client gets after the beginning and a text.
    - `end_is_content`: the reason to stop ends the hold of the beginning.
    - `text_of`: returns the text in an event of ours.
    - `error_of`: returns the code and message in an event of ours, or None.
    - `is_end`: whether an event of ours says that the answer is complete.
    """

    fields: dict[str, Any]
    beginning: bytes
    content: Callable[[str], bytes]
    complete: bytes
    terminal: bytes
    without_usage: bytes
    bare_end: bytes
    failure: Callable[[dict[str, Any]], bytes]
    keep_alive: bytes
    end_is_content: bool = False
    text_of: Callable[[dict[str, Any]], str]
    error_of: Callable[[dict[str, Any]], tuple[str, str] | None]
    is_end: Callable[[Event], bool]

    @property
    def end(self) -> bytes:
        """All that follows the text."""
        return self.complete + self.terminal

    @property
    def whole(self) -> bytes:
        """A whole stream."""
        return self.beginning + self.content("Hello.") + self.end

    def text(self, events: list[Event]) -> str:
        """Return the text of all events."""
        return "".join(self.text_of(event) for event in events if isinstance(event, dict))

    def error(self, event: Event) -> tuple[str, str]:
        """Return the code and message of an error event."""
        error = self.error_of(event) if isinstance(event, dict) else None
        assert error is not None, event
        return error


class EndpointCase(msgspec.Struct, frozen=True, kw_only=True):
    """A call of an endpoint.

    - `fields`: returns the request without its model, with a text of the customer.
    - `answer`: returns the upstream's answer, with a text of the model.
    - `charged`: the tokens that the answer reports. 0 if the endpoint isn't billed.
    - `count`: the member with the first count of tokens.
    - `stream`: how the endpoint streams.
    """

    endpoint: Endpoint
    fields: Callable[[str], dict[str, Any]]
    answer: Callable[[str], dict[str, Any]]
    charged: int
    count: str
    stream: StreamCase | None = None

    @property
    def name(self) -> str:
        """The endpoint's name."""
        return self.endpoint.name

    @property
    def path(self) -> str:
        """Where customers call it."""
        return self.endpoint.path

    @property
    def streaming(self) -> StreamCase:
        """How the endpoint streams. It must."""
        assert self.stream is not None
        return self.stream

    @property
    def answer_body(self) -> bytes:
        """The upstream's answer."""
        return msgspec.json.encode(self.answer("Hello."))

    @property
    def row(self) -> tuple[str, int, str | None]:
        """The status, charge and code of an answered request."""
        return ("SETTLED", self.charged, None) if self.endpoint.is_billed else ("RELEASED", 0, "not_metered")

    def body(self, text: str = "Hello", *, model: str = "demo", is_stream: bool = False, **more: Any) -> bytes:
        """Return a request."""
        stream = self.streaming.fields if is_stream else {}
        return msgspec.json.encode({"model": model} | self.fields(text) | stream | more)

    def error_name(self, code: str) -> str:
        """Return what the endpoint's clients read for one of our codes."""
        return ERROR_TYPES[code] if self.endpoint.path.startswith("/v1/messages") else code

    def read_error(self, body: bytes) -> str:
        """Return the name of the error in a body."""
        error = msgspec.json.decode(body)["error"]
        name: str = error["type"] if self.endpoint.path.startswith("/v1/messages") else error["code"]
        return name


def parse_events(received: bytes | bytearray) -> list[Event]:
    """Decode the whole events received. Comments are dropped."""
    whole, _, _ = bytes(received).rpartition(b"\n\n")
    lines = [line.removeprefix(b"data: ") for line in whole.split(b"\n") if line.startswith(b"data: ")]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def chunk(
    content: str = "", *, role: str | None = None, finish: str | None = None, usage: Any = None, choices: Any = None
) -> bytes:
    """One chunk of an upstream."""
    delta = ({} if role is None else {"role": role}) | ({"content": content} if content else {})
    own = [{"index": 0, "delta": delta, "finish_reason": finish}] if choices is None else choices
    values = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": UPSTREAM_MODEL, "choices": own}
    return _data(values | ({} if usage is None else {"usage": usage}))


def _data(values: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(values).encode()


ROLE = chunk(role="assistant")
STOP = chunk(finish="stop")
REPORT = chunk(choices=[], usage=USAGE)


def _turn(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def _completion(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": UPSTREAM_MODEL}
    return head | {"choices": [choice], "usage": USAGE}


def _chat_text(event: dict[str, Any]) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event.get("choices", []))


def _chat_error(event: dict[str, Any]) -> tuple[str, str] | None:
    error = event.get("error")
    return None if error is None else (error["code"], error["message"])


CHAT_CASE = EndpointCase(
    endpoint=CHAT,
    fields=lambda text: _turn(text) | {"max_completion_tokens": 50},
    answer=_completion,
    charged=12,
    count="prompt_tokens",
    stream=StreamCase(
        fields={"stream": True, "stream_options": {"include_usage": True}},
        beginning=ROLE,
        content=chunk,
        complete=STOP + REPORT,
        terminal=DONE,
        without_usage=STOP + DONE,
        bare_end=DONE,
        failure=lambda error: _data({"error": {"type": "server_error", "code": None} | error}),
        keep_alive=b": keep-alive\n",
        end_is_content=True,
        text_of=_chat_text,
        error_of=_chat_error,
        is_end=lambda event: event == "[DONE]",
    ),
)


def _embeddings(text: str) -> dict[str, Any]:
    """Return a list with one embedding. The text stands for its base64."""
    data = [{"object": "embedding", "index": 0, "embedding": text}]
    usage = {"prompt_tokens": 7, "total_tokens": 7}
    return {"object": "list", "model": UPSTREAM_MODEL, "data": data, "usage": usage}


EMBEDDINGS_CASE = EndpointCase(
    endpoint=EMBEDDINGS,
    fields=lambda text: {"input": text},
    answer=_embeddings,
    charged=7,
    count="prompt_tokens",
)


def _typed(kind: str, **members: Any) -> bytes:
    return b"event: %b\n%b" % (kind.encode(), _data({"type": kind} | members))


_PLACE = {"item_id": "msg_1", "output_index": 0, "content_index": 0}


def _response(text: str, **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": None}
    usage = {"input_tokens": 5, "output_tokens": 6, "total_tokens": 11}
    return head | {"model": UPSTREAM_MODEL, "output": [item], "usage": usage} | more


def _response_event(kind: str, number: int, **more: Any) -> bytes:
    return _typed(f"response.{kind}", sequence_number=number, response=_response("", status=kind, **more))


def _response_error(event: dict[str, Any]) -> tuple[str, str] | None:
    if event["type"] != "response.failed":
        return None
    error = event["response"]["error"]
    return error["code"], error["message"]


_ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
RESPONSES_CASE = EndpointCase(
    endpoint=RESPONSES,
    fields=lambda text: {"input": text, "max_output_tokens": 50},
    answer=_response,
    charged=11,
    count="input_tokens",
    stream=StreamCase(
        fields={"stream": True},
        beginning=_typed(
            "response.created", sequence_number=0, response=_response("", status="in_progress", output=[], usage=None)
        )
        + _typed("response.output_item.added", sequence_number=1, output_index=0, item=_ITEM),
        content=lambda text: _typed("response.output_text.delta", sequence_number=2, delta=text, **_PLACE),
        complete=_response_event("completed", 3),
        terminal=b"",
        without_usage=_response_event("completed", 3, usage=None),
        bare_end=_response_event("completed", 3, usage=None),
        failure=lambda error: _typed("error", sequence_number=3, **{"code": "server_error", "param": None} | error),
        keep_alive=b'event: keepalive\ndata: {"type":"keepalive","sequence_number":2}\n\n',
        text_of=lambda event: event["delta"] if event["type"] == "response.output_text.delta" else "",
        error_of=_response_error,
        is_end=lambda event: isinstance(event, dict) and event["type"] == "response.completed",
    ),
)


def _message(text: str, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": 4, "cache_read_input_tokens": 2, "output_tokens": 3}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": UPSTREAM_MODEL}
    content = [{"type": "text", "text": text}]
    return head | {"content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": usage} | more


def _message_text(event: dict[str, Any]) -> str:
    return event["delta"]["text"] if event["type"] == "content_block_delta" else ""


def _message_error(event: dict[str, Any]) -> tuple[str, str] | None:
    return (event["error"]["type"], event["error"]["message"]) if event["type"] == "error" else None


_BEGUN = _message("", content=[], stop_reason=None, usage={"input_tokens": 4, "cache_read_input_tokens": 2})
_BLOCK_STOP = _typed("content_block_stop", index=0)
_STOPPED = {"stop_reason": "end_turn", "stop_sequence": None}
_MESSAGE_STOP = _typed("message_stop")
MESSAGES_CASE = EndpointCase(
    endpoint=MESSAGES,
    fields=lambda text: _turn(text) | {"max_tokens": 50},
    answer=_message,
    charged=9,
    count="input_tokens",
    stream=StreamCase(
        fields={"stream": True},
        beginning=_typed("message_start", message=_BEGUN)
        + _typed("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        content=lambda text: _typed("content_block_delta", index=0, delta={"type": "text_delta", "text": text}),
        complete=_BLOCK_STOP + _typed("message_delta", delta=_STOPPED, usage={"output_tokens": 3}),
        terminal=_MESSAGE_STOP,
        without_usage=_BLOCK_STOP + _typed("message_delta", delta=_STOPPED) + _MESSAGE_STOP,
        bare_end=_MESSAGE_STOP,
        failure=lambda error: _typed("error", error={"type": "api_error"} | error),
        keep_alive=b'event: ping\ndata: {"type": "ping"}\n\n',
        text_of=_message_text,
        error_of=_message_error,
        is_end=lambda event: isinstance(event, dict) and event["type"] == "message_stop",
    ),
)
COUNT_CASE = EndpointCase(
    endpoint=COUNT_TOKENS,
    fields=_turn,
    answer=lambda _: {"input_tokens": 8},
    charged=0,
    count="input_tokens",
)

CASES = (CHAT_CASE, EMBEDDINGS_CASE, RESPONSES_CASE, MESSAGES_CASE, COUNT_CASE)
"""Every metered endpoint."""

BILLED = tuple(case for case in CASES if case.endpoint.is_billed)
STREAMS = tuple(case for case in CASES if case.stream is not None)

_UPSTREAM_PATHS = {case.endpoint.upstream_path: case for case in CASES}


def case_of(request: bytes) -> EndpointCase:
    """Return the case of a request that an upstream got, by the path below its base URL."""
    path = request.partition(b" ")[2].partition(b" ")[0].partition(b"?")[0].decode()
    return _UPSTREAM_PATHS[path.removeprefix("/v1")]


def by_name(case: EndpointCase) -> str:
    """Return the id of a parameter."""
    return case.name
