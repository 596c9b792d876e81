"""The honest client, in a process of its own: calls the API and reads a page, steadily, and times each answer.

It also runs the upstream of the server under attack, so that an attack never slows the upstream down. Its standard
input takes one JSON command a line; each command but `target` answers with one JSON line.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from attack.upstream import AttackUpstream
from attack.wire import HONEST_ADDRESS, Answer, read_answer
from support.endpoint_cases import DONE
from support.http import chat_body

PAUSE_SECONDS = 0.04
ANSWER_SECONDS_MAX = 60.0
FAILURES_MAX = 5
RETRIES_MAX = 2
RETRY_SECONDS = 1.0
"""The official SDKs retry a 503 twice, after the second that its `retry-after` says. All of it counts as latency."""

Ask = Callable[[], Awaitable[int]]


class Honest:
    """Four loops: chat completions on one connection, streams, the landing page and the model list on new ones."""

    def __init__(self) -> None:
        self._host, self._port = "", 0
        self._key: str | None = None
        self._seconds: dict[str, list[float]] = {}
        self._failures: list[str] = []
        self._paused = asyncio.Event()
        self._go_on = asyncio.Event()
        self._idle = [asyncio.Event() for _ in range(4)]
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def serve(self) -> None:
        """Obey standard input until it ends."""
        async with AttackUpstream() as upstream, asyncio.TaskGroup() as group:
            asks = {"chat": self._chat, "stream": self._streamed, "page": self._page, "models": self._models}
            loops = [
                group.create_task(self._loop(name, ask, idle))
                for (name, ask), idle in zip(asks.items(), self._idle, strict=True)
            ]
            self._say({"upstream_url": upstream.base_url})
            commands = asyncio.StreamReader()
            loop = asyncio.get_running_loop()
            await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
            while line := await commands.readline():
                await self._obey(json.loads(line))
            for task in loops:
                task.cancel()

    async def _obey(self, command: dict[str, Any]) -> None:
        match command["command"]:
            case "target":
                self._host, self._port, self._key = command["host"], command["port"], command["key"]
                self._go_on.set()
            case "report":
                await self._pause()
                self._say({"seconds": self._seconds, "failures": self._failures})
                self._seconds, self._failures = {}, []
                self._go_on.set()
            case "rest":
                await self._pause()
                if self._stream is not None:
                    self._stream[1].close()
                    self._stream = None
                self._say({})

    async def _pause(self) -> None:
        """Wait for the answers to the requests in progress, so that the slowest of them count."""
        self._go_on.clear()
        await asyncio.gather(*(idle.wait() for idle in self._idle))

    async def _loop(self, name: str, ask: Ask, idle: asyncio.Event) -> None:
        while True:
            if not self._go_on.is_set():
                idle.set()
                await self._go_on.wait()
            idle.clear()
            began = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_SECONDS_MAX):
                    status = await self._with_retries(ask)
                failure = None if status == 200 else f"{name}: status {status}"
            except TimeoutError:
                failure = f"{name}: no answer within {ANSWER_SECONDS_MAX:g} s"
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                failure = f"{name}: {error!r}"
            self._seconds.setdefault(name, []).append(time.monotonic() - began)
            if failure is not None:
                if len(self._failures) < FAILURES_MAX:
                    self._failures.append(failure)
                self._stream = None
            await asyncio.sleep(PAUSE_SECONDS)

    async def _with_retries(self, ask: Ask) -> int:
        for _ in range(RETRIES_MAX):
            status = await ask()
            if status != HTTPStatus.SERVICE_UNAVAILABLE:
                return status
            self._stream = None
            await asyncio.sleep(RETRY_SECONDS)
        return await ask()

    async def _chat(self) -> int:
        if self._key is None:
            return await self._get("/docs")
        if self._stream is None:
            self._stream = await self._connect()
        return (await self._exchange(*self._stream, self._completion())).status

    async def _streamed(self) -> int:
        """Read a stream whose upstream sends an event every 20 ms. Raises `ValueError` if it is cut."""
        if self._key is None:
            return await self._get("/docs")
        reader, writer = await self._connect()
        try:
            answer = await self._exchange(reader, writer, self._completion(stream=True))
        finally:
            writer.close()
        if answer.status == 200 and not answer.body.endswith(DONE):
            raise ValueError("the stream was cut")
        return answer.status

    def _completion(self, **more: object) -> bytes:
        body = chat_body("Hello", **more)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {self._key}\r\n"
        return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body

    async def _page(self) -> int:
        return await self._get("/")

    async def _models(self) -> int:
        return await self._get("/v1/models")

    async def _get(self, path: str) -> int:
        reader, writer = await self._connect()
        try:
            return (await self._exchange(reader, writer, f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())).status
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(self._host, self._port, local_addr=(HONEST_ADDRESS, 0))

    @staticmethod
    async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> Answer:
        writer.write(request)
        await writer.drain()
        return await read_answer(reader)

    @staticmethod
    def _say(value: object) -> None:
        sys.stdout.write(json.dumps(value) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(Honest().serve())
