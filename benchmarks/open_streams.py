"""Open many streams and keep reading them: open_streams.py PORT COUNT. The request comes as a line of JSON.

Prints how many have had an event, once all have or ten seconds have brought no more, and goes on until it is ended.
"""

import asyncio
import json
import sys
from typing import cast

import uvloop

SECONDS_WITHOUT_MORE = 10.0
WAITING_MAX = 100
"""How many streams may wait for their first event. A gateway rejects requests that it can't start soon."""


class Stream(asyncio.Protocol):
    """One stream."""

    begun: "set[Stream]" = set()  # noqa: RUF012  all streams share it

    def __init__(self, request: bytes) -> None:
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        cast("asyncio.Transport", transport).write(self._request)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if b"data: " in data:
            self.begun.add(self)


async def main(port: int, count: int) -> None:
    """Open the streams."""
    request = json.loads(sys.stdin.readline()).encode()
    loop = asyncio.get_running_loop()
    seconds, seen, opened = 0.0, 0, 0
    while len(Stream.begun) < count and seconds < SECONDS_WITHOUT_MORE:
        while opened < min(count, len(Stream.begun) + WAITING_MAX):
            await loop.create_connection(lambda: Stream(request), "127.0.0.1", port)
            opened += 1
        await asyncio.sleep(0.01)
        seconds = 0.0 if len(Stream.begun) > seen else seconds + 0.01
        seen = len(Stream.begun)
    print(len(Stream.begun), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2])))
