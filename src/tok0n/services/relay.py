"""Relay one stream: the upstream's events to the client, then the usage to the ledger, then the end to the client.

The upstream is read at its own speed. A client that reads slowly or leaves doesn't change the charge, except with
`continuous_usage`: then the stream ends when the client leaves, and the last report is charged.
"""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from tok0n.domain.answers import Answer
from tok0n.domain.endpoints.endpoint import Endpoint, StreamReader
from tok0n.domain.errors import ServerStopped, Tok0nError, UpstreamFailed
from tok0n.domain.metered_request import MeteredRequest
from tok0n.domain.upstream_failures import read_failure
from tok0n.http.pushed_body import PushedBody
from tok0n.ports.clock import Clock
from tok0n.ports.upstream import StreamedResponse, Upstream
from tok0n.services.call import Call, known_error
from tok0n.services.reservations import Reservation

if TYPE_CHECKING:
    from tok0n.services.streams import Streams

KEEP_ALIVE_SECONDS = 15.0
"""How long a client may get nothing before it gets a keep-alive, so that proxies keep the connection."""

COMPLETE_SECONDS = 5.0
"""How long to wait for more after a complete answer, if the upstream doesn't say that the stream is over."""

CLIENT_SECONDS_MAX = 60.0
"""A client that reads nothing for this time counts as gone."""

CLIENT_BYTES_MIN = 60 * 1024
"""Once the upstream is done, a client that reads less than this in `CLIENT_SECONDS_MAX` counts as gone."""

UNREAD_BYTES_MAX = 1024 * 1024
"""The bytes of a stream that wait for its client. Past them, the client counts as gone."""

RATE_SECONDS = 10.0
"""The period over which a client's reading rate is measured."""


class StreamedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """An answer whose response begins now. `task` ends with the stream; its result is the error that the client got."""

    body: PushedBody
    task: "asyncio.Task[Tok0nError | None]"


