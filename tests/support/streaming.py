"""Chat streams for tests: what an upstream sends, a reader that asks for a stream in each request, and a client."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from support.fakes import FakeStream
from support.gateways import InProcess
from support.ledgers import schema
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.endpoints.endpoint import NO_HEADERS, Endpoint
from tok0n.domain.errors import Tok0nError
from tok0n.domain.json_text import JsonText
from tok0n.domain.metered_request import MeteredRequest, StreamOptions
from tok0n.services.call import Call
from tok0n.services.relay import StreamedAnswer
from tok0n.services.request_reader import RequestReader

BODY = msgspec.json.encode(
    {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 50}
)
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def chunk(
    content: str = "", *, role: str | None = None, finish: str | None = None, usage: Any = None, choices: Any = None
) -> bytes:
    """One chunk of an upstream."""
    delta = ({} if role is None else {"role": role}) | ({"content": content} if content else {})
    own = [{"index": 0, "delta": delta, "finish_reason": finish}] if choices is None else choices
    values = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "upstream-demo", "choices": own}
    return b"data: %b\n\n" % json.dumps(values | ({} if usage is None else {"usage": usage})).encode()


ROLE = chunk(role="assistant")
STOP = chunk(finish="stop")
REPORT = chunk(choices=[], usage=USAGE)


class StreamingReader(RequestReader):
    """Takes every request as one for a stream whose client wants the usage."""

    def read_now(
        self, endpoint: Endpoint, body: JsonText, headers: Mapping[bytes, bytes] = NO_HEADERS
    ) -> MeteredRequest:
        request = super().read_now(endpoint, body, headers)
        return msgspec.structs.replace(request, stream=StreamOptions(includes_usage=True))


class Client:
    """The client of one stream. Implements `BodyWriter`."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.is_reading = True
        self.is_reset = False

    def wake(self) -> None:
        pass

    def abort(self) -> None:
        self.is_reset = True

    def write(self, piece: bytes) -> bool:
        if self.is_reading:
            self.received += piece
        return self.is_reading

    def unsent_bytes(self) -> int:
        return 0


class Stream:
    """A stream in progress: its call, and its client once the response has begun."""

    def __init__(self, gateway: InProcess) -> None:
        self.call: Call = gateway.pipeline.new_call("chat")
        self.client = Client()
        self.answer: StreamedAnswer
        self._gateway = gateway
        self._serving = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        pipeline = self._gateway.pipeline
        caller = await pipeline.authenticate(self.call, self._gateway.authorization)
        answer = await pipeline.serve(CHAT, self.call, caller, BODY)
        assert isinstance(answer, StreamedAnswer)
        self.answer = answer
        answer.body.attach(self.client)
        self.client.received += answer.body.take()

    @property
    def has_begun(self) -> bool:
        return self._serving.done()

    async def begun(self) -> None:
        """Wait for the response. Raises the error that the client gets instead."""
        await self._serving

    async def ended(self) -> Tok0nError | None:
        """Wait for the end of the stream. Returns the error that the client got."""
        await self._serving
        error = await self.answer.task
        self.client.received += self.answer.body.take()
        self.answer.body.close()
        return error


async def charged(gateway: InProcess) -> list[tuple[str, int, str | None]]:
    rows = await gateway.db.rows(schema.request)
    return [(row["status"], row["charged"], row["code"]) for row in rows]


def events(received: bytes | bytearray) -> list[Any]:
    """Parse what a client received."""
    lines = [event.removeprefix(b"data: ") for event in bytes(received).split(b"\n\n") if event]
    return [line.decode() if line == b"[DONE]" else json.loads(line) for line in lines]


async def opened(gateway: InProcess) -> tuple[Stream, FakeStream]:
    """Ask for a stream. Returns it with its upstream's side."""
    stream = Stream(gateway)
    return stream, await gateway.upstream.next_stream()
