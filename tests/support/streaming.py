"""Streams for tests, in this process: a call that asks for one, and its client."""

import asyncio
import functools

from support.endpoint_cases import CHAT_CASE, EndpointCase, Event, parse_events
from support.fakes import FakeStream
from support.gateways import InProcess
from support.ledgers import schema
from tok0n.domain.errors import Tok0nError
from tok0n.services.call import Call
from tok0n.services.relay import StreamedAnswer
from tok0n.services.request_reader import RequestReader

streaming_reader = functools.partial(RequestReader, is_streaming=True)
"""Makes the reader of a gateway that streams."""


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

    def __init__(self, gateway: InProcess, case: EndpointCase = CHAT_CASE) -> None:
        self.call: Call = gateway.pipeline.new_call(case.name)
        self.client = Client()
        self.answer: StreamedAnswer
        self._gateway = gateway
        self._case = case
        self.serving = asyncio.create_task(self._serve())

    async def _serve(self) -> None:
        pipeline = self._gateway.pipeline
        caller = await pipeline.authenticate(self.call, self._gateway.authorization)
        answer = await pipeline.serve(self._case.endpoint, self.call, caller, self._case.body(is_stream=True))
        assert isinstance(answer, StreamedAnswer)
        self.answer = answer
        answer.body.attach(self.client)
        self.client.received += answer.body.take()

    @property
    def events(self) -> list[Event]:
        """What the client received."""
        return parse_events(self.client.received)

    @property
    def has_begun(self) -> bool:
        return self.serving.done()

    async def begun(self) -> None:
        """Wait for the response. Raises the error that the client gets instead."""
        await self.serving

    async def ended(self) -> Tok0nError | None:
        """Wait for the end of the stream. Returns the error that the client got."""
        await self.serving
        error = await self.answer.task
        self.client.received += self.answer.body.take()
        self.answer.body.close()
        return error


async def charged(gateway: InProcess) -> list[tuple[str, int, str | None]]:
    rows = await gateway.db.rows(schema.request)
    return [(row["status"], row["charged"], row["code"]) for row in rows]


async def opened(gateway: InProcess, case: EndpointCase = CHAT_CASE) -> tuple[Stream, FakeStream]:
    """Ask for a stream. Returns it with its upstream's side. Raises the error that comes before one."""
    stream = Stream(gateway, case)
    upstream = asyncio.create_task(gateway.upstream.next_stream())
    await asyncio.wait([upstream, stream.serving], return_when=asyncio.FIRST_COMPLETED)
    if not upstream.done():
        upstream.cancel()
        await stream.begun()
    return stream, await upstream