class Relay:
    """One stream. Implements `BodyReceiver`. `Streams` calls `check` once a second, which replaces all timers.

    `begun` is done when the response may begin, or fails with the error that the client gets instead.
    """

    def __init__(
        self,
        *,
        call: Call,
        endpoint: Endpoint,
        request: MeteredRequest,
        upstream: Upstream,
        reader: StreamReader,
        clock: Clock,
        streams: "Streams",
    ) -> None:
        self._call = call
        self._endpoint = endpoint
        self._public_model = request.model.id
        self._upstream_model = request.route.upstream_model
        self._upstream_body = request.upstream_body
        self._upstream_headers = request.upstream_headers
        self._is_continuous = upstream.continuous_usage and endpoint.has_stream_options
        self._upstream = upstream
        self._reader = reader
        self._clock = clock
        self._streams = streams
        loop = asyncio.get_running_loop()
        self.begun: asyncio.Future[None] = loop.create_future()
        self._reading_ended: asyncio.Future[None] = loop.create_future()
        """Done when nothing more of the upstream counts."""
        self._error: UpstreamFailed | None = None
        """What ended the stream, other than its events."""
        self.body = PushedBody(self._on_body_close)
        self.is_finished = False
        self._is_sent = False
        self._reservation: Reservation
        self._sent_at = clock.monotonic()
        self._events_read = 0
        self._event_at = self._sent_at
        self._pushed_bytes = 0
        self._pushed_at = self._sent_at
        self._read_bytes = 0
        self._read_at = self._sent_at
        self._drain_at: float | None = None
        self._drain_bytes = 0
        self._rate_marks = [(self._sent_at, 0)] * 2

    async def wait_until_begun(self, task: "asyncio.Task[Tok0nError | None]") -> StreamedAnswer:
        """Wait until the response may begin. `task` runs the stream. Raises the error that the client gets instead."""
        try:
            await self.begun
        except BaseException:
            self.body.leave()
            raise
        return StreamedAnswer(body=self.body, task=task)

    async def run(self, reservation: Reservation) -> Answer:
        """Call the upstream, relay its events, and settle. Returns the answer without the body, which the client got.

        Raises the errors of `domain.errors`.
        """
        self._sent_at = self._event_at = self._clock.monotonic()
        self._is_sent = True
        self._reservation = reservation
        reservation.dispatched = True
        upstream = self._upstream
        try:
            async with upstream.stream(
                self._endpoint.upstream_path,
                self._take_upstream_body(),
                timeout_seconds=upstream.stream_seconds,
                headers=self._upstream_headers,
            ) as response:
                await self._read(response)
                if not self._ends_early:
                    await self._settle(reservation)  # meanwhile the last bytes arrive, and the connection is reusable
        finally:
            if self._call.upstream_ms is None:
                self._call.upstream_ms = self._milliseconds()
        if self._call.receipt is None:
            await self._settle(reservation)
        assert self._reader.usage is not None
        return Answer(body=b"", usage=self._reader.usage)

    def end_response(self, raised: BaseException | None) -> Tok0nError | None:
        """End the response after `run`. Returns the error that the client got, or None."""
        body, receipt = self.body, self._call.receipt
        error: Tok0nError | None = None
        if receipt is not None:  # even if the server stopped, or something failed, after the charge
            self._mark_begun()
            body.complete(self._reader.render_completion(receipt))
        else:
            error = known_error(self._call, raised) if isinstance(raised, Exception) else ServerStopped()
            if not self.begun.done():
                self.begun.set_exception(error)
                body.leave()
            else:
                last = self._reader.render_failure(error, request_id=self._call.request_id)
                end = body.complete if self._endpoint.failure_ends_stream else body.end_incomplete
                end(last)
        self.is_finished = True
        self._streams.remove_if_finished(self)
        return error

    def receive(self, piece: bytes) -> None:
        """Take bytes of the upstream."""
        if self._reading_ended.done():
            return
        reader, body = self._reader, self.body
        events = reader.feed(piece)
        if events:
            body.push(events)
            if body.waiting_bytes:
                self._streams.on_unread(self, len(events))
        if self._call.first_event_ms is None and reader.has_content:
            self._reservation.first_event_ms = self._call.first_event_ms = self._milliseconds()
            self._mark_begun()
        if reader.has_ended or reader.failure is not None or self._ends_early:
            self._stop_reading()

    def receive_end(self, error: UpstreamFailed | None) -> None:
        """Take the end of the upstream's body."""
        if self._reading_ended.done():
            return
        if error is None:
            self.body.push(self._reader.end())
        self._stop_reading(error)

    def check(self, now: float) -> None:
        """Compare the times of the stream with its limits. `now` is on the monotonic clock."""
        if not self._is_sent:
            return
        if not self._reading_ended.done():
            self._check_upstream(now)
        if self.begun.done():
            self._keep_alive(now)
            self._check_client(now)
        elif now - self._sent_at >= self._streams.hold_seconds:
            self._mark_begun()

    def reading_rate(self, now: float) -> float:
        """Return the bytes per second that the client has read in about the last `RATE_SECONDS`."""
        at, read_bytes = self._rate_marks[0]
        return (self._bytes_read_by_client() - read_bytes) / max(now - at, 1.0)

    def drop_client(self) -> None:
        """Close the connection of a client that reads too slowly. The stream is charged as if the client had left."""
        self.body.drop()

    @property
    def _ends_early(self) -> bool:
        """Whether the client left, and the last usage that the upstream reported is what it has used so far."""
        return self.body.has_left and self._is_continuous and self._reader.usage is not None

    def _mark_begun(self) -> None:
        if not self.begun.done():
            self.begun.set_result(None)

    def _stop_reading(self, error: UpstreamFailed | None = None) -> None:
        if not self._reading_ended.done():
            self._error = error
            self._call.upstream_ms = self._milliseconds()
            self._reading_ended.set_result(None)

    async def _read(self, response: StreamedResponse) -> None:
        """Relay until the stream is over. Raises the error of one that can't be charged."""
        if response.status != 200:
            raise read_failure(
                response.status,
                await response.read_all(),
                public_model=self._public_model,
                upstream_model=self._upstream_model,
                scrub=self._upstream.scrub,
                retry_after_seconds=response.retry_after_seconds,
            )
        response.forward(self)
        try:
            await self._reading_ended
        except asyncio.CancelledError:
            if not self._reader.is_complete:
                raise
        reader = self._reader
        if reader.is_complete or self._ends_early:
            return
        raise self._error or reader.failure or _failed("ended its response early", "no end of the stream")

    def _take_upstream_body(self) -> bytes:
        """Return the body to send, and forget it, because a stream can last much longer than its request."""
        body, self._upstream_body = self._upstream_body, b""
        return body

    async def _settle(self, reservation: Reservation) -> None:
        call, usage = self._call, self._reader.usage
        assert usage is not None
        if call.upstream_ms is None:
            call.upstream_ms = self._milliseconds()
        call.client_left = self.body.has_left
        try:
            await reservation.settle(usage, upstream_ms=call.upstream_ms, client_left=call.client_left)
        finally:  # a client is told of a charge that was committed when the server stopped
            call.receipt = reservation.receipt

    def _check_upstream(self, now: float) -> None:
        """End a stream whose upstream is silent for too long, or whose charge is known because its client left."""
        reader = self._reader
        if reader.events_read != self._events_read:
            self._events_read, self._event_at = reader.events_read, now
        silent_seconds = now - self._event_at
        if self._ends_early or (reader.is_complete and silent_seconds >= COMPLETE_SECONDS):
            self._stop_reading()
        elif silent_seconds >= self._upstream.stream_idle_seconds:
            self._stop_reading(_failed("sent nothing for too long", f"silent for {silent_seconds:.0f} s"))

    def _keep_alive(self, now: float) -> None:
        """Send a keep-alive if the client has got nothing for a while."""
        body = self.body
        if (
            body.pushed_bytes == self._pushed_bytes
            and now - self._pushed_at >= KEEP_ALIVE_SECONDS
            and not body.has_ended
        ):
            body.push(self._reader.render_keep_alive())
        if body.pushed_bytes != self._pushed_bytes:
            self._pushed_bytes, self._pushed_at = body.pushed_bytes, now

    def _check_client(self, now: float) -> None:
        """Drop a client that reads too slowly."""
        body = self.body
        if body.is_closed:
            return
        read_bytes = self._bytes_read_by_client()
        if read_bytes != self._read_bytes or not body.unsent_bytes:
            self._read_bytes, self._read_at = read_bytes, now
        if now - self._rate_marks[1][0] >= RATE_SECONDS:
            self._rate_marks = [self._rate_marks[1], (now, read_bytes)]
        is_too_slow = now - self._read_at >= CLIENT_SECONDS_MAX
        if self._reading_ended.done() and (self._drain_at is None or now - self._drain_at >= CLIENT_SECONDS_MAX):
            is_too_slow |= self._drain_at is not None and read_bytes - self._drain_bytes < CLIENT_BYTES_MIN
            self._drain_at, self._drain_bytes = now, read_bytes
        if is_too_slow:
            self.drop_client()

    def _bytes_read_by_client(self) -> int:
        return self.body.pushed_bytes - self.body.unsent_bytes

    def _on_body_close(self) -> None:
        if self._ends_early:
            self._stop_reading()
        self._streams.remove_if_finished(self)

    def _milliseconds(self) -> int:
        return round((self._clock.monotonic() - self._sent_at) * 1000)


def _failed(problem: str, detail: str) -> UpstreamFailed:
    return UpstreamFailed(f"The upstream provider {problem}.", detail=detail, outcome_unknown=True)
