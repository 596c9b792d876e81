"""A provider endpoint."""

from collections.abc import Awaitable
from typing import Protocol

import msgspec


class UpstreamResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A complete response of an upstream. Its body is unchecked.

    `retry_after_seconds`: when the upstream accepts requests again, if the response is a 429 that says so.
    """

    status: int
    body: bytes
    retry_after_seconds: float | None = None


class Upstream(Protocol):
    """One provider endpoint that we call."""

    @property
    def timeout_seconds(self) -> float:
        """The total deadline of one request."""

    def send(self, path: str, body: bytes) -> Awaitable[UpstreamResponse]:
        """POST a JSON body to `path` below the base URL, and read the response within the deadline and the size limit.

        Never follows a redirect, never sends twice. Raises `UpstreamFailed`, or `Overloaded` if too many connections
        are open. A cancelled call closes its connection.
        """

    def scrub(self, text: str) -> str:
        """Return `text` without this upstream's secrets: its keys, organization ids and hosts."""
