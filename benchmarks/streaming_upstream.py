"""An upstream that streams: streaming_upstream.py PORT EVENTS PER_SECOND.

Each stream has EVENTS chunks with content, PER_SECOND of them a second, or all in one write if PER_SECOND is 0. Then
come the end of the choice, the usage and `[DONE]`. The streams take turns, so their chunks are spread over the time. A
request without `"stream":true` is answered at once, and so is a small one: a gateway that verifies its model.
"""

import asyncio
import re
import sys

import uvloop
from paced_upstream import ANSWER, BACKLOG, SMALL_BODY_BYTES, RequestReader
from payloads import UPSTREAM_MODEL

TICK_SECONDS = 0.001
_STREAM = re.compile(rb'"stream" *: *true')
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNK = (
    '{{"id":"chatcmpl-B9MHDbslfkBeAs8l4bebGdFOJ6PeG","object":"chat.completion.chunk","created":1741570283,'
    '"model":"{model}","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{choices}],'
    '"usage":{usage}}}'
)
_USAGE = '{"prompt_tokens":20,"completion_tokens":10,"total_tokens":30}'


def _event(data: str) -> bytes:
    event = f"data: {data}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(event), event)


def _chunk(delta: str, *, finish: str = "null") -> bytes:
    choices = f'{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}'
    return _event(_CHUNK.format(model=UPSTREAM_MODEL, choices=choices, usage="null"))


_FIRST = _chunk('{"role":"assistant","content":""}')
_CONTENT = _chunk('{"content":" word"}')
_END = (
    _chunk("{}", finish='"stop"')
    + _event(_CHUNK.format(model=UPSTREAM_MODEL, choices="", usage=_USAGE))
    + _event("[DONE]")
    + b"0\r\n\r\n"
)


class Pace:
    """Writes the chunks of all streams in turns."""

    def __init__(self, events: int, per_second: float) -> None:
        self.events = events
        self.per_second = per_second
        self._slots: list[list[Upstream]] = [[] for _ in range(max(1, round(1 / (per_second or 1) / TICK_SECONDS)))]
        self._next = 0

    def begin(self, upstream: "Upstream") -> None:
        """Begin a stream with its first chunk with content."""
        upstream.transport.write(_HEAD + _FIRST + _CONTENT)
        if not self.per_second:
            upstream.transport.write(_CONTENT * (self.events - 1) + _END)
            return
        upstream.left = self.events - 1
        self._slots[self._next].append(upstream)
        self._next = (self._next + 7) % len(self._slots)

    async def run(self) -> None:
        """Write what is due, for as long as the process runs."""
        loop = asyncio.get_running_loop()
        began, ticks = loop.time(), 0
        while self.per_second:
            await asyncio.sleep(TICK_SECONDS)
            while ticks < (loop.time() - began) / TICK_SECONDS:
                self._write(self._slots[ticks % len(self._slots)])
                ticks += 1

    @staticmethod
    def _write(slot: "list[Upstream]") -> None:
        ended = False
        for upstream in slot:
            if upstream.transport.is_closing():
                upstream.left = 0
            elif upstream.left:
                upstream.left -= 1
                upstream.transport.write(_CONTENT if upstream.left else _CONTENT + _END)
            ended = ended or not upstream.left
        if ended:
            slot[:] = [upstream for upstream in slot if upstream.left]


class Upstream(RequestReader):
    """Streams if it is asked to."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.left = 0

    def answer(self, body: bytes) -> None:
        """Answer at once, or begin a stream."""
        if not _STREAM.search(body):
            self.transport.write(ANSWER)
        elif len(body) < SMALL_BODY_BYTES:
            self.transport.write(_HEAD + _FIRST + _CONTENT + _END)
        else:
            self._pace.begin(self)


async def main(port: int, events: int, per_second: float) -> None:
    """Serve until a signal ends the process."""
    pace = Pace(events, per_second)
    server = await asyncio.get_running_loop().create_server(lambda: Upstream(pace), "127.0.0.1", port, backlog=BACKLOG)
    async with server:
        await pace.run()
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
