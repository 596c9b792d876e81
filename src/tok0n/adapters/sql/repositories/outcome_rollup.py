"""Count the requests that have ended, behind the `OutcomeRollup` port: by account, key and model, and by model and day.

It reads all requests of a quarter hour first, outside of write transactions, because requests that have ended don't
change. Then it adds their counts in steps: each transaction adds the counts of some keys and records the progress. So a
crash between two steps loses nothing and counts nothing twice.
"""

import functools
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.repositories.model_days import add_to_day
from tok0n.adapters.sql.repositories.outcome_rows import decode, encode
from tok0n.adapters.sql.repositories.span_rows import LENGTHS
from tok0n.adapters.sql.schema import outcome_rollup, request
from tok0n.adapters.sql.store import SqlStore, lock_for
from tok0n.domain import ids, latency
from tok0n.domain.errors import UpstreamFailed
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_QUARTER_HOUR, RequestStatus
from tok0n.domain.model_days import ModelDay

COUNT_DELAY_US = 600_000_000
"""A quarter hour is counted this long after its end. A request's id has the time of its arrival, but its row is stored
only after its body was read."""

REQUESTS_AT_ONCE = 5_000
"""The most requests that one query reads."""

ROWS_AT_ONCE = 100
"""A transaction adds the counts of whole keys until it has at least this many rows. So no settlement waits long."""

_PENDING = sa.text("SELECT 1 FROM request WHERE status = 'PENDING' AND expires_at_us > 0 AND id < :until LIMIT 1")
"""The partial index of pending requests has few entries. The literal lets SQLite use it."""

_START = sa.text(
    "INSERT INTO outcome_rollup (quarter, api_key_id) SELECT :quarter, ''"
    " WHERE NOT EXISTS (SELECT 1 FROM outcome_rollup)"
)
_PROCEED = sa.text(
    "UPDATE outcome_rollup SET quarter = :quarter, api_key_id = :api_key_id"
    " WHERE quarter = :from_quarter AND api_key_id = :from_key"
)
_OF_KEYS = sa.text(
    "SELECT api_key_id, model, failed, latencies FROM request_outcome WHERE account_id = :account_id"
    " AND span_quarters = :span_quarters AND quarter = :quarter AND api_key_id BETWEEN :first_key AND :last_key"
)
_SAVE = sa.text(
    "INSERT INTO request_outcome (account_id, span_quarters, quarter, api_key_id, model, failed, latencies)"
    " VALUES (:account_id, :span_quarters, :quarter, :api_key_id, :model, :failed, :latencies)"
    " ON CONFLICT (account_id, span_quarters, quarter, api_key_id, model)"
    " DO UPDATE SET failed = excluded.failed, latencies = excluded.latencies"
)


class Progress(NamedTuple):
    """All requests count before the quarter hour, and in it those of keys with ids up to `api_key_id`."""

    quarter: int
    api_key_id: str


class _Series(NamedTuple):
    api_key_id: str
    model: str
    account_id: str


class _Counts(msgspec.Struct):
    """How many requests of a series failed, and the latencies of the billed ones as a packed histogram."""

    failed: int = 0
    packed: int = 0


class _Quarter(msgspec.Struct):
    """The requests of a quarter hour, by series and by model. `upstream_failed` are those that the upstream failed."""

    series: defaultdict[_Series, _Counts] = msgspec.field(default_factory=lambda: defaultdict(_Counts))
    settled: Counter[str] = msgspec.field(default_factory=Counter)
    upstream_failed: Counter[str] = msgspec.field(default_factory=Counter)

    def add(self, row: Any) -> None:
        """Count a request."""
        counts = self.series[_Series(row.api_key_id, row.model, row.account_id)]
        if row.status == RequestStatus.SETTLED:
            self.settled[row.model] += 1
            if row.upstream_ms is not None:
                counts.packed += latency.pack({latency.bucket_of(row.upstream_ms): 1})
            return
        counts.failed += 1
        if row.code == UpstreamFailed.code:
            self.upstream_failed[row.model] += 1

    def latencies(self) -> dict[str, int]:
        """Return the packed histogram of each model."""
        packed: defaultdict[str, int] = defaultdict(int)
        for series, counts in self.series.items():
            packed[series.model] += counts.packed
        return packed


