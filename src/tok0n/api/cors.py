"""Let browser applications of other origins call /v1 (Fetch Standard, CORS protocol). Off by default; never for pages.

API keys travel in headers that a page's script sets itself, so responses never allow credentials.
"""

import re
from collections.abc import Callable, Sequence

from tok0n.http.asgi import AsgiApp, Headers, Message, Receive, Scope, Send, by_name, header_lines

ANY = "*"
PREFLIGHT_SECONDS = 600

EXPOSED = (
    "x-request-id",
    "x-client-request-id",
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
    "x-tok0n-reserved",
    "x-tok0n-charged",
    "x-tok0n-available",
    "openai-processing-ms",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "allow",
    "www-authenticate",
)
"""The headers of our responses that a script may read."""

_HEADER_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VARY = (b"vary", b"origin")

MethodsOf = Callable[[str], str | None]
"""The methods of a path under /v1, as a list in one text; None if there is no such path."""


class Cors:
    """Decides for which origins responses carry CORS headers. Without origins nothing is added."""

    def __init__(self, origins: Sequence[str] = ()) -> None:
        self.is_on = bool(origins)
        self._allows_any = ANY in origins
        exposed = ", ".join(EXPOSED).encode()
        self._by_origin = {
            origin.encode(): [
                (b"access-control-allow-origin", origin.encode()),
                (b"access-control-expose-headers", exposed),
                _VARY,
            ]
            for origin in origins
        }
        self._lines = {origin: header_lines(headers) for origin, headers in self._by_origin.items()}
        self._vary_line = header_lines([_VARY])

    def headers(self, origin: bytes | None) -> Headers:
        """The headers of a response under /v1 to a request with this `Origin`."""
        if not self.is_on:
            return []
        return list(self._by_origin.get(self._allowed(origin), [_VARY]))

    def lines(self, origin: bytes | None) -> bytes:
        """The same headers as they travel."""
        return self._lines.get(self._allowed(origin), self._vary_line) if self.is_on else b""

    def preflight(self, named: dict[bytes, bytes], methods: str) -> Headers | None:
        """The headers that answer a preflight; None if the origin is not allowed."""
        headers = self._by_origin.get(self._allowed(named.get(b"origin")))
        if headers is None:
            return None
        answer = [*headers, (b"access-control-allow-methods", methods.encode())]
        asked = [name.strip(b" \t") for name in named.get(b"access-control-request-headers", b"").split(b",")]
        allowed = [name for name in asked if _HEADER_NAME.fullmatch(name)]
        if allowed:
            answer.append((b"access-control-allow-headers", b", ".join(allowed)))
        return [*answer, (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS)]

    def _allowed(self, origin: bytes | None) -> bytes:
        """The allowed origin that this one matches, or nothing."""
        if origin is None:
            return b""
        return ANY.encode() if self._allows_any else origin


def with_cors(app: AsgiApp, cors: Cors, methods_of: MethodsOf) -> AsgiApp:
    """Answer preflights ahead of `app`, and add the headers to its responses. Without origins it is `app` itself."""
    if not cors.is_on:
        return app

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        named = by_name(scope["headers"])
        if scope["method"] == "OPTIONS" and b"access-control-request-method" in named:
            methods = methods_of(scope["path"])
            allowed = None if methods is None else cors.preflight(named, methods)
            if allowed is not None:
                await send({"type": "http.response.start", "status": 204, "headers": allowed})
                await send({"type": "http.response.body", "body": b""})
                return
        headers = cors.headers(named.get(b"origin"))

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        await app(scope, receive, send_allowed)

    return answer
