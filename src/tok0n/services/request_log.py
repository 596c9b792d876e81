"""Log one line for each request, never with content. The hot path only appends; a thread writes the batches."""

import asyncio
import functools
import time
from datetime import UTC, datetime

import msgspec
import structlog

from tok0n.domain.errors import Tok0nError
from tok0n.ports.log_lines import CountLine, RequestLine, WriteLines
from tok0n.services.call import Call

log = structlog.get_logger()

BATCH_SECONDS = 0.1
"""How long to collect lines before writing them as one batch. A crash loses these lines, but no request rows."""

LINES_MAX = 50_000
"""Beyond this many lines, further lines are dropped and counted, so that a stuck log can't exhaust the memory."""


class _Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The facts for one line, formatted later by the writing thread."""

    call: Call
    status: int
    code: str | None
    detail: str
    seconds: float
    written_at: float


class RequestLog:
    """Collects lines and passes them in batches to `write_batch`, which runs in a thread, one batch at a time."""

    def __init__(self, write_batch: WriteLines) -> None:
        self._write_batch = write_batch
        self._lines: list[_Entry] = []
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
            _Entry(
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

    def _format_and_write(self, entries: list[_Entry], dropped: int, rejected: int) -> None:
        batch: list[RequestLine | CountLine] = [_line(entry) for entry in entries]
        if rejected:
            batch.append(CountLine(event="overloaded", timestamp=_utc_now(), rejected=rejected))
        if dropped:
            batch.append(CountLine(event="request_lines_dropped", timestamp=_utc_now(), lines=dropped))
        self._write_batch(batch)


def _line(entry: _Entry) -> RequestLine:
    """Format one line.

    Sets some fields afterwards, because Python builds a dict for a call with more than 15 keyword arguments, which
    takes twice as long.
    """
    call = entry.call
    line = RequestLine(
        event="request",
        level="error" if entry.status >= 500 else "info",
        timestamp=_utc(int(entry.written_at * 1000)),
        request=call.request_id,
        endpoint=call.endpoint,
        status=entry.status,
        milliseconds=round(entry.seconds * 10_000) / 10,
        client_request_id=call.client_request_id,
        model=call.model,
        upstream=call.upstream,
        code=entry.code,
        reserved=call.reserved,
        upstream_milliseconds=call.upstream_ms,
        first_event_milliseconds=call.first_event_ms,
    )
    if call.caller is not None:
        line.account = call.caller.account_id
        line.api_key = call.caller.api_key_id
    if call.receipt is not None:
        line.charged = call.receipt.charged
        line.shortfall = call.receipt.shortfall or None
    if entry.detail:
        line.detail = entry.detail
    if call.is_stream:
        line.stream = True
    if call.client_left:
        line.client_left = True
    return line


def _utc_now() -> str:
    return _utc(int(time.time() * 1000))


@functools.lru_cache(maxsize=256)
def _utc(milliseconds: int) -> str:
    """Format a Unix time. Under load, several lines have the same one."""
    time_of_day = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return time_of_day.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
