"""Hand-written fakes behind the same ports as the real things."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TypeVar

from tok0n.domain.endpoints import ENDPOINTS
from tok0n.domain.errors import Tok0nError, UpstreamFailed
from tok0n.ports.upstream import BodyReceiver, UpstreamResponse

T = TypeVar("T")

ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"upstream-demo",'
    b'"choices":[{"index":0,"message":{"role":"assistant","content":"Hello."},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":9,"completion_tokens":3,"total_tokens":12}}'
)
UPSTREAM_PATHS = {endpoint.upstream_path for endpoint in ENDPOINTS}


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, *, now_us: int = 1_800_000_000_000_000) -> None:
        self._now_us = now_us

    def now_us(self) -> int:
        return self._now_us

    def monotonic(self) -> float:
        return self._now_us / 1_000_000

    def advance(self, seconds: float) -> None:
        self._now_us += round(seconds * 1_000_000)


class FakeStream:
    """The response of a stream, whose body the test gives to `receiver`."""

    retry_after_seconds: float | None = None

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body
        self.receiver: BodyReceiver | None = None
        self.is_left = False

    async def read(self) -> bytes:
        raise NotImplementedError

    async def read_all(self) -> bytes:
        return self._body

    def forward(self, receiver: BodyReceiver) -> None:
        self.receiver = receiver

    def send(self, piece: bytes) -> None:
        """Give the relay a piece of the body."""
        assert self.receiver is not None
        self.receiver.receive(piece)

    def end(self, error: UpstreamFailed | None = None) -> None:
        """Give the relay the end of the body."""
        assert self.receiver is not None
        self.receiver.receive_end(error)


class FakeUpstream:
    """An upstream that gives `answer`, or raises it, once `gate` is open. It remembers what it was sent.

    `answers` come first, one after the other.
    """

    timeout_seconds = 5.0
    stream_seconds = 60.0
    stream_idle_seconds = 600.0
    body_bytes_max = 2**24
    continuous_usage = False

    def __init__(
        self, answer: UpstreamResponse | Tok0nError | None = None, *, gate: asyncio.Event | None = None
    ) -> None:
        self.answer = answer or UpstreamResponse(status=200, body=ANSWER)
        self.answers: list[UpstreamResponse] = []
        self.gate = gate
        self.bodies: list[bytes] = []
        self.streams: list[FakeStream] = []
        self.stream_status = 200

    async def next_stream(self) -> "FakeStream":
        """Wait until a stream was asked for and its body is awaited, and take it."""
        while not self.streams or self.streams[0].receiver is None:
            await asyncio.sleep(0)
        return self.streams.pop(0)

    async def send(self, path: str, body: bytes, *, headers: Sequence[tuple[str, str]] = ()) -> UpstreamResponse:
        assert path in UPSTREAM_PATHS
        self.bodies.append(body)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if self.answers:
            return self.answers.pop(0)
        if isinstance(self.answer, Tok0nError):
            raise self.answer
        return self.answer

    @contextlib.asynccontextmanager
    async def stream(
        self, path: str, body: bytes, *, timeout_seconds: float, headers: Sequence[tuple[str, str]] = ()
    ) -> AsyncIterator["FakeStream"]:
        assert (path in UPSTREAM_PATHS, timeout_seconds) == (True, self.stream_seconds)
        self.bodies.append(body)
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, Tok0nError):
            raise self.answer
        stream = FakeStream(self.stream_status, self.answer.body)
        self.streams.append(stream)
        try:
            yield stream
        finally:
            stream.is_left = True

    def scrub(self, text: str) -> str:
        return text.replace("sk-secret", "[redacted]")
