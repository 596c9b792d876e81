"""The few words of ASGI that we speak ourselves. Source: the ASGI specification, HTTP & WebSocket, version 2.5."""

from collections.abc import AsyncIterable, Awaitable, Callable, Hashable, Mapping, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

WholeAnswer = tuple[int, bytes, bytes]
"""Status, header lines and body. The lines are as they travel, each with its break, but for those the server adds."""


class FastRequest(Protocol):
    """A request whose body arrived together with its head."""

    named: dict[bytes, bytes]
    body: bytes

    def admitted(self) -> None:
        """Stop counting the body towards the bytes that wait to be admitted."""


class FastPath(Protocol):
    """An application's optional `fast_path`: it answers complete requests without the overhead of ASGI.

    The server uses it for a `POST` to `path` whose head and body arrived together, as nearly all do.
    """

    path: bytes

    def refusal(self, named: Mapping[bytes, bytes], *, is_overloaded: bool) -> WholeAnswer | None:
        """Return a rejection if the application can't accept another request; doesn't look at the body.

        `named` has the headers. `is_overloaded` means that the server's own queue of requests is full.
        """

    async def answer(self, request: FastRequest) -> WholeAnswer:
        """Answer one request."""


BODY_HOLD = "tok0n.body_hold"
"""The name of the `BodyHold` among the extensions of an ASGI scope."""


class BodyHold(Protocol):
    """How an application tells the server whose body it reads, and when it need not count it any longer.

    `rejection` is the status that the server answered in the application's place, if it did.
    """

    rejection: int | None

    def assign(self, holder: Hashable) -> str | None:
        """Count the body for `holder`; gives an error code when that holder has too many bytes in progress."""

    def admitted(self) -> None:
        """Stop counting the body towards the bytes that wait to be admitted."""


def by_name(headers: Headers) -> dict[bytes, bytes]:
    """Headers by their lower-case names; several values of one are joined, as HTTP has it."""
    named = dict(headers)
    if len(named) < len(headers):
        named = {}
        for name, value in headers:
            named[name] = named[name] + b", " + value if name in named else value
    return named


def header_lines(headers: Headers) -> bytes:
    """Headers as they travel."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def headers_in(lines: bytes) -> Headers:
    """The other way: headers from their lines."""
    return [(name, value) for name, _, value in [line.partition(b": ") for line in lines.splitlines()]]


async def read_at_most(stream: AsyncIterable[bytes], bytes_max: int) -> bytes | None:
    """A request's whole body; None as soon as it is larger."""
    parts: list[bytes] = []
    size = 0
    async for part in stream:
        size += len(part)
        if size > bytes_max:
            return None
        parts.append(part)
    return b"".join(parts)


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send one whole answer."""
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
