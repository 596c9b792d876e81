"""The lines of the request log, as a service passes them to the log."""

from collections.abc import Callable, Sequence

import msgspec


class RequestLine(msgspec.Struct, omit_defaults=True, gc=False):
    """The line of one request as it is written. `timestamp` is in UTC. Fields that are None are omitted."""

    event: str
    level: str
    timestamp: str
    request: str
    endpoint: str
    status: int
    milliseconds: float
    client_request_id: str | None = None
    account: str | None = None
    api_key: str | None = None
    model: str | None = None
    upstream: str | None = None
    code: str | None = None
    reserved: int | None = None
    charged: int | None = None
    shortfall: int | None = None
    upstream_milliseconds: int | None = None
    detail: str | None = None
    stream: bool | None = None
    first_event_milliseconds: int | None = None
    client_left: bool | None = None


class CountLine(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A line about requests without a line: how many were rejected under overload, or how many lines were dropped."""

    event: str
    level: str = "warning"
    timestamp: str
    rejected: int | None = None
    lines: int | None = None


WriteLines = Callable[[Sequence[RequestLine | CountLine]], None]
"""Writes several lines at once. Raises `OSError` or `ValueError` if the log is closed or full."""
