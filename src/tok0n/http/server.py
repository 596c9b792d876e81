"""Listen on a socket, serve its connections, and shut down: gracefully first, then by force."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol, Self

import structlog

from tok0n.http.buffered import BufferedBytes
from tok0n.http.connection import Connection
from tok0n.http.fair_queue import FairQueue
from tok0n.http.head import RequestHead
from tok0n.http.limits import HttpLimits
from tok0n.http.message import Headers, Response
from tok0n.http.pacing import PacedQueue
from tok0n.http.request import Address, Request

log = structlog.get_logger()

BACKLOG = 4096

UNREAD_SECONDS_MAX = 60
"""The server drops a client that reads nothing for this long, because unread responses use memory."""

CUT_SECONDS_MAX = 1.0
"""The time for telling clients that their response is cut, when the server stops."""

Handler = Callable[[Request], Awaitable[Response]]
RenderError = Callable[[str, str, RequestHead | None], Response]
"""Renders an error from a code, a message and the request's head, if the server could read it. The body is bytes."""
ClientKey = Callable[[Address, Headers], Hashable]
"""Identifies a client, from the address of the socket and the headers of the request."""


def plain_error(code: str, message: str, _: RequestHead | None) -> Response:
    """Render the message as text. The default `RenderError`."""
    statuses = {"method_not_allowed": 405, "request_timeout": 408, "rate_limit_error": 429, "headers_too_large": 431}
    statuses |= {"api_error": 500, "overloaded": 503, "http_version_not_supported": 505}
    return Response(statuses.get(code, 400), [(b"content-type", b"text/plain; charset=utf-8")], message.encode())


def socket_address(address: Address, _: Headers) -> Hashable:
    """Return the address of the socket. The default `ClientKey`."""
    return None if address is None else address[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The application's options for the server: limits, the rendering of errors, and the identity of clients.

    A trusted proxy (`is_trusted`, from its IP address) may have any number of connections. At most
    `pacing.ITEMS_PER_TICK` complete POST requests to `paced_paths` start in each iteration of the event loop. All other
    requests start within the time budget of `fair_queue`. Put only paths in `paced_paths` whose requests are cheap to
    start, because they bypass that budget.
    """

    limits: HttpLimits = field(default_factory=HttpLimits)
    render_error: RenderError = plain_error
    client_key: ClientKey = socket_address
    is_trusted: Callable[[str], bool] = lambda _: False
    paced_paths: Sequence[str] = ()


class HttpApp(Protocol):
    """What `HttpServer` serves."""

    @property
    def options(self) -> ServerOptions:
        """The options of the server."""

    def handle(self, request: Request) -> Awaitable[Response]:
        """Respond to one request. An exception becomes a 500, or cuts the connection if the response has begun."""


class ServerState:
    """What all connections of one server share."""

    def __init__(self, app: HttpApp) -> None:
        options = app.options
        limits = options.limits
        self.handle: Handler = app.handle
        self.paced_targets = {path.encode(): path for path in options.paced_paths}
        self.loop = asyncio.get_running_loop()
        self.limits = limits
        self.render_error = options.render_error
        self.client_key = options.client_key
        self.buffered = BufferedBytes(
            buffered_bytes_max=limits.buffered_bytes_max, owner_bytes_max=limits.owner_bytes_max
        )
        self.queue: PacedQueue[Connection] = PacedQueue(Connection.dispatch)
        self.fair_queue = FairQueue(self.loop)
        self.rejections: PacedQueue[Connection] = PacedQueue(Connection.dispatch)
        self.connections: set[Connection] = set()
        self.tasks: set[asyncio.Future[None]] = set()
        self.background: set[asyncio.Future[Any]] = set()
        """The tasks that handlers left running (`Request.track`)."""
        self.is_closing = False
        self.all_closed = asyncio.Event()
        self.all_closed.set()
        self._is_trusted = options.is_trusted
        self._connections_of: dict[Hashable, int] = {}

    def peer_key(self, address: Address) -> Hashable:
        """Return the client key of a connection that has no request yet."""
        return self.client_key(address, [])

    def add(self, connection: Connection, peer: Hashable) -> bool:
        """Count a connection. Returns whether its client may have it. A trusted proxy has no limit."""
        self.connections.add(connection)
        self.all_closed.clear()
        count = self._connections_of[peer] = self._connections_of.get(peer, 0) + 1
        if count <= self.limits.client_connections_max:
            return True
        address = connection.client_address
        return address is None or self._is_trusted(address[0])

    def remove(self, connection: Connection, peer: Hashable) -> None:
        """Stop counting a connection."""
        self.connections.discard(connection)
        count = self._connections_of[peer] - 1
        if count:
            self._connections_of[peer] = count
        else:
            del self._connections_of[peer]
        if not self.connections:
            self.all_closed.set()


class HttpServer:
    """Serves `app` on one socket while the context is open."""

    def __init__(
        self,
        app: HttpApp,
        listener: socket.socket,
        *,
        shutdown_seconds: float,
    ) -> None:
        self._listener = listener
        self._shutdown_seconds = shutdown_seconds
        self._force_exit = asyncio.Event()
        self._app = app
        self.state: ServerState
        self._server: asyncio.Server

    @property
    def url(self) -> str:
        """The URL that the server listens on."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        """Start to accept connections."""
        state = self.state = ServerState(self._app)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(state), sock=self._listener, backlog=BACKLOG)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop accepting connections, give requests in progress `shutdown_seconds` to finish, and cancel the others."""
        self._server.close()
        self.state.is_closing = True
        for connection in list(self.state.connections):
            connection.shut_down()
        finishing = asyncio.create_task(self._wait_until_closed())
        forced = asyncio.create_task(self._force_exit.wait())
        await asyncio.wait({finishing, forced}, timeout=self._shutdown_seconds, return_when=asyncio.FIRST_COMPLETED)
        forced.cancel()
        if not finishing.done() and self.state.background:
            log.warning("streams_cancelled", streams=len(self.state.background))
            for task in list(self.state.background):
                task.cancel()
            await asyncio.wait({finishing}, timeout=CUT_SECONDS_MAX)
        if not finishing.done():
            log.warning("requests_cancelled", requests=len(self.state.tasks))
            for running in list(self.state.tasks):
                running.cancel()
            for connection in list(self.state.connections):
                connection.abort()
        await finishing

    async def _wait_until_closed(self) -> None:
        """Wait until no connection is open and no request is in progress."""
        await self.state.all_closed.wait()
        while tasks := self.state.tasks | self.state.background:
            await asyncio.wait(tasks)

    def force_exit(self) -> None:
        """Stop waiting for requests in progress."""
        self._force_exit.set()


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Return a bound TCP socket that does not listen yet. Raises `OSError`, or `UnicodeError` for a bad host name.

    With `shared`, several processes of one user may bind the same port, and the kernel distributes the connections.
    """
    family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    # Created as IPPROTO_TCP, because asyncio then disables Nagle's algorithm, which would delay a body by 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections inherit it from their listener
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS_MAX * 1000)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except BaseException:
        listener.close()
        raise
    return listener
