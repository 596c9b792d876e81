"""Run the handler for the requests of a connection, and write the responses."""

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from tok0n.http.message import Pieces, Response, StreamedBody, render_complete
from tok0n.http.pushed_body import PushedBody
from tok0n.http.request import Request, RequestAborted

if TYPE_CHECKING:
    from tok0n.http.server import ServerState

log = structlog.get_logger()

PUSHED_UNSENT_BYTES_MAX = 16 * 1024
"""The bytes of a pushed body that the event loop may hold for the socket. The body holds and counts the rest."""

SOCKET_UNSENT_BYTES_MAX = 64 * 1024
"""The bytes of a pushed body that the kernel may hold and can't send yet. By default it takes megabytes for a client
that reads nothing, and those bytes would count as read. This doesn't limit bytes in flight to a distant client."""

CUT_DELAY_SECONDS = 0.5
"""How long a client may take to read the last pieces of a cut body. `fetch` of Node.js and aiohttp drop received bytes
that the program has not read yet when the connection is cut, and the last event says why. Under `CUT_SECONDS_MAX`."""


class Responder:
    """Responds to the requests of one connection in one task, one request at a time.

    - `has_begun`: a part of a response is written, and the rest is not.
    - Calls `on_finish` after each complete response, and `on_failure` if a response can't be completed.
    - `abort` resets the connection.
    """

    __slots__ = (
        "_is_paused",
        "_next_request",
        "_on_failure",
        "_on_finish",
        "_server",
        "_task",
        "_waiter",
        "abort",
        "has_begun",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(
        self,
        server: "ServerState",
        *,
        on_finish: Callable[[Request], None],
        on_failure: Callable[[Request], None],
        abort: Callable[[], None],
    ) -> None:
        self._server = server
        self._on_finish = on_finish
        self._on_failure = on_failure
        self.abort = abort
        self._is_paused = False
        self._next_request: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self.has_begun = False

    def start(self, request: Request) -> None:
        """Have the task respond to a request. The previous request must be finished."""
        self._next_request = request
        if self._task is None:
            self._task = self._server.loop.create_task(self._run())
            self._server.tasks.add(self._task)
        else:
            self.wake()

    def pause(self) -> None:
        """Stop writing until `resume`, because the client reads more slowly than the server writes."""
        self._is_paused = True

    def resume(self) -> None:
        """Continue writing, because the client has read. If the connection is lost, end the task."""
        self._is_paused = False
        self.wake()

    def wake(self) -> None:
        """Continue the task, if it waits."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _wait(self) -> asyncio.Future[None]:
        """Return a future that `wake` resolves.

        The task awaits one at a time: for the next request, or for a slow client to read.
        """
        self._waiter = self._server.loop.create_future()
        return self._waiter

    async def _run(self) -> None:
        """Respond to one request after another, until the connection closes."""
        assert self._task is not None
        try:
            while not self.transport.is_closing():  # a client that leaves before its request starts pays nothing
                request, self._next_request = self._next_request, None
                if request is None:
                    await self._wait()
                elif not request.is_aborted:
                    await self._respond(request)
        finally:
            self._server.tasks.discard(self._task)
            self.transport.close()

    async def _respond(self, request: Request) -> None:
        """Run the handler and write its response.

        If the handler fails, the client gets a 500, or the connection is cut if the response has begun.
        """
        try:
            response = await self._server.handle(request)
            body = response.body
            if isinstance(body, (bytes, bytearray)):
                if self._is_paused:
                    request.body = b""
                    await self._drain()
                if not request.is_aborted:
                    self._write_complete(request, response, body)
            elif isinstance(body, PushedBody):
                await self._write_pushed(request, response, body)
            else:
                await self._write_stream(request, response, body)
        except RequestAborted:
            return
        except Exception:
            log.exception("unexpected_error")
            self._fail(request)
        except asyncio.CancelledError:
            self._fail(request)
            raise

    def _write_complete(self, request: Request, response: Response, body: bytes | bytearray) -> None:
        if not request.is_complete:
            request.keep_alive = False
        keep_alive, is_head = request.keep_alive, request.head.method == b"HEAD"
        rendered = render_complete(response, body, keep_alive=keep_alive, is_head=is_head)
        self.transport.write(rendered)
        self._on_finish(request)

    async def _write_stream(self, request: Request, response: Response, pieces: Pieces) -> None:
        """Write the pieces as the handler produces them. Sends the head with the first one."""
        is_head = request.head.method == b"HEAD"
        try:
            framing = StreamedBody(response, is_http_10=request.head.is_http_10, is_head=is_head)
            if not request.is_complete or framing.must_close:
                request.keep_alive = False
            unsent = framing.head(keep_alive=request.keep_alive)
            if framing.has_body:
                async for piece in pieces:
                    framed = unsent + framing.frame(piece)
                    if self._is_paused:
                        await self._drain()
                    if request.is_aborted:
                        return
                    self.has_begun = True
                    self.transport.write(framed)
                    unsent = b""
                unsent += framing.end()
            if not request.is_aborted:
                self.transport.write(unsent)
                self.has_begun = False
                self._on_finish(request)
        finally:
            await pieces.aclose()

    async def _write_pushed(self, request: Request, response: Response, body: PushedBody) -> None:
        """Write the pieces of a body whose producer doesn't wait."""
        transport = self.transport
        request.body = b""
        try:
            framing = StreamedBody(response, is_http_10=request.head.is_http_10, is_head=False)
            if not request.is_complete or framing.must_close:
                request.keep_alive = False
            transport.set_write_buffer_limits(high=PUSHED_UNSENT_BYTES_MAX)
            _limit_socket(transport)
            self.has_begun = True
            transport.write(framing.head(keep_alive=request.keep_alive) + framing.frame(body.take()))
            body.attach(_PushedWriter(self, framing))
            while not (request.is_aborted or body.is_closed):
                waiting = b"" if self._is_paused else body.take(PUSHED_UNSENT_BYTES_MAX)  # few, because it copies them
                is_last = body.has_ended and not (self._is_paused or body.waiting_bytes)
                if is_last and len(waiting) <= PUSHED_UNSENT_BYTES_MAX:
                    transport.set_write_buffer_limits()
                    body.close()
                    await self._end_pushed(request, framing, waiting, is_complete=body.is_complete)
                elif waiting:
                    transport.write(framing.frame(waiting))
                else:
                    await self._wait()
            if self.has_begun and body.has_left:  # dropped before this began
                self.abort()
        finally:
            body.leave()

    async def _end_pushed(self, request: Request, framing: StreamedBody, last: bytes, *, is_complete: bool) -> None:
        """Write the end of a body, or cut the connection `CUT_DELAY_SECONDS` later, unless it is lost before."""
        if is_complete:
            self.transport.write(framing.frame(last) + framing.end())
            self.has_begun = False
            self._on_finish(request)
            return
        if last:
            self.transport.write(framing.frame(last))
        request.keep_alive = False
        loop = self._server.loop
        cut_at = loop.time() + CUT_DELAY_SECONDS
        while not request.is_aborted and (seconds := cut_at - loop.time()) > 0:
            timer = loop.call_later(seconds, self.wake)
            await self._wait()
            timer.cancel()
        if not request.is_aborted:
            self._on_failure(request)

    def is_writable(self) -> bool:
        """Whether the client has read enough of what was written, and is still there."""
        return not self._is_paused and not self.transport.is_closing()

    async def _drain(self) -> None:
        """Wait until the client has read enough of what was written, or has left."""
        while self._is_paused:
            await self._wait()

    def _fail(self, request: Request) -> None:
        """End a request whose handler failed."""
        if request.is_aborted or request.is_finished:
            return
        request.keep_alive = False
        if self.has_begun:
            self._on_failure(request)
            return
        response = self._server.render_error("api_error", "The server had an unexpected error.", request.head)
        assert isinstance(response.body, bytes)
        self._write_complete(request, response, response.body)


class _PushedWriter:
    """Writes a pushed body directly, without the responder's task. Implements `BodyWriter`."""

    __slots__ = ("_frame", "_responder", "abort", "wake")

    def __init__(self, responder: Responder, framing: StreamedBody) -> None:
        self._responder = responder
        self._frame = framing.frame
        self.wake = responder.wake
        self.abort = responder.abort

    def write(self, piece: bytes) -> bool:
        responder = self._responder
        if not responder.is_writable():
            return False
        responder.transport.write(self._frame(piece))
        return True

    def unsent_bytes(self) -> int:
        return self._responder.transport.get_write_buffer_size()


def _limit_socket(transport: asyncio.Transport) -> None:
    """Limit what the kernel takes beyond what it can send."""
    connection = transport.get_extra_info("socket")
    if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, SOCKET_UNSENT_BYTES_MAX)
