"""The upstream client: pooled HTTP/1.1 connections on asyncio and httptools. docs/adr/0004 gives the reasons.

It never follows redirects, never sends a request twice, ignores cookies, and reads no proxy from the environment.
HTTP/1.1 matches responses to requests only by their order. So the client sends no request on a connection with unread
input, and stops reusing connections for a while after an upstream sends bytes outside a response (docs/adr/0015).
"""

import asyncio
import errno
import math
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal
from urllib.parse import SplitResult, urlencode, urlsplit

import structlog

from tok0n import __version__
from tok0n.adapters.upstream.connection import UpstreamConnection, deliver
from tok0n.adapters.upstream.proxy import ProxyRefused, connect_through
from tok0n.adapters.upstream.response_stream import ResponseStream
from tok0n.domain.errors import Overloaded, UpstreamFailed
from tok0n.domain.scrub import scrub
from tok0n.domain.secret_forms import secret_forms
from tok0n.http.pacing import PacedQueue
from tok0n.ports.upstream import UpstreamResponse

log = structlog.get_logger()

Auth = Literal["bearer", "api-key", "x-api-key", "none"]
"""How an upstream takes its key: as `Authorization: Bearer KEY`, or in the header of this name."""

REUSE_PAUSE_SECONDS = 600.0
"""The time without connection reuse after an upstream sent bytes outside a response."""

_OUR_OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE})
"""The gateway has no free file descriptor, which is not the provider's fault."""


