"""What one client can take of the server: the bounds of the HTTP edge. docs/limits.md tells users the same."""

from dataclasses import dataclass

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """The bounds of one server.

    `head_bytes_max` and `header_lines_max` bound the head and the trailers of a request together. `head_seconds` bounds
    the time for a head, `body_seconds` that for a body. `buffered_bytes_max` bounds the request bytes that the server
    holds before the requests are admitted, over all connections, and `holder_bytes_max` those of one account or client.
    `client_connections_max` bounds the connections of one client.
    """

    head_bytes_max: int = 65_536
    header_lines_max: int = 128
    head_seconds: float = 10.0
    body_seconds: float = 30.0
    buffered_bytes_max: int = 128 * MEBIBYTE
    holder_bytes_max: int = 64 * MEBIBYTE
    client_connections_max: int = 2_048
