"""Raw connections of the attackers and of the honest client, each from an address of its own."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from types import TracebackType
from typing import NamedTuple, Self

HONEST_ADDRESS, ATTACK_ADDRESS = "127.0.0.3", "127.0.0.2"
"""Limits that count by client address must not make one of them suffer for the other."""

PIECE_BYTES = 64 * 1024
STALL_SECONDS_MAX = 15.0
"""How long a write may make no progress before the attacker gives the connection up."""

ANSWER_SECONDS_MAX = 60.0


class Answer(NamedTuple):
    """The start of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """Read one answer with a known length, chunked, or up to the end of the connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    if "content-length" in headers:
        body = await reader.readexactly(int(headers["content-length"]))
    elif headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.read()
    return Answer(int(status_line.split()[1]), headers, body)


class Wire:
    """One connection of the attacker. Its end is no error: the server may close it at any moment."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.sent = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._writer.transport.abort()

    async def send(self, data: bytes | memoryview) -> bool:
        """Send all of it, in pieces. Return whether the server took it."""
        try:
            for start in range(0, len(data), PIECE_BYTES):
                self._writer.write(data[start : start + PIECE_BYTES])
                async with asyncio.timeout(STALL_SECONDS_MAX):
                    await self._writer.drain()
                self.sent += min(PIECE_BYTES, len(data) - start)
        except (OSError, TimeoutError):
            return False
        return True

    async def outcome(self) -> str:
        """Read one answer: its status, or what happened instead."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                return str((await read_answer(self._reader)).status)
        except TimeoutError:
            return "no answer"
        except (OSError, asyncio.IncompleteReadError, ValueError, asyncio.LimitOverrunError):
            return "closed"

    async def closed_within(self, seconds: float) -> float | None:
        """Wait until the server closes the connection. Return after how long, or None when it stays open."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(seconds):
                while await self._reader.read(PIECE_BYTES):
                    pass
        except TimeoutError:
            return None
        except OSError:
            pass
        return time.monotonic() - began

    def stop_reading(self) -> None:
        """Let the answers fill the kernel's buffers, and then the server's."""
        self._writer.transport.pause_reading()  # type: ignore[attr-defined]

    def go_on_reading(self) -> None:
        """Undo `stop_reading`."""
        self._writer.transport.resume_reading()  # type: ignore[attr-defined]


async def connect(host: str, port: int, address: str = ATTACK_ADDRESS) -> Wire:
    """Open one connection."""
    async with asyncio.timeout(ANSWER_SECONDS_MAX):
        return Wire(*await asyncio.open_connection(host, port, local_addr=(address, 0)))


@contextlib.asynccontextmanager
async def connections(host: str, port: int, count: int) -> AsyncIterator[list[Wire]]:
    """Open many connections, as many of them as the server accepts, for as long as the block lasts."""
    async with contextlib.AsyncExitStack() as stack:
        wires = []
        for _ in range(count):
            try:
                wires.append(await stack.enter_async_context(await connect(host, port)))
            except (OSError, TimeoutError):
                break
        yield wires


async def each(wires: Iterable[Wire], do: Callable[[Wire], Awaitable[object]]) -> list[object]:
    """Do the same on all of them at once."""
    return list(await asyncio.gather(*(do(wire) for wire in wires)))


async def outcomes(wires: Iterable[Wire]) -> str:
    """Read an answer on each, and count them: "198 x 402, 2 x closed"."""
    return tally(await asyncio.gather(*(wire.outcome() for wire in wires)))


def tally(values: Iterable[object]) -> str:
    """Count equal values, the most frequent first."""
    return ", ".join(f"{count:,} x {value}" for value, count in Counter(values).most_common())
