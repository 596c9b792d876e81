"""Reach an upstream through an HTTP proxy (RFC 9110, section 9.3.6: CONNECT), when the settings name one."""

import asyncio
import base64
import ssl
from urllib.parse import unquote, urlsplit

HEAD_BYTES_MAX = 16 * 1024


class ProxyRefused(Exception):
    """The proxy did not open a tunnel."""


async def connect_through(
    proxy_url: str, protocol: asyncio.Protocol, *, host: str, port: int, tls: ssl.SSLContext | None
) -> None:
    """Open a tunnel to `host` and `port`, secure it if `tls` is given, and hand its transport to `protocol`.

    Raises `OSError` or `ProxyRefused`.
    """
    proxy = urlsplit(proxy_url)
    reader, writer = await asyncio.open_connection(proxy.hostname, proxy.port or 8080, limit=HEAD_BYTES_MAX)
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        writer.write(f"CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n{_credentials(proxy_url)}\r\n".encode())
        await _expect_tunnel(reader)
        if tls is not None:
            await writer.start_tls(tls, server_hostname=host)
    except BaseException:
        writer.transport.abort()
        raise
    writer.transport.set_protocol(protocol)
    protocol.connection_made(writer.transport)


async def _expect_tunnel(reader: asyncio.StreamReader) -> None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise ProxyRefused("the proxy's answer was cut or too large") from error
    if not head.startswith(b"HTTP/1.") or head.split(b" ", 2)[1] != b"200":
        raise ProxyRefused(f"the proxy answered {head[:64]!r}")


def _credentials(proxy_url: str) -> str:
    proxy = urlsplit(proxy_url)
    if proxy.username is None:
        return ""
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return f"proxy-authorization: Basic {base64.b64encode(pair.encode()).decode()}\r\n"