class SqlOutcomeRollup:
    """The `OutcomeRollup` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def roll_up(self, *, now_us: int) -> bool:
        end = (now_us - COUNT_DELAY_US) // MICROSECONDS_PER_QUARTER_HOUR
        position = await self._store.read(progress)
        if position is None:
            quarter = await self._store.read(lambda tx: _quarter_of_request(tx, since_quarter=0, end=end))
            await self._store.write(functools.partial(_start, quarter=quarter))
            return True
        if position.quarter >= end or await self._store.read(functools.partial(_is_pending, quarter=position.quarter)):
            return False
        counted = await self._count(position.quarter)
        for series in _steps(sorted(series for series in counted.series if series.api_key_id > position.api_key_id)):
            following = Progress(position.quarter, series[-1].api_key_id)
            if not await self._proceed(position, following, functools.partial(_add, counted=counted, series=series)):
                return True
            position = following
        find = functools.partial(_quarter_of_request, since_quarter=position.quarter + 1, end=end)
        following = Progress(await self._store.read(find), "")
        await self._proceed(position, following, functools.partial(_add_to_days, counted=counted))
        return True

    async def _count(self, quarter: int) -> _Quarter:
        counted = _Quarter()
        after, until = (ids.first_request_id(at * MICROSECONDS_PER_QUARTER_HOUR) for at in (quarter, quarter + 1))
        is_last = False
        while not is_last:
            rows = await self._store.read(functools.partial(_requests, after=after, until=until))
            for row in rows:
                counted.add(row)
            is_last = len(rows) < REQUESTS_AT_ONCE
            after = after if is_last else rows[-1].id
        return counted

    async def _proceed(
        self, position: Progress, following: Progress, add: Callable[[sa.Connection, int], None]
    ) -> bool:
        """Add counts and record the progress in one transaction. False if another process was faster."""
        step = {
            "quarter": following.quarter,
            "api_key_id": following.api_key_id,
            "from_quarter": position.quarter,
            "from_key": position.api_key_id,
        }

        def fn(tx: sa.Connection) -> bool:
            if not tx.execute(
                _PROCEED, step | {"from_quarter": position.quarter, "from_key": position.api_key_id}
            ).rowcount:
                return False
            add(tx, position.quarter)
            return True

        return await self._store.write(fn)


def progress(tx: sa.Connection) -> Progress | None:
    """Return how far requests were counted. None if none were."""
    row = tx.execute(sa.select(outcome_rollup.c.quarter, outcome_rollup.c.api_key_id)).one_or_none()
    return None if row is None else Progress(*row)


def _start(tx: sa.Connection, *, quarter: int) -> None:
    lock_for(tx, "outcome_rollup")  # two processes may start
    tx.execute(_START, {"quarter": quarter})


def _quarter_of_request(tx: sa.Connection, *, since_quarter: int, end: int) -> int:
    """Return the quarter hour of the first request that was created in `since_quarter` or later, but at most `end`."""
    query = sa.select(sa.func.min(request.c.id)).where(
        request.c.id >= ids.first_request_id(since_quarter * MICROSECONDS_PER_QUARTER_HOUR)
    )
    request_id = tx.scalar(query)
    created_us = None if request_id is None else ids.request_time_us(request_id)
    return end if created_us is None else min(end, created_us // MICROSECONDS_PER_QUARTER_HOUR)


def _is_pending(tx: sa.Connection, *, quarter: int) -> bool:
    """Whether a request that was created in the quarter hour or before is in progress."""
    return (
        tx.execute(_PENDING, {"until": ids.first_request_id((quarter + 1) * MICROSECONDS_PER_QUARTER_HOUR)}).first()
        is not None
    )


def _requests(tx: sa.Connection, *, after: str, until: str) -> Sequence[Any]:
    columns = request.c
    query = sa.select(
        columns.id,
        columns.account_id,
        columns.api_key_id,
        columns.model,
        columns.status,
        columns.code,
        columns.upstream_ms,
    )
    query = query.where(columns.id > after, columns.id < until).order_by(columns.id).limit(REQUESTS_AT_ONCE)
    return tx.execute(query).all()


def _steps(series: Sequence[_Series]) -> Iterator[list[_Series]]:
    """Yield the sorted series in steps of whole keys."""
    step: list[_Series] = []
    for _, of_key in itertools.groupby(series, key=lambda item: item.api_key_id):
        step += of_key
        if len(step) >= ROWS_AT_ONCE:
            yield step
            step = []
    if step:
        yield step


def _add(tx: sa.Connection, quarter: int, *, counted: _Quarter, series: Sequence[_Series]) -> None:
    of_accounts: defaultdict[str, list[_Series]] = defaultdict(list)
    for item in series:
        of_accounts[item.account_id].append(item)
    rows = []
    for (account_id, items), length in itertools.product(of_accounts.items(), LENGTHS):
        key = {"account_id": account_id, "span_quarters": length, "quarter": quarter // length * length}
        stored = {}
        if length > 1:  # no earlier step counted this quarter hour
            keys = {"first_key": items[0].api_key_id, "last_key": items[-1].api_key_id}
            stored = {(row.api_key_id, row.model): row for row in tx.execute(_OF_KEYS, key | keys)}
        for item in items:
            counts, before = counted.series[item], stored.get((item.api_key_id, item.model))
            failed, packed = (0, 0) if before is None else (before.failed, decode(before.latencies))
            values = {"failed": failed + counts.failed, "latencies": encode(packed + counts.packed)}
            rows.append({**key, "api_key_id": item.api_key_id, "model": item.model, **values})
    tx.execute(_SAVE, rows)


def _add_to_days(tx: sa.Connection, quarter: int, *, counted: _Quarter) -> None:
    packed = counted.latencies()
    for model in sorted(counted.settled.keys() | counted.upstream_failed.keys()):
        day = ModelDay(
            model=model,
            day=quarter * MICROSECONDS_PER_QUARTER_HOUR // MICROSECONDS_PER_DAY,
            settled=counted.settled[model],
            failed=counted.upstream_failed[model],
            latencies=latency.unpack(packed[model]),
        )
        add_to_day(tx, day)
