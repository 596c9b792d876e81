"""An upstream that answers each completion a fixed time after it came: paced_upstream.py PORT SECONDS.

Not nginx with `echo_sleep`: its timers count whole milliseconds from the start of the millisecond in which a request
came, so that 50 ms are 49 to 50, and a gateway could seem faster than what is ideal. Here one kernel timer (timerfd)
is set to the microsecond for the answer that is due next; the delay is the same for all, so they are due in the order
in which they came. A small body is a gateway that verifies its model: that one is answered at once.
"""

import asyncio
import ctypes
import os
import re
import sys
import time
from collections import deque
from typing import cast

import uvloop
from payloads import COMPLETION

SMALL_BODY_BYTES = 600
BACKLOG = 4096
_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
ANSWER = (
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    f"Content-Length: {len(COMPLETION.encode())}\r\n\r\n{COMPLETION}"
).encode()


class Pace:
    """Answers when they are due."""

    def __init__(self, seconds: float, loop: asyncio.AbstractEventLoop) -> None:
        self._seconds = seconds
        self._due: deque[tuple[float, asyncio.Transport]] = deque()
        self._timer = Timer()
        loop.add_reader(self._timer.descriptor, self._answer)

    def answer_later(self, transport: asyncio.Transport) -> None:
        """To be called when a request is whole."""
        due = time.monotonic() + self._seconds
        if not self._due:
            self._timer.set(due)
        self._due.append((due, transport))

    def _answer(self) -> None:
        self._timer.clear()
        while self._due and self._due[0][0] <= time.monotonic():
            _, transport = self._due.popleft()
            if not transport.is_closing():
                transport.write(ANSWER)
        if self._due:
            self._timer.set(self._due[0][0])


class Timer:
    """The kernel's, which Python has from 3.13 on only: readable at a moment of `time.monotonic`."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self.descriptor: int = self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK)
        if self.descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def set(self, moment: float) -> None:
        """Be readable then."""
        seconds, nanoseconds = divmod(max(1, int(moment * 1e9)), 10**9)
        absolute = 1
        never_again_and_then = (ctypes.c_long * 4)(0, 0, seconds, nanoseconds)
        self._libc.timerfd_settime(self.descriptor, absolute, never_again_and_then, None)

    def clear(self) -> None:
        """Not be readable any more."""
        try:
            os.read(self.descriptor, 8)
        except BlockingIOError:
            return


class RequestReader(asyncio.Protocol):
    """One connection, with one request at a time."""

    transport: asyncio.Transport
    _received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _CONTENT_LENGTH.search(head)
        body_bytes = int(length[1]) if length else 0
        if not end or len(body) < body_bytes:
            return
        self._received = b""
        self.answer(body)

    def answer(self, body: bytes) -> None:
        """Answer a request with this body."""
        raise NotImplementedError


class Upstream(RequestReader):
    """Answers when it is due."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def answer(self, body: bytes) -> None:
        """Answer a small request now, and any other one later."""
        if len(body) < SMALL_BODY_BYTES:
            self.transport.write(ANSWER)
        else:
            self._pace.answer_later(self.transport)


async def main(port: int, seconds: float) -> None:
    """Serve until a signal ends the process."""
    loop = asyncio.get_running_loop()
    pace = Pace(seconds, loop)
    server = await loop.create_server(lambda: Upstream(pace), "127.0.0.1", port, backlog=BACKLOG)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), float(sys.argv[2])))
