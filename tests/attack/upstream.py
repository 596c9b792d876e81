"""The upstream of the server under attack: whole answers at once, short streams at a pace, and long ones."""

import asyncio

from support.endpoint_cases import DONE, REPORT, ROLE, STOP, EndpointCase, chunk
from support.http import InstantUpstream
from support.streaming_upstream import HEAD

LONG = "a long answer"
"""A prompt that asks for a long stream."""

SHORT_EVENTS, SHORT_PAUSE_SECONDS = 10, 0.02
LONG_EVENTS, LONG_PAUSE_SECONDS, LONG_EVENT_BYTES = 256, 0.2, 8 * 1024
LONG_SECONDS = LONG_EVENTS * LONG_PAUSE_SECONDS


class AttackUpstream(InstantUpstream):
    """An `InstantUpstream` that streams too."""

    async def respond(self, case: EndpointCase, request: bytes, writer: asyncio.StreamWriter) -> None:
        """Respond to one request."""
        if b'"stream":true' not in request:
            await super().respond(case, request, writer)
            return
        is_long = LONG.encode() in request
        count, pause_seconds = (LONG_EVENTS, LONG_PAUSE_SECONDS) if is_long else (SHORT_EVENTS, SHORT_PAUSE_SECONDS)
        event = _framed(chunk("x" * LONG_EVENT_BYTES if is_long else "word "))
        writer.write(HEAD + _framed(ROLE))
        for _ in range(count):
            writer.write(event)
            await writer.drain()
            await asyncio.sleep(pause_seconds)
        writer.write(_framed(STOP + REPORT + DONE) + b"0\r\n\r\n")


def _framed(events: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(events), events)
