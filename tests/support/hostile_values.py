"""Values that break careless programs, and requests that carry them: what the fuzz of every route sends."""

import contextlib
import functools
import json
import random
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes

import msgspec

import tok0n.web

ANSWER_SECONDS_MAX = 60.0
DEPTH = 20_000

VALUES: list[bytes] = [
    b"",
    b"\0",
    b"a\0b",
    b"%00",
    b"%ff",
    b"\xff",
    b"\xc3(",
    b"\xed\xa0\x80",  # a lone surrogate in UTF-8
    str(2**63).encode(),
    str(2**70).encode(),
    b"-1",
    b"-500",
    b"0.1",
    b"1e400",
    b"NaN",
    b"9" * 5_000,  # more digits than int() takes
    "\uff11\uff12".encode(),  # fullwidth digits
    "²".encode(),
    b"a" * 8_000,
    "\u202eabc\u200f".encode(),
    ("e" + "\u0301" * 500).encode(),
    b"[::1",
    b"http://[::1",
    b"//evil.example",
    b"\r\nset-cookie: a=b",
    b"../../etc/passwd",
    b"'; DROP TABLE account; --",
    b"{{7*7}}",
    b"2026-02-30",
    b"0001-01-01",
    b"9999-12-31T23:59:59Z",
    b"x,victim@example.com",
    b"[" * DEPTH,
    b'{"a":' * DEPTH,
    b'"\\ud800"',
]

HEADERS: list[str] = [
    "host",
    "origin",
    "referer",
    "cookie",
    "authorization",
    "content-type",
    "content-encoding",
    "accept",
    "accept-encoding",
    "accept-language",
    "range",
    "if-none-match",
    "if-modified-since",
    "sec-fetch-site",
    "sec-fetch-mode",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-request-id",
    "x-client-request-id",
    "idempotency-key",
    "user-agent",
    "upgrade",
    "hx-request",
    "hx-target",
    "stripe-signature",
    "access-control-request-method",
    "access-control-request-headers",
    "openai-organization",
]

HEADER_VALUES: list[bytes] = [
    *(value for value in VALUES if len(value) < 10_000 and not {*b"\0\r\n"} & {*value}),
    b"Bearer",
    b"Bearer " + b"a" * 5_000,
    b"Bearer \xff",
    b"Basic OjpiYWQ=",
    b"a=b; a=c; ;;=; tok0n=\xff",
    b"tok0n=" + b"%00" * 20,
    b"bytes=5-1",
    b"bytes=0-99999999999999999999",
    b'W/"\xff',
    b"text/html; charset=no-such-charset",
    b"application/json; charset=utf-16",
    b"multipart/form-data; boundary=",
    b"t=1,v1=a",
    b"t=" + b"9" * 5_000 + b",v1=a",
    b"gzip",
    b"203.0.113.9:4711, [2001:db8::1]:443, ::ffff:1.2.3.4",
    b"Sat, 31 Feb 99999 25:61:61 GMT",
]

BODIES: list[bytes] = [
    *VALUES,
    b"{}",
    b"[]",
    b"null",
    b"{",
    b'{"model":"demo","messages":' + b"[" * DEPTH,
    b'{"model":"demo","messages":[{"role":"user","content":"\\ud800"}]}',
    b'{"model":"demo","messages":[{"role":"user","content":"\\u0000"}]}',
    b'{"model":"\\u0000","messages":[{"role":"user","content":"a"}]}',
    b'{"model":"demo","messages":[{"role":"user","content":"a"}],"max_tokens":1e400}',
    b'{"model":"demo","messages":[{"role":"user","content":"a"}],"max_tokens":' + str(2**70).encode() + b"}",
    b'{"model":"demo","messages":[{"role":"user","content":"a"}],"max_tokens":-1,"max_tokens":1}',
    b"a=%00&b=%ff&c=%ed%a0%80&d=%zz",
    b"&".join([b"a=b"] * 1_000),
    b"a" * 700_000,
]

CONTENT_TYPES = ["application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=b", ""]


