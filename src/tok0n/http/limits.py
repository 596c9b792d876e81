"""The limits of the HTTP server. docs/limits.md documents them for users."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """The limits of one server.

    `head_bytes_max` limits the head, the trailers and the chunk extensions of a request together, and
    `header_lines_max` its headers and trailers. `head_seconds` limits the time for a head, `body_seconds` the time for
    a body, and a body must have at least `body_window_bytes_min` bytes in each `body_window_seconds`. A connection
    without a request closes after `idle_seconds`, a new one after `head_seconds`. After an error, or any other response
    that ends the connection early, the connection discards what arrives for `discard_seconds`, but at most
    `discard_bytes_max`.

    `buffered_bytes_max` limits the request bytes that the server holds before the requests are admitted, over all
    connections, and `owner_bytes_max` those of one account or client. `client_connections_max` limits the connections
    of one client.
    """

    head_bytes_max: int = 65_536
    header_lines_max: int = 128
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    body_window_seconds: float = 10.0
    body_window_bytes_min: int = 10 * 1024
    idle_seconds: float = 75.0
    """Longer than the 60 seconds after which common load balancers close an idle connection themselves."""
    discard_seconds: float = 2.0
    discard_bytes_max: int = 16 * MEBIBYTE
    buffered_bytes_max: int = 128 * MEBIBYTE
    owner_bytes_max: int = 64 * MEBIBYTE
    client_connections_max: int = 2_048
