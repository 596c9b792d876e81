"""The few words of ASGI that we speak ourselves. Source: the ASGI specification, HTTP & WebSocket, version 2.5."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def header(scope: Scope, name: bytes) -> bytes | None:
    """The value of a header by its lower-case name; several values are joined, as HTTP has it."""
    values = [value for key, value in scope["headers"] if key == name]
    return b", ".join(values) if values else None


async def respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    """Send one whole answer."""
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
