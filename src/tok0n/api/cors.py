"""Let browser applications from other origins call /v1 (Fetch Standard, CORS). Off by default; never for pages.

API keys travel in headers that a page's script sets itself, so responses never allow credentials.
"""

import re
from collections.abc import Sequence

from tok0n.http.message import Headers, Response
from tok0n.http.request import Request

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
    "x-tok0n-dropped",
    "request-id",
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


class Cors:
    """Returns the CORS headers for each allowed origin. Without origins, it adds none."""

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

    def headers(self, origin: bytes | None) -> Headers:
        """Return the headers for a response under /v1 to a request with this `Origin`."""
        if not self.is_on:
            return []
        return list(self._by_origin.get(self._allowed(origin), [_VARY]))

    def preflight(self, request: Request, methods: str | None) -> Response | None:
        """Return the response to a preflight for a path with these methods.

        None if the request is no preflight, its origin is not allowed, or the path does not exist (`methods` is None).
        """
        if not self.is_on or request.method != b"OPTIONS" or methods is None:
            return None
        headers_by_name = request.headers_by_name
        headers = self._by_origin.get(self._allowed(headers_by_name.get(b"origin")))
        if headers is None or b"access-control-request-method" not in headers_by_name:
            return None
        headers = [*headers, (b"access-control-allow-methods", methods.encode())]
        names = [name.strip(b" \t") for name in headers_by_name.get(b"access-control-request-headers", b"").split(b",")]
        allowed = [name for name in names if _HEADER_NAME.fullmatch(name)]
        if allowed:
            headers.append((b"access-control-allow-headers", b", ".join(allowed)))
        return Response(204, [*headers, (b"access-control-max-age", b"%d" % PREFLIGHT_SECONDS)])

    def _allowed(self, origin: bytes | None) -> bytes:
        """Return the key of `_by_origin` that this origin matches, or b""."""
        if origin is None:
            return b""
        return ANY.encode() if self._allows_any else origin