class HttpUpstream:
    """The `Upstream` port over HTTP/1.1.

    `timeout_seconds` is the deadline of a whole response, including the time to connect. The three settings of streams
    are for those who read a stream. `body_bytes_max` limits a whole response, and `connections_max` the open
    connections. An idle connection is closed after `idle_seconds`, or earlier if the upstream announces a shorter
    timeout. `query` is added to every path. Without `reuse_connections`, each request gets its own connection. Raises
    `ValueError` for an invalid URL or header.
    """

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        api_key: str | None,
        timeout_seconds: float,
        stream_seconds: float = 1_800.0,
        stream_idle_seconds: float = 600.0,
        continuous_usage: bool = False,
        connect_seconds: float = 10.0,
        body_bytes_max: int = 16 * 1024 * 1024,
        connections_max: int = 2_000,
        idle_seconds: float = 4.0,
        reuse_connections: bool = True,
        auth: Auth = "bearer",
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        proxy_url: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        url = _address(base_url)
        assert url.hostname
        self.name = name
        self.timeout_seconds = timeout_seconds
        self.stream_seconds = stream_seconds
        self.stream_idle_seconds = stream_idle_seconds
        self.continuous_usage = continuous_usage
        self.body_bytes_max = body_bytes_max
        self._host = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = _tls(ca_file) if url.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._connections_max = connections_max
        self._idle_seconds = idle_seconds
        self._proxy_url = proxy_url
        self._method_and_base_path = f"POST {url.path.rstrip('/')}".encode()
        self._head_rest = _query(query or {}) + _headers(
            url.netloc, _credentials(auth, api_key) | dict(headers or {}), close=not reuse_connections
        )
        self._secrets = secret_forms(api_key=api_key, headers=headers or {}, urls=(base_url, proxy_url or ""))
        self._responses = PacedQueue(deliver)
        self._idle: deque[UpstreamConnection] = deque()
        self._open: set[UpstreamConnection] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting = 0
        self._pruning: asyncio.TimerHandle | None = None
        self._reuse_from = 0.0 if reuse_connections else math.inf
        self._surplus_logged_at = -math.inf

    async def send(self, path: str, body: bytes, *, headers: Sequence[tuple[str, str]] = ()) -> UpstreamResponse:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        now = self._loop.time()
        deadline = now + self.timeout_seconds
        request = self._request(path, body, headers)
        connection = self._take_idle(now) if self._idle else None
        if connection is None:
            connection = await self._connect(deadline)
        # No await may be between the check of the socket and this write, because the event loop must not run.
        response = connection.send(request, deadline=deadline)
        try:
            return await response
        except asyncio.CancelledError:
            connection.cancel(response)
            raise

    @asynccontextmanager
    async def stream(
        self, path: str, body: bytes, *, timeout_seconds: float, headers: Sequence[tuple[str, str]] = ()
    ) -> AsyncIterator[ResponseStream]:
        now = asyncio.get_running_loop().time()
        deadline = now + timeout_seconds
        request = self._request(path, body, headers)
        connection = self._take_idle(now) or await self._connect(deadline)
        # No await may be between the check of the socket and this write, because the event loop must not run.
        response = connection.stream(request, deadline=deadline)
        del body, request  # A stream can last much longer than its request.
        try:
            await response.head()
            yield response
        finally:
            connection.cancel(response)

    def _request(self, path: str, body: bytes, headers: Sequence[tuple[str, str]]) -> bytes:
        length = b"%d\r\n\r\n" % len(body)
        if headers:
            lines = "".join(f"\r\n{name}: {value}" for name, value in headers)
            length = b"%d%b\r\n\r\n" % (len(body), lines.encode("ascii"))
        return b"".join((self._method_and_base_path, path.encode(), self._head_rest, length, body))

    def scrub(self, text: str) -> str:
        return scrub(text, self._secrets)

    async def aclose(self) -> None:
        """Close every connection, and wait until all are closed. Requests in progress and later requests fail."""
        self._closed = True
        if self._pruning is not None:
            self._pruning.cancel()
        for connection in list(self._open):
            connection.close()
        await self._all_closed.wait()

    def _take_idle(self, now: float) -> UpstreamConnection | None:
        """Take the most recently used connection without unread input. LIFO, so that surplus connections get pruned.

        The caller must write in the same iteration of the event loop. The loop reads connections with input later: EOF
        or bytes outside a response close them, and a TLS session ticket doesn't.
        """
        readable: list[UpstreamConnection] = []
        reusable = None
        while self._idle:
            connection = self._idle.pop()
            if now >= connection.reusable_until or not connection.usable:
                connection.abort()
            elif not connection.poll(0):
                reusable = connection
                break
            elif connection.is_tls:
                readable.append(connection)
        if readable:
            self._idle.extend(reversed(readable))
        return reusable

    async def _connect(self, deadline: float) -> UpstreamConnection:
        if self._closed:
            raise self._unreachable("the client is closed")
        if len(self._open) + self._connecting >= self._connections_max:
            raise Overloaded(queue="upstream connections")
        self._connecting += 1
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self._connect_seconds)):
                connection = await self._open_connection()
        except TimeoutError as error:
            raise self._unreachable("the connection timed out") from error
        except (OSError, UnicodeError, ProxyRefused) as error:
            if isinstance(error, OSError) and error.errno in _OUR_OWN_LIMITS:
                raise Overloaded(queue="upstream connections", detail=f"connecting: {error.strerror}") from error
            raise self._unreachable(f"{type(error).__name__}: {error}") from error
        finally:
            self._connecting -= 1
        if not connection.usable:
            raise self._unreachable("the connection was closed immediately")
        self._open.add(connection)
        self._all_closed.clear()
        if not connection.is_tls and connection.has_input():
            # The event loop reads the input next and closes the connection.
            raise self._unreachable("the upstream sent bytes, or closed the connection, before the request")
        return connection

    async def _open_connection(self) -> UpstreamConnection:
        connection = UpstreamConnection(
            responses=self._responses,
            body_bytes_max=self.body_bytes_max,
            idle_seconds=self._idle_seconds,
            on_idle=self._now_idle,
            on_lost=self._now_lost,
            on_surplus=self._pause_reuse,
        )
        if self._proxy_url is not None:
            await connect_through(self._proxy_url, connection, host=self._host, port=self._port, tls=self._tls)
        else:
            await asyncio.get_running_loop().create_connection(
                lambda: connection, self._host, self._port, ssl=self._tls
            )
        if self._closed:
            connection.abort()
        return connection

    def _unreachable(self, detail: str) -> UpstreamFailed:
        return UpstreamFailed(
            "The upstream provider is unreachable.", detail=f"upstream {self.name}: {detail}", reached=False
        )

    def _now_idle(self, connection: UpstreamConnection) -> None:
        if self._reuse_from and asyncio.get_running_loop().time() < self._reuse_from:
            connection.abort()
            return
        self._idle.append(connection)
        if self._pruning is None:
            self._prune()

    def _pause_reuse(self) -> None:
        """Stop reusing connections for `REUSE_PAUSE_SECONDS`, because one had bytes outside a response."""
        now = asyncio.get_running_loop().time()
        self._reuse_from = max(self._reuse_from, now + REUSE_PAUSE_SECONDS)
        while self._idle:
            self._idle.pop().abort()
        if now - self._surplus_logged_at >= REUSE_PAUSE_SECONDS:
            self._surplus_logged_at = now
            log.warning("upstream_surplus_response", upstream=self.name, no_reuse_seconds=round(REUSE_PAUSE_SECONDS))

    def _now_lost(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._all_closed.set()

    def _prune(self) -> None:
        """Close connections that were idle for too long. Repeats while any connection is idle."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        connections = list(self._idle)
        self._idle.clear()
        for connection in connections:
            if now < connection.reusable_until and connection.usable:
                self._idle.append(connection)
            else:
                connection.abort()
        self._pruning = loop.call_later(self._idle_seconds / 2, self._prune) if self._idle else None


def _address(base_url: str) -> SplitResult:
    """Parse a base URL. The errors don't contain it, because it may have a password."""
    url = urlsplit(base_url)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("the base URL of an upstream must be http://HOST or https://HOST")
    if "@" in url.netloc or "?" in base_url or "#" in base_url:
        raise ValueError("the base URL of an upstream must have no user, password, query or fragment")
    if any(ord(character) <= 32 or ord(character) > 126 for character in base_url):
        raise ValueError("the base URL of an upstream has a character that is not allowed in a URL")
    return url


def _tls(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _credentials(auth: Auth, api_key: str | None) -> dict[str, str]:
    """Return the header with the key."""
    if api_key is None or auth == "none":
        return {}
    return {"authorization": f"Bearer {api_key}"} if auth == "bearer" else {auth: api_key}


def _query(query: Mapping[str, str]) -> bytes:
    return f"?{urlencode(query)}".encode() if query else b""


def _headers(host: str, headers: Mapping[str, str], *, close: bool) -> bytes:
    """Render the part of the head between the request target and the body's length, which is the last header."""
    fields = {
        "host": host,
        "user-agent": f"tok0n/{__version__}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
    }
    if close:
        fields["connection"] = "close"
    fields |= {name.lower(): value for name, value in headers.items()}
    for name, value in fields.items():
        if any(ord(character) < 32 or ord(character) > 126 for character in name + value):
            raise ValueError(f"the header {name!r} of an upstream has a character that is not allowed in a header")
    lines = [" HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "content-length: "]
    return "\r\n".join(lines).encode()
