"""The response of an upstream whose body is read in pieces, as they arrive."""

import asyncio
from collections.abc import Callable

from tok0n.domain.errors import UpstreamFailed
from tok0n.ports.upstream import BodyReceiver

UNREAD_BYTES_MAX = 1024 * 1024
"""The decoded bytes that wait for the caller. Past them, the connection reads nothing until the caller has read."""


class ResponseStream:
    """Hands the body of one response from a connection to one caller. Implements `StreamedResponse`.

    `pause` and `resume` stop and restart the reading of the connection.
    """

    __slots__ = (
        "_body_bytes_max",
        "_error",
        "_is_complete",
        "_is_paused",
        "_pause",
        "_receiver",
        "_resume",
        "_unread",
        "_waiter",
        "retry_after_seconds",
        "status",
    )

    def __init__(self, *, body_bytes_max: int, pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self.status = 0
        self.retry_after_seconds: float | None = None
        self._body_bytes_max = body_bytes_max
        self._pause = pause
        self._resume = resume
        self._is_paused = False
        self._is_complete = False
        self._unread = bytearray()
        self._error: UpstreamFailed | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._receiver: BodyReceiver | None = None

    async def head(self) -> None:
        """Wait until `status` is set. Raises `UpstreamFailed`."""
        while not self.status:
            await self._progress()

    async def read(self) -> bytes:
        while not self._unread:
            if self._is_complete:
                return b""
            await self._progress()
        piece = bytes(self._unread)
        self._unread.clear()
        self._resume_reading()
        return piece

    async def read_all(self) -> bytes:
        body = bytearray()
        while piece := await self.read():
            body += piece
            if len(body) > self._body_bytes_max:
                raise UpstreamFailed(
                    "The upstream provider returned a response that is too large.",
                    detail=f"more than {self._body_bytes_max} bytes",
                    outcome_unknown=True,
                )
        return bytes(body)

    def forward(self, receiver: BodyReceiver) -> None:
        self._receiver = receiver
        piece = bytes(self._unread)
        self._unread.clear()
        self._resume_reading()
        if piece:
            receiver.receive(piece)
        if self._is_complete or self._error is not None:
            receiver.receive_end(self._error)

    # The connection calls the following methods.

    def feed(self, piece: bytes) -> None:
        """Add the bytes that one read of the connection brought."""
        if self._receiver is not None:
            if piece:
                self._receiver.receive(piece)
            return
        self._unread += piece
        if len(self._unread) > UNREAD_BYTES_MAX and not self._is_paused:
            self._is_paused = True
            self._pause()
        self._notify()

    def end(self, error: UpstreamFailed | None = None) -> None:
        """End the body. The caller first reads the rest, then gets the error."""
        self._is_complete = error is None
        self._error = error
        if self._receiver is not None:
            self._receiver.receive_end(error)
            return
        self._resume_reading()
        self._notify()

    async def _progress(self) -> None:
        """Wait until the connection has reported anything. Raises the error that ended the response."""
        if self._error is not None:
            raise self._error
        assert self._waiter is None, "one caller reads a response"
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _resume_reading(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._resume()

    def _notify(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
