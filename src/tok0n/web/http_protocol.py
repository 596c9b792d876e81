"""uvicorn's HTTP/1.1 protocol with the two limits that it lacks: how large, and how slow, a request's head may be."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from tok0n.web.openai.errors import TABLE, error_body

HEAD_BYTES_MAX = 64 * 1024
HEAD_SECONDS_MAX = 30.0
"""From the connection, or from its first byte on a connection that is used again."""


class LimitedHttpProtocol(HttpToolsProtocol):
    """Costs a request whose head arrives in one piece, as nearly all do, next to nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_is_open = True
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the loop."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        super().connection_lost(exc)
        self._head_has_come()

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        super().data_received(data)
        if not self._head_is_open or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self._refuse("headers_too_large", f"The head of a request may have {HEAD_BYTES_MAX} bytes at the most.")
        elif self._head_timer is None:
            self._expect_head()

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        self._head_is_open = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._head_is_open = False
        self._head_has_come()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_timer = asyncio.get_running_loop().call_later(HEAD_SECONDS_MAX, self._too_slow)

    def _head_has_come(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        if self._head_bytes:
            self._refuse("request_timeout", f"The head of a request must arrive within {HEAD_SECONDS_MAX:g} seconds.")
        else:
            self.transport.close()

    def _refuse(self, code: str, message: str) -> None:
        """Answer in OpenAI's shape, although nobody knows yet which path was meant."""
        body = error_body(message=message, code=code)
        head = f"HTTP/1.1 {TABLE[code][0]} \r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        self.transport.close()
