"""uvicorn on a socket that we opened ourselves, ended by us: its own signal handling would not exit with 0."""

import asyncio
import contextlib
import functools
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Self

import uvicorn

from tok0n.domain.errors import OperatorError
from tok0n.turns import Turns
from tok0n.web.asgi import AsgiApp
from tok0n.web.exchange import refuse
from tok0n.web.http_protocol import HttpProtocol

BACKLOG = 4096

UNREAD_SECONDS_MAX = 60
"""How long a client may take nothing of what it was sent: many that do not read would take all our memory."""


class HttpServer:
    """Serves `app` on one socket from entering the context to leaving it."""

    def __init__(self, app: AsgiApp, listener: socket.socket, *, shutdown_seconds: int) -> None:
        self._listener = listener
        config = uvicorn.Config(
            app,
            http=functools.partial(  # type: ignore[arg-type]
                HttpProtocol, turns=Turns(HttpProtocol.go_on), refusals=Turns(refuse)
            ),
            interface="asgi3",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=shutdown_seconds,
        )
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """The address it listens on."""
        host, port = self._listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        """Begin to accept connections."""
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        ready = asyncio.create_task(self._server.ready.wait())
        await asyncio.wait([ready, self._task], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Accept no more, let calls in flight finish within `shutdown_seconds`, and cancel the rest."""
        self._server.should_exit = True
        assert self._task is not None
        await self._task

    def hurry(self) -> None:
        """Do not wait for calls in flight any longer."""
        self._server.force_exit = True


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, telling when it is ready."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """A listening socket. Raises `OperatorError` when the address cannot be had.

    `shared` lets the processes of one user listen on the same port: the kernel deals the connections out.
    """
    listener = bind(host, port, shared=shared)
    listener.listen(BACKLOG)
    return listener


def bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """As `listen`, without listening: it keeps the port, and gets no connections."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        # Named TCP, so that asyncio turns Nagle's algorithm off: it would hold each answer's body back for 40 ms.
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; connections have it from their listener
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNREAD_SECONDS_MAX * 1000)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
        except BaseException:
            listener.close()
            raise
    except PermissionError as error:
        raise OperatorError(
            f"Cannot listen on {host} port {port}: {error.strerror}. Choose a port from 1024 on with --port."
        ) from error
    except OSError as error:
        raise OperatorError(
            f"Cannot listen on {host} port {port}: {error.strerror}. Choose another with --port or --host."
        ) from error
    except UnicodeError as error:
        raise OperatorError(f"Cannot listen on {host}: it is not a host name. Choose another with --host.") from error
    listener.setblocking(False)
    return listener