def field_names() -> list[str]:
    """Return every name that a handler reads from a query or form, or that a page sends, from the source itself."""
    folder = Path(tok0n.web.__file__).parent
    source = "".join(path.read_text() for path in folder.rglob("*.py"))
    pages = "".join(path.read_text() for path in folder.rglob("*.html"))
    read = re.findall(r'(?:query|get|getlist)\(\s*"(\w+)"', source) + re.findall(r'"(\w+)" in visit\.\w+', source)
    tags = re.findall(r'<(?:input|select|textarea|button)\b[^>]*?\bname="([\w-]+)"', pages)
    macros = re.findall(r"\bui\.(?:field|textarea|select)\('([\w-]+)'", pages)
    return sorted({*read, *tags, *macros})


class Request(msgspec.Struct, kw_only=True):
    """A request, whose bytes may be anything."""

    method: str
    path: str
    """The path of the route, for the report."""
    target: bytes
    headers: list[tuple[str, bytes]] = []
    body: bytes = b""

    def raw(self) -> bytes:
        """What goes over the wire."""
        names = {name for name, _ in self.headers}
        lines = [self.method.encode() + b" " + self.target + b" HTTP/1.1"]
        if "host" not in names:
            lines.append(b"host: test")
        lines += [name.encode() + b": " + value for name, value in self.headers]
        lines.append(b"content-length: %d" % len(self.body))
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body

    def __str__(self) -> str:
        headers = [(name, value[:60]) for name, value in self.headers if name not in {"cookie", "sec-fetch-site"}]
        return f"{self.method} {self.target[:200]!r} {headers} body {self.body[:200]!r}"


def filled(path: str, value: bytes) -> bytes:
    """Put a value, percent-encoded, in place of each parameter of a route's path."""
    return b"".join(
        quote_from_bytes(value).encode() if part.startswith("{") else part.encode()
        for part in re.split(r"(\{\w+(?::\w+)?\})", path)
    )


def encoded(fields: Mapping[str, bytes]) -> bytes:
    """Encode a query or form."""
    return "&".join(f"{name}={_quoted(value)}" for name, value in fields.items()).encode()


@functools.lru_cache(maxsize=1_000)
def _quoted(value: bytes) -> str:
    """The same long values go into every field of every route."""
    return quote_from_bytes(value)


def mutated(document: Any, chance: random.Random) -> Any:
    """Return a copy of a JSON document in which one value is replaced."""
    places = list(_places(document))
    path = chance.choice(places)
    copy = json.loads(json.dumps(document))
    owner = copy
    for step in path[:-1]:
        owner = owner[step]
    owner[path[-1]] = chance.choice(
        [None, -1, -500, 2**63, 2**70, 0.5, "", "\0", "\ud800", "a" * 10_000, [], {}, [[]], True, "9" * 5_000]
    )
    return copy


def _places(document: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


class Client:
    """A blocking client for raw requests, on one connection for as long as the server keeps it."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def send(self, request: Request) -> tuple[int, bytes]:
        """Return the status and the head of the answer. Raises `TimeoutError` without one, `EOFError` at its end."""
        is_new = self._socket is None
        try:
            return self._exchange(request)
        except (EOFError, ConnectionError):
            self.close()
            if is_new:
                raise
            return self._exchange(request)  # the server had closed the old connection

    def _exchange(self, request: Request) -> tuple[int, bytes]:
        if self._socket is None:
            self._socket = socket.create_connection(self._address, timeout=ANSWER_SECONDS_MAX)
        with contextlib.suppress(ConnectionError):  # an early refusal may be there to read
            self._socket.sendall(request.raw())
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._receive()
        head, _, body = data.partition(b"\r\n\r\n")
        lowered = head.lower()
        status = int(head.split()[1])
        length = re.search(rb"\r\ncontent-length: *(\d+)", lowered)
        if b"\r\ntransfer-encoding: chunked" in lowered:
            while not body.endswith(b"0\r\n\r\n"):
                body += self._receive()
        elif request.method != "HEAD" and status not in {204, 304}:
            while len(body) < int(length[1] if length else 0):
                body += self._receive()
        if b"\r\nconnection: close" in lowered or length is None or (status >= 400 and len(request.body) > 2**16):
            self.close()
        return status, head

    def _receive(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(2**18)
        if not data:
            raise EOFError
        return data
