"""Log one line for each request, never with content. The hot path only appends; a thread writes the batches."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from tok0n.domain.errors import Tok0nError
from tok0n.services.call import Call

log = structlog.get_logger()

BATCH_SECONDS = 0.1
"""How long to collect lines before writing them as one batch. A crash loses these lines, but no request rows."""

LINES_MAX = 50_000
"""Beyond this many lines, further lines are dropped and counted, so that a stuck log can't exhaust the memory."""


class RequestLine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The facts for one line, formatted later by the writing thread."""

    call: Call
    status: int
    code: str | None
    detail: str
    seconds: float
    written_at: float


class RequestLog:
    """Collects lines and passes them in batches to `write_batch`, which runs in a thread, one batch at a time."""

    def __init__(self, write_batch: Callable[[list[dict[str, Any]]], None]) -> None:
        self._write_batch = write_batch
        self._lines: list[RequestLine] = []
        self._dropped = 0
        self._rejected = 0
        self._rejected_unlogged = 0
        self._writing: asyncio.Task[None] | None = None

    def write(self, call: Call, *, status: int, error: Tok0nError | None, seconds: float) -> None:
        """Queue the line of one request."""
        if len(self._lines) >= LINES_MAX:
            self._dropped += 1
            return
        self._lines.append(
            RequestLine(
                call=call,
                status=status,
                code=None if error is None else error.code,
                detail="" if error is None else error.detail,
                seconds=seconds,
                written_at=time.time(),
            )
        )
        self._start_writing()

    def count_rejected(self) -> None:
        """Count a request that was rejected under overload. A line for each would add to the load."""
        self._rejected += 1
        self._start_writing()

    def _start_writing(self) -> None:
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())

    async def aclose(self) -> None:
        """Wait until all lines are written."""
        while self._writing is not None:
            await self._writing

    async def _write(self) -> None:
        while self._lines or self._rejected:
            await asyncio.sleep(BATCH_SECONDS)
            lines, self._lines = self._lines, []
            dropped, self._dropped = self._dropped, 0
            rejected, self._rejected, self._rejected_unlogged = self._rejected + self._rejected_unlogged, 0, 0
            try:
                await asyncio.to_thread(self._format_and_write, lines, dropped, rejected)
            except (OSError, ValueError):
                # Standard error is closed or full. Keep serving: the next batch that succeeds logs the loss.
                self._dropped += dropped + len(lines)
                self._rejected_unlogged = rejected
        self._writing = None

    def _format_and_write(self, lines: list[RequestLine], dropped: int, rejected: int) -> None:
        batch = [_fields(line) | _stream_fields(line.call) if line.call.is_stream else _fields(line) for line in lines]
        if rejected:
            batch.append({"event": "overloaded", "level": "warning", "timestamp": time.time(), "rejected": rejected})
        if dropped:
            batch.append(
                {"event": "request_lines_dropped", "level": "warning", "timestamp": time.time(), "lines": dropped}
            )
        self._write_batch(batch)


def _fields(line: RequestLine) -> dict[str, Any]:
    call, caller = line.call, line.call.caller
    fields: dict[str, Any] = {
        "event": "request",
        "level": "error" if line.status >= 500 else "info",
        "timestamp": line.written_at,
        "request": call.request_id,
        "endpoint": call.endpoint,
    }
    if call.client_request_id is not None:
        fields["client_request_id"] = call.client_request_id
    if caller is not None:
        fields["account"] = caller.account_id
        fields["api_key"] = caller.api_key_id
    if call.model is not None:
        fields["model"] = call.model
        fields["upstream"] = call.upstream
    fields["status"] = line.status
    if line.code is not None:
        fields["code"] = line.code
    if call.reserved is not None:
        fields["reserved"] = call.reserved
    if call.receipt is not None:
        fields["charged"] = call.receipt.charged
        if call.receipt.shortfall:
            fields["shortfall"] = call.receipt.shortfall
    fields["milliseconds"] = round(line.seconds * 1000, 1)
    if call.upstream_ms is not None:
        fields["upstream_milliseconds"] = call.upstream_ms
    if line.detail:
        fields["detail"] = line.detail
    return fields


def _stream_fields(call: Call) -> dict[str, Any]:
    fields: dict[str, Any] = {"stream": True}
    if call.first_event_ms is not None:
        fields["first_event_milliseconds"] = call.first_event_ms
    if call.client_left:
        fields["client_left"] = True
    return fields
