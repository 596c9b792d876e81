"""Send a `PushedBody` as the response of a page."""

import asyncio

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from tok0n.http.pushed_body import PushedBody


class PushedResponse(Response):
    """Sends server-sent events as they are pushed. Implements `BodyWriter`."""

    media_type = "text/event-stream"

    def __init__(self, pushed: PushedBody, headers: dict[str, str]) -> None:
        super().__init__(headers=headers | {"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._pushed = pushed
        self._has_more = asyncio.Event()
        self._has_more.set()
        pushed.attach(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's signature
        """Send what is pushed until it ends or the client leaves."""
        pushed = self._pushed
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            while not pushed.is_closed:
                await self._has_more.wait()
                self._has_more.clear()
                if piece := pushed.take():
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                if pushed.has_ended and not pushed.waiting_bytes:
                    pushed.close()
            await send({"type": "http.response.body", "body": b""})
        finally:
            pushed.leave()

    def write(self, piece: bytes) -> bool:  # noqa: ARG002  it waits in the body
        """Send the piece soon."""
        self._has_more.set()
        return False

    def wake(self) -> None:
        """Send soon what waits, or notice the end."""
        self._has_more.set()

    def abort(self) -> None:
        """End the response, because its client reads too slowly."""
        self._has_more.set()

    def unsent_bytes(self) -> int:
        """Return 0, because everything that is not sent waits in the body."""
        return 0
