"""Keep rejected requests for their owner: best effort, in memory first, and never awaited by a request.

Each process stores at most `STORED_PER_MINUTE_MAX` rejected requests of a key a minute, and only counts further ones.
A killed process loses those of the last second.
"""

from collections.abc import Collection

import structlog

from tok0n.domain.errors import InvalidApiKey, Tok0nError
from tok0n.domain.ids import request_time_us
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_QUARTER_HOUR
from tok0n.domain.rejection_messages import compact
from tok0n.domain.rejections import Rejection, RejectionCount, RejectionTotal
from tok0n.ports.clock import Clock
from tok0n.ports.rejections import RejectedRequests
from tok0n.services.call import Call

log = structlog.get_logger()

WRITE_SECONDS = 1.0
DELETE_SECONDS = 600.0
STORED_PER_MINUTE_MAX = 60
QUEUE_MAX = 5_000
"""The most rejected requests that wait to be stored. Each takes about 0.5 kB."""

COUNTS_MAX = 10_000
"""The most counts that wait to be stored."""

KEYS_MAX = 10_000
"""The most keys whose rejected requests are stored in the same minute."""

UNKNOWN_SECRETS_MAX = 300
"""The most secrets without a caller that are looked up for each minute. Inactive keys have such secrets."""

ROWS_AT_ONCE = 500
"""The most rows in one transaction, so that no settlement waits long."""

COUNTS_DAYS = 190
"""Counts are kept for the longest period of the usage page, and the period before it."""

_MINUTE_US = 60_000_000
_UNRECORDED = frozenset({"not_found", "model_not_found"})

_Key = tuple[str, str] | bytes


class Rejections:
    """Collects rejected requests, and stores them once a second."""

    def __init__(self, table: RejectedRequests, clock: Clock, *, days: int, words: Collection[str] = ()) -> None:
        self._table = table
        self._clock = clock
        self._days = days
        self._words = words
        self._queue: list[Rejection] = []
        self._counts: dict[RejectionCount, RejectionTotal] = {}
        self._minute = 0
        self._kept: dict[_Key, int] = {}
        self._unknown_secrets = 0
        self._dropped = 0

    def add(self, call: Call, error: Tok0nError, *, status: int, endpoint: str | None = None) -> None:
        """Queue a request that ended with `error`. Ignores one that reserved tokens, or whose key is unknown.

        `endpoint` replaces that of the call.
        """
        if call.reserved is not None or error.code in _UNRECORDED or getattr(error, "outcome_unknown", False):
            return
        key = _key_of(call, error)
        if key is None:
            return
        created_at_us = request_time_us(call.request_id) or self._clock.now_us()
        if not self._is_counted(key, created_at_us):
            return
        model = call.model or error.model
        count = self._count(
            RejectionCount(
                key=key, quarter=created_at_us // MICROSECONDS_PER_QUARTER_HOUR, model=model, code=error.code
            )
        )
        if count is None or not self._has_room(key):
            return
        count.stored += 1
        self._queue.append(
            Rejection(
                id=call.request_id,
                key=key,
                endpoint=endpoint or call.endpoint,
                model=model,
                http_status=status,
                code=error.code,
                message=compact(error, model=model, words=self._words),
                created_at_us=created_at_us,
            )
        )

    async def write(self) -> None:
        """Store what waits. Drops and logs what can't be stored."""
        queue, self._queue = self._queue, []
        counts, self._counts = self._counts, {}
        dropped, self._dropped = self._dropped, 0
        while queue or counts:
            rows, queue = queue[:ROWS_AT_ONCE], queue[ROWS_AT_ONCE:]
            sums = dict(list(counts.items())[:ROWS_AT_ONCE])
            counts = dict(list(counts.items())[ROWS_AT_ONCE:])
            try:
                await self._table.record(rows, sums)
            except Tok0nError:
                dropped += len(rows)
        if dropped:
            log.warning("rejected_requests_dropped", rows=dropped)

    async def delete_old(self) -> None:
        """Delete the requests that are older than the setting, and old counts."""
        now_us = self._clock.now_us()
        requests_us = now_us - self._days * MICROSECONDS_PER_DAY
        counts_us = now_us - COUNTS_DAYS * MICROSECONDS_PER_DAY
        while await self._table.delete_before(requests_us=requests_us, counts_us=counts_us, rows_max=ROWS_AT_ONCE):
            pass  # many short transactions, so that no settlement waits long

    def _count(self, key: RejectionCount) -> RejectionTotal | None:
        """Add one to a count, and return it. None if it is new and too many wait."""
        count = self._counts.get(key)
        if count is None:
            if len(self._counts) >= COUNTS_MAX:
                self._dropped += 1
                return None
            count = self._counts[key] = RejectionTotal()
        count.requests += 1
        return count

    def _is_counted(self, key: _Key, now_us: int) -> bool:
        """Whether rejected requests of a key are counted in this minute: of any caller, and of a few other secrets."""
        minute = now_us // _MINUTE_US
        if minute != self._minute:
            self._minute, self._unknown_secrets = minute, 0
            self._kept.clear()
        if isinstance(key, tuple) or key in self._kept:
            return True
        self._unknown_secrets += 1
        return self._unknown_secrets <= UNKNOWN_SECRETS_MAX

    def _has_room(self, key: _Key) -> bool:
        """Whether one more rejected request of the key can be stored. Counts it."""
        kept = self._kept.get(key, 0)
        if kept >= STORED_PER_MINUTE_MAX:
            return False
        if len(self._queue) >= QUEUE_MAX or (kept == 0 and len(self._kept) >= KEYS_MAX):
            self._dropped += 1
            return False
        self._kept[key] = kept + 1
        return True


def _key_of(call: Call, error: Tok0nError) -> _Key | None:
    if call.caller is not None:
        return call.caller.account_id, call.caller.api_key_id
    if error.key is not None:
        return error.key
    return error.secret_digest if isinstance(error, InvalidApiKey) else None
