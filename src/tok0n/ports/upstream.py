"""A provider endpoint."""

from collections.abc import Awaitable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from tok0n.domain.errors import UpstreamFailed


class UpstreamResponse(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A complete response of an upstream. Its body is unchecked.

    `retry_after_seconds`: when the upstream accepts requests again, if the response is a 429 that says so.
    """

    status: int
    body: bytes
    retry_after_seconds: float | None = None


class BodyReceiver(Protocol):
    """Takes a body as it arrives. Neither method may raise or block."""

    def receive(self, piece: bytes) -> None:
        """Take decompressed bytes."""

    def receive_end(self, error: UpstreamFailed | None) -> None:
        """Take the end of the body: clean, or truncated, invalid or late. Called at most once, after all pieces."""


class StreamedResponse(Protocol):
    """The response of an upstream whose body is still arriving."""

    status: int
    retry_after_seconds: float | None
    """As in `UpstreamResponse`."""

    def read(self) -> Awaitable[bytes]:
        """Wait for bytes of the body, and return all that have arrived, decompressed. `b""` is the end.

        Raises `UpstreamFailed` after the last bytes of a body that is truncated, invalid or late.
        """

    def read_all(self) -> Awaitable[bytes]:
        """Read the rest of the body within the size limit of `Upstream.send`. Raises `UpstreamFailed`."""

    def forward(self, receiver: BodyReceiver) -> None:
        """Give the rest of the body to `receiver`, at the speed of the upstream. Call it instead of `read`."""


class Upstream(Protocol):
    """One provider endpoint that we call."""

    @property
    def timeout_seconds(self) -> float:
        """The total deadline of one request whose response is read whole."""

    @property
    def stream_seconds(self) -> float:
        """The total deadline of one stream."""

    @property
    def stream_idle_seconds(self) -> float:
        """The longest silence of a stream, before its first event or between two. Comments don't count."""

    @property
    def body_bytes_max(self) -> int:
        """The size limit of a whole response, and of one event of a stream."""

    @property
    def continuous_usage(self) -> bool:
        """Whether the operator says that the upstream reports usage in every chunk of a chat stream."""

    def send(self, path: str, body: bytes, *, headers: Sequence[tuple[str, str]] = ()) -> Awaitable[UpstreamResponse]:
        """POST a JSON body to `path` below the base URL, and read the response within the deadline and the size limit.

        `headers` are sent beside the upstream's own. They must be valid names and values in ASCII.

        Never follows a redirect, never sends twice. Raises `UpstreamFailed`, or `Overloaded` if too many connections
        are open. A cancelled call closes its connection.
        """

    def stream(
        self, path: str, body: bytes, *, timeout_seconds: float, headers: Sequence[tuple[str, str]] = ()
    ) -> AbstractAsyncContextManager[StreamedResponse]:
        """POST as `send` does, and return the response once its head has arrived. Its body has no size limit.

        `timeout_seconds` is the deadline from now to the end of the body. Leaving the context before the end closes the
        connection. At most one caller reads the body, and the upstream waits while a caller doesn't read.
        """

    def scrub(self, text: str) -> str:
        """Return `text` without this upstream's secrets: its keys, organization ids and hosts."""
