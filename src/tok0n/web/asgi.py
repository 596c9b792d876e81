"""The few words of ASGI that we speak ourselves. Source: the ASGI specification, HTTP & WebSocket, version 2.5."""

from collections.abc import AsyncIterable, Awaitable, Callable, MutableMapping
from typing import Any, Protocol

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

WHOLE_ANSWER = "tok0n.whole_answer"
"""An extension of our server, in scope["extensions"]: a `WholeAnswer`, in place of `send`."""


class WholeAnswer(Protocol):
    """Sends one whole answer, in one write."""

    async def __call__(self, status: int, lines: bytes, body: bytes) -> None:
        """`lines` are the headers as they travel, each with its line break, but for those that the server adds."""


def headers_of(scope: Scope) -> dict[bytes, bytes]:
    """The headers of a request by their lower-case names; several values of one are joined, as HTTP has it."""
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b", " + value if name in headers else value
    return headers


async def read_at_most(stream: AsyncIterable[bytes], bytes_max: int) -> bytes | None:
    """A request's whole body; None as soon as it is larger."""
    body = b""
    async for part in stream:
        body += part
        if len(body) > bytes_max:
            return None
    return body


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send one whole answer."""
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
