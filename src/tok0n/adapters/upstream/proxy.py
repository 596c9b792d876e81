"""Connect to an upstream through an HTTP proxy (RFC 9110, section 9.3.6: CONNECT)."""

import asyncio
import base64
import ssl
from urllib.parse import unquote, urlsplit

HEAD_BYTES_MAX = 16 * 1024
_ENDS_OF_STATUS = frozenset({b"", b" ", b"\r"})


class ProxyRefused(Exception):
    """The proxy did not open the tunnel."""


async def connect_through(
    proxy_url: str, protocol: asyncio.Protocol, *, host: str, port: int, tls: ssl.SSLContext | None
) -> None:
    """Open a tunnel to `host` and `port`, start TLS if `tls` is set, and connect `protocol` to it.

    Raises `OSError` or `ProxyRefused`.
    """
    loop = asyncio.get_running_loop()
    proxy = urlsplit(proxy_url)
    assert proxy.hostname, "the settings are checked"
    transport, tunnel = await loop.create_connection(_Tunnel, proxy.hostname, proxy.port or 8080)
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        transport.write(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{_credentials(proxy_url)}\r\n".encode())
        await tunnel.opened
        # Nothing of the tunnel has been read yet, so `protocol` gets every byte.
        transport.resume_reading()
        transport.set_protocol(protocol)
        if tls is None:
            protocol.connection_made(transport)
        else:
            secured = await loop.start_tls(transport, protocol, tls, server_hostname=host)
            assert secured is not None
            protocol.connection_made(secured)
    except BaseException:
        transport.abort()
        raise


class _Tunnel(asyncio.Protocol):
    """Reads the proxy's response. `opened` resolves if it is a 200."""

    def __init__(self) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._head = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream protocol is given a stream transport

    def data_received(self, data: bytes) -> None:
        self._head += data
        head, end, surplus = self._head.partition(b"\r\n\r\n")
        if not end and len(self._head) < HEAD_BYTES_MAX:
            return
        is_ok = head.startswith((b"HTTP/1.1 200", b"HTTP/1.0 200")) and head[12:13] in _ENDS_OF_STATUS
        if not (end and is_ok):
            self._fail(f"the proxy responded {head[:64]!r}")
        elif surplus:
            self._fail("the proxy sent bytes after the head of its 200 response")
        elif not self.opened.done():
            assert self._transport is not None
            self._transport.pause_reading()
            self.opened.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the proxy closed the connection: {exc}")

    def _fail(self, detail: str) -> None:
        if not self.opened.done():
            self.opened.set_exception(ProxyRefused(detail))


def _credentials(proxy_url: str) -> str:
    proxy = urlsplit(proxy_url)
    if proxy.username is None:
        return ""
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return f"proxy-authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
