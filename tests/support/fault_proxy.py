"""A TCP proxy that fails on command: it delays, cuts after so many bytes, drops answers, or is away."""

import asyncio
import contextlib
from types import TracebackType
from typing import Self


class FaultProxy:
    """Stands before 127.0.0.1:`port`. What was armed happens once, on whichever connection comes first.

    With `only`, connections count that have sent these bytes.
    """

    def __init__(self, port: int, *, only: bytes = b"") -> None:
        self._target = port
        self._only = only
        self._concerned: set[asyncio.StreamWriter] = set()
        self._cut_after: dict[str, int | None] = {"up": None, "down": None}
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.cut = asyncio.Event()
        self._away = False

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.flowing.set()
        self._server.close()
        self.cut_all()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut_request_after(self, size: int) -> None:
        """Let `size` more bytes through to the server, then cut the connection."""
        self._arm("up", size)

    def cut_answer_after(self, size: int) -> None:
        """Let `size` more bytes through from the server, then cut the connection: 0 drops the whole answer."""
        self._arm("down", size)

    def refuse(self, *, away: bool) -> None:
        """Be away: cut every connection there is and whatever comes, until told otherwise."""
        self._away = away
        if away:
            self.cut_all()

    def cut_all(self) -> None:
        """Cut every connection there is."""
        for writer in list(self._open):
            writer.transport.abort()

    def _arm(self, direction: str, size: int) -> None:
        self.cut.clear()
        self._cut_after[direction] = size

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, up_writer}
        self._open |= pair
        tasks = [
            asyncio.create_task(self._pump("up", reader, up_writer, pair)),
            asyncio.create_task(self._pump("down", up_reader, writer, pair)),
        ]
        self._tasks.update(tasks)
        await asyncio.wait(tasks)
        self._open -= pair
        self._concerned -= pair

    async def _pump(
        self,
        direction: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: set[asyncio.StreamWriter],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self.flowing.wait()
                left = self._cut_after[direction] if pair & self._concerned else None
                if direction == "up" and self._only in data:
                    self._concerned |= pair
                if left is not None:
                    self._cut_after[direction] = None if len(data) >= left else left - len(data)
                    writer.write(data[:left])
                    if len(data) >= left:
                        await self._flush(writer)
                        for end in pair:
                            end.transport.abort()
                        self.cut.set()
                        return
                else:
                    writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()

    async def _flush(self, writer: asyncio.StreamWriter) -> None:
        """Abort would throw away what is not written yet."""
        while writer.transport.get_write_buffer_size():
            await asyncio.sleep(0)
