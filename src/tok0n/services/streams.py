"""The open streams of this process: limits their number and memory, and checks their timeouts once a second."""

import msgspec

from tok0n.domain.endpoints.endpoint import Endpoint
from tok0n.domain.errors import Overloaded
from tok0n.domain.metered_request import MeteredRequest
from tok0n.http.pushed_body import memory_bytes
from tok0n.ports.clock import Clock
from tok0n.ports.upstream import Upstream
from tok0n.services.call import Call
from tok0n.services.relay import UNREAD_BYTES_MAX, Relay

CHECK_SECONDS = 1.0
"""How often `Streams.check` runs."""

DROP_TO_SHARE = 15 / 16
"""Past the limit of all unread bytes, clients are dropped down to this share of it, so that each drop lasts a while."""


class StreamLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of all streams together.

    `hold_seconds` is how long the beginning of a response waits for content. `unread_bytes_max` limits the memory
    of the bytes that wait for all clients.
    """

    streams_max: int = 5_000
    hold_seconds: float = 10.0
    unread_bytes_max: int = 128 * 1024 * 1024


class Streams:
    """Opens relays, and checks them once a second. A stream counts until its client has read all of it, or left."""

    def __init__(self, limits: StreamLimits, clock: Clock) -> None:
        self._limits = limits
        self._clock = clock
        self._open: set[Relay] = set()
        self._unread_bytes = 0
        """At least the memory that waits for clients. Each piece adds to it, and `_count_unread` corrects it."""
        self.hold_seconds = limits.hold_seconds

    def __len__(self) -> int:
        return len(self._open)

    def open(self, endpoint: Endpoint, call: Call, request: MeteredRequest, upstream: Upstream) -> Relay:
        """Open the relay of a stream. Raises `Overloaded` if there are too many."""
        if len(self._open) >= self._limits.streams_max:
            raise Overloaded(queue="streams")
        assert endpoint.read_stream is not None
        call.is_stream = True
        reader = endpoint.read_stream(request, event_bytes_max=upstream.body_bytes_max, scrub=upstream.scrub)
        relay = Relay(
            call=call,
            endpoint=endpoint,
            request=request,
            upstream=upstream,
            reader=reader,
            clock=self._clock,
            streams=self,
        )
        self._open.add(relay)
        return relay

    async def check(self) -> None:
        """Check each stream's timeouts and memory. Call it every `CHECK_SECONDS`."""
        now = self._clock.monotonic()
        for relay in list(self._open):
            relay.check(now)
        self._count_unread()

    def on_unread(self, relay: Relay, size: int) -> None:
        """Count a piece that waits for its client. Drops the client of a stream past the limits."""
        if relay.begun.done() and relay.body.waiting_bytes - size > UNREAD_BYTES_MAX:
            relay.drop_client()
            return
        self._unread_bytes += memory_bytes(size, 1)
        if self._unread_bytes > self._limits.unread_bytes_max:
            self._count_unread()
            while self._unread_bytes > self._limits.unread_bytes_max and self._drop_slowest():
                pass

    def _drop_slowest(self) -> bool:
        """Drop the slowest readers of those that hold an average share or more, until there is room for a while.

        A client with a smaller share is never dropped, however many bytes wait in total. Returns False if none is left.
        """
        shares = [(size, relay) for relay in self._open if (size := relay.body.memory_bytes)]
        average = sum(size for size, _ in shares) / max(len(shares), 1)
        now = self._clock.monotonic()
        large = [(relay.reading_rate(now), size, relay) for size, relay in shares if size >= average]
        for _, size, relay in sorted(large, key=lambda item: item[0]):
            if self._unread_bytes <= self._limits.unread_bytes_max * DROP_TO_SHARE:
                break
            self._unread_bytes -= size
            relay.drop_client()
        return bool(shares)

    def remove_if_finished(self, relay: Relay) -> None:
        """Stop counting a stream that is settled or failed, and whose client has read everything or left."""
        if relay.is_finished and relay.body.is_closed:
            self._open.discard(relay)

    def _count_unread(self) -> None:
        self._unread_bytes = sum(relay.body.memory_bytes for relay in self._open)
