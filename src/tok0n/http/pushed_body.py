"""The body of a response whose producer doesn't wait for the client: what the client hasn't read waits in memory."""

import math
from collections.abc import Callable
from typing import Protocol

PIECE_BYTES = 48
"""The memory that a waiting piece takes besides its bytes: the header of the object, and its place in the list."""

MEMORY_FACTOR = 1.25
"""The memory that one waiting byte takes. The allocator can't reuse all the gaps that freed pieces leave."""


def memory_bytes(unsent_bytes: int, pieces: int) -> int:
    """Return about how much memory unsent bytes in this many waiting pieces take."""
    return round(MEMORY_FACTOR * unsent_bytes) + PIECE_BYTES * pieces


class BodyWriter(Protocol):
    """What writes the body to a connection."""

    @property
    def wake(self) -> Callable[[], None]:
        """Have it soon take what waits, or notice the end."""

    @property
    def abort(self) -> Callable[[], None]:
        """Reset the connection."""

    def write(self, piece: bytes) -> bool:
        """Write a piece now, and return True. False if the client has not read enough of what was written before."""

    def unsent_bytes(self) -> int:
        """Return how many written bytes the socket has not accepted yet."""


class PushedBody:
    """The body of one response. The producer pushes pieces, and ends it with `complete` or `end_incomplete`.

    Before the response begins, pieces wait. `has_left`: the client closed the connection, or `drop` did, before the end
    was written. `is_closed`: everything was written, or the client has left. `on_close` is called once then.
    """

    __slots__ = (
        "_on_close",
        "_waiting",
        "_writer",
        "has_ended",
        "has_left",
        "is_closed",
        "is_complete",
        "pushed_bytes",
        "waiting_bytes",
    )

    def __init__(self, on_close: Callable[[], None]) -> None:
        self._on_close = on_close
        self._waiting: list[bytes] = []
        self._writer: BodyWriter | None = None
        self.waiting_bytes = 0
        self.pushed_bytes = 0
        self.has_ended = False
        self.is_complete = False
        self.has_left = False
        self.is_closed = False

    # For the producer

    def push(self, piece: bytes) -> None:
        """Send a piece as soon as the client reads. Drops it if the client has left."""
        if self.is_closed or not piece:
            return
        self.pushed_bytes += len(piece)
        if self._waiting or self._writer is None or not self._writer.write(piece):
            self._keep(piece)

    def complete(self, last: bytes = b"") -> None:
        """End the body with a last piece."""
        self.is_complete = True
        self._end(last)

    def end_incomplete(self, last: bytes = b"") -> None:
        """End the body with a last piece, so that the client sees that it is incomplete."""
        self._end(last)

    def drop(self) -> None:
        """Reset the connection, because its client reads too slowly."""
        writer = self._writer
        self.leave()
        if writer is not None:
            writer.abort()

    @property
    def unsent_bytes(self) -> int:
        """The pushed bytes that the client's socket has not accepted yet."""
        return self.waiting_bytes + (0 if self._writer is None else self._writer.unsent_bytes())

    @property
    def memory_bytes(self) -> int:
        """About the memory that `unsent_bytes` take."""
        return memory_bytes(self.unsent_bytes, len(self._waiting))

    def _end(self, last: bytes) -> None:
        if last and not self.is_closed:
            self.pushed_bytes += len(last)
            self._keep(last)
        self.has_ended = True
        if self._writer is not None:
            self._writer.wake()

    def _keep(self, piece: bytes) -> None:
        self._waiting.append(piece)
        self.waiting_bytes += len(piece)

    # For the server

    def attach(self, writer: BodyWriter) -> None:
        """Write to this connection from now on."""
        self._writer = writer

    def take(self, bytes_max: float = math.inf) -> bytes:
        """Remove and return the first pieces that wait: as few as have `bytes_max` bytes, or all."""
        count = size = 0
        for piece in self._waiting:
            count += 1
            size += len(piece)
            if size >= bytes_max:
                break
        taken = b"".join(self._waiting[:count])
        del self._waiting[:count]
        self.waiting_bytes -= size
        return taken

    def leave(self) -> None:
        """Record that the client has left."""
        if not self.is_closed:
            self.has_left = True
            self.close()

    def close(self) -> None:
        """Record that nothing more will be written."""
        if not self.is_closed:
            self.is_closed = True
            self._waiting.clear()
            self.waiting_bytes = 0
            self._writer = None
            self._on_close()
