"""The upstream client: pooled HTTP/1.1 on asyncio and httptools, as lean as forwarding can be. docs/adr/0004 tells why.

It never follows a redirect, never sends a request twice, keeps no cookies, and reads no proxy from the environment.
"""

import asyncio
import errno
import ssl
from collections import deque
from collections.abc import Coroutine, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from tok0n import __version__
from tok0n.adapters.upstream.connection import UpstreamConnection, deliver
from tok0n.adapters.upstream.proxy import ProxyRefused, connect_through
from tok0n.domain.errors import Overloaded, UpstreamFailed
from tok0n.domain.scrub import scrub
from tok0n.domain.secret_forms import secret_forms
from tok0n.ports import UpstreamAnswer
from tok0n.turns import Turns

_OUR_OWN_LIMITS = frozenset({errno.EMFILE, errno.ENFILE})
"""No file is left for another connection: the provider has nothing to do with it."""


class HttpUpstream:
    """The `Upstream` port over HTTP/1.1.

    `timeout_seconds` is the deadline of a whole call, connecting included. `body_bytes_max` bounds an answer while it
    is read, `connections_max` the connections open at once; an idle one is closed after `idle_seconds`. Raises
    `ValueError` for an address or a header field that cannot be sent.
    """

    def __init__(
        self,
        *,
        name: str,
        base_url: str,
        api_key: str | None,
        timeout_seconds: float,
        connect_seconds: float = 10.0,
        body_bytes_max: int = 16 * 1024 * 1024,
        connections_max: int = 2_000,
        idle_seconds: float = 20.0,
        headers: Mapping[str, str] | None = None,
        proxy_url: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        url = _address(base_url)
        assert url.hostname
        self.name = name
        self.timeout_seconds = timeout_seconds
        self._host = url.hostname
        self._port = url.port or (443 if url.scheme == "https" else 80)
        self._tls = _tls(ca_file) if url.scheme == "https" else None
        self._connect_seconds = connect_seconds
        self._body_bytes_max = body_bytes_max
        self._connections_max = connections_max
        self._idle_seconds = idle_seconds
        self._proxy_url = proxy_url
        self._head = _head(url.netloc, f"{url.path.rstrip('/')}/chat/completions", api_key, headers or {})
        self._secrets = secret_forms(api_key=api_key, headers=headers or {}, urls=(base_url, proxy_url or ""))
        self._answers = Turns(deliver)
        self._idle: deque[UpstreamConnection] = deque()
        self._open: set[UpstreamConnection] = set()
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._connecting = 0
        self._pruning: asyncio.TimerHandle | None = None

    def complete(self, body: bytes) -> Coroutine[Any, Any, UpstreamAnswer]:
        """See `ports.Upstream.complete`."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        deadline = self._loop.time() + self.timeout_seconds
        request = b"".join((self._head, b"%d\r\n\r\n" % len(body), body))
        connection = self._take_idle()
        if connection is None:
            return self._complete_on_another(request, deadline)
        return connection.exchange(request, deadline=deadline)

    async def _complete_on_another(self, request: bytes, deadline: float) -> UpstreamAnswer:
        connection = await self._connect(deadline)
        return await connection.exchange(request, deadline=deadline)

    def scrub(self, text: str) -> str:
        """See `ports.Upstream.scrub`."""
        return scrub(text, self._secrets)

    async def aclose(self) -> None:
        """Close every connection, and wait until all are closed. Calls under way fail, as do later ones."""
        self._closed = True
        if self._pruning is not None:
            self._pruning.cancel()
        for connection in list(self._open):
            connection.close()
        await self._all_closed.wait()

    def _take_idle(self) -> UpstreamConnection | None:
        """The connection used last: so the others grow old together, and are closed."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

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
            raise self._unreachable("no connection in time") from error
        except (OSError, UnicodeError, ProxyRefused) as error:
            if isinstance(error, OSError) and error.errno in _OUR_OWN_LIMITS:
                raise Overloaded(queue="upstream connections", detail=f"connecting: {error.strerror}") from error
            raise self._unreachable(f"{type(error).__name__}: {error}") from error
        finally:
            self._connecting -= 1
        if not connection.usable:
            raise self._unreachable("the connection was closed as soon as it was open")
        self._open.add(connection)
        self._all_closed.clear()
        return connection

    async def _open_connection(self) -> UpstreamConnection:
        connection = UpstreamConnection(
            answers=self._answers,
            body_bytes_max=self._body_bytes_max,
            on_idle=self._now_idle,
            on_lost=self._now_lost,
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
            "The upstream provider could not be reached.", detail=f"upstream {self.name}: {detail}", reached=False
        )

    def _now_idle(self, connection: UpstreamConnection) -> None:
        self._idle.append(connection)
        if self._pruning is None:
            self._prune()

    def _now_lost(self, connection: UpstreamConnection) -> None:
        self._open.discard(connection)
        if not self._open:
            self._all_closed.set()

    def _prune(self) -> None:
        """Close what has been idle for too long, and look again while anything is idle."""
        loop = asyncio.get_running_loop()
        horizon = loop.time() - self._idle_seconds
        while self._idle and (self._idle[0].idle_since < horizon or not self._idle[0].usable):
            self._idle.popleft().abort()
        self._pruning = loop.call_later(self._idle_seconds / 2, self._prune) if self._idle else None


def _address(base_url: str) -> SplitResult:
    """The parts of a base URL. The errors do not repeat it: a password may be in it."""
    url = urlsplit(base_url)
    if url.scheme not in {"http", "https"} or not url.hostname:
        raise ValueError("the base URL of an upstream must be http://HOST or https://HOST")
    if "@" in url.netloc or "?" in base_url or "#" in base_url:
        raise ValueError("the base URL of an upstream must hold no user, password, query or fragment")
    if any(ord(character) <= 32 or ord(character) > 126 for character in base_url):
        raise ValueError("the base URL of an upstream has a character that no URL may have")
    return url


def _tls(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _head(host: str, path: str, api_key: str | None, headers: Mapping[str, str]) -> bytes:
    """Everything before the body but its length, which comes last."""
    fields = {
        "host": host,
        "user-agent": f"tok0n/{__version__}",
        "accept": "application/json",
        "accept-encoding": "identity",
        "content-type": "application/json",
    }
    if api_key is not None:
        fields["authorization"] = f"Bearer {api_key}"
    fields |= {name.lower(): value for name, value in headers.items()}
    for name, value in fields.items():
        if any(ord(character) < 32 or ord(character) > 126 for character in name + value):
            raise ValueError(f"the header {name!r} of an upstream has a character that no header may have")
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "content-length: "]
    return "\r\n".join(lines).encode()
