"""A row of the table of upstreams, and the answers that rows are built from."""

import gzip
import zlib
from dataclasses import dataclass
from typing import Literal

BODY = b'{"for":"first"}'

BODY_BYTES_MAX = 4096
"""The size limit of the client under test."""

INVALID, LARGE, LATE, CLOSED = "an invalid response", "that is too large", "timed out", "closed the connection"

UNREACHED = "is unreachable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One upstream.

    `on_connect` is sent before any request, `pieces` once the request's head is there, each in a write of its own,
    `later` when the answer was delivered and the next request has not been sent. `end` is what follows the pieces.
    `status` and `body` are the right answer; `fails` is the right failure instead. `reuse` is whether the next request
    may travel on the same connection; `pauses` whether the upstream loses the reuse of all its connections.
    """

    name: str
    pieces: tuple[bytes, ...] = ()
    on_connect: bytes = b""
    later: bytes = b""
    end: Literal["open", "fin", "rst", "drip"] = "open"
    status: int = 200
    body: bytes = BODY
    fails: str | None = None
    retry_after_seconds: float | None = None
    reuse: bool = False
    pauses: bool = False
    request_bytes: int = 0


def head(*lines: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    return "\r\n".join([f"{version} {status}", *lines, "", ""]).encode("latin-1")


def sized(body: bytes = BODY, *lines: str, status: str = "200 OK", version: str = "HTTP/1.1") -> bytes:
    return head(*lines, f"content-length: {len(body)}", status=status, version=version) + body


def chunk(body: bytes = BODY) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


def chunked(data: bytes, *lines: str, version: str = "HTTP/1.1") -> bytes:
    return head(*lines, "transfer-encoding: chunked", version=version) + data


def coded(body: bytes, coding: str, *lines: str) -> bytes:
    return sized(body, f"content-encoding: {coding}", *lines)


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


GZIP = gzip.compress(BODY, mtime=0)

BOMB = gzip.compress(b" " * 50_000_000, mtime=0)

NESTED = gzip.compress(GZIP, mtime=0)

OTHER = sized(b'{"for":"somebody else"}')
