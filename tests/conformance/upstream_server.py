"""A raw HTTP/1.1 server for the upstream client: one request gets a row of the table, every other one its own echo."""

import asyncio
import socket
import struct
from types import TracebackType
from typing import Self

from conformance.upstream_messages import Row, sized

TICKS_BETWEEN_PIECES = 3


class UpstreamServer:
    """Listens on a free port. The first request gets `row`; any other gets its body back as its answer."""

    def __init__(self, row: Row | None = None) -> None:
        self.row = row
        self.connections: list[Peer] = []
        self.tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: Peer(self), "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for peer in self.connections:
            peer.transport.abort()
        await self._server.wait_closed()

    def answer(self, peer: "Peer", body: bytes) -> None:
        peer.transport.write(sized(body))


class Peer(asyncio.Protocol):
    """One connection, seen from the upstream."""

    transport: asyncio.Transport

    def __init__(self, server: UpstreamServer) -> None:
        self._server = server
        self._received = b""
        self._head = b""
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream protocol is given a stream transport
        self._server.connections.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        row, self._server.row = self._server.row, None
        if row is not None:
            self._received = b""
            if row.request_bytes:
                self.transport.pause_reading()
            task = asyncio.ensure_future(self._misbehave(row))
            self._server.tasks.add(task)
            task.add_done_callback(self._server.tasks.discard)
            return
        self._head = head
        length = int(head.rpartition(b"content-length: ")[2])
        if len(body) >= length:
            self._received = body[length:]
            self._server.answer(self, body[:length])

    async def _misbehave(self, row: Row) -> None:
        for number, piece in enumerate(row.pieces):
            for _ in range(TICKS_BETWEEN_PIECES if number else 0):
                await asyncio.sleep(0)
            if self.transport.is_closing():
                return
            self.transport.write(piece)
        if row.end == "fin":
            self.transport.close()
        elif row.end == "rst":
            self.reset()
        while row.end == "drip" and not self.lost.is_set():
            self.transport.write(b"x")
            await asyncio.sleep(0.001)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
