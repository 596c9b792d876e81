"""The daily results of models in SQL, behind the `ModelDays` port.

Each step counts the requests that were created in one quarter hour, and moves the marker, in one transaction. So a
crash between two steps loses nothing and counts nothing twice.
"""

from collections import Counter, defaultdict

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import model_day, model_rollup, request, verification
from tok0n.adapters.sql.store import SqlStore, by_index, lock_for
from tok0n.domain import ids, latency
from tok0n.domain.errors import UpstreamFailed
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, US_A_QUARTER, RequestStatus
from tok0n.domain.model_days import DAYS_KEPT, ModelDay

WAIT_US = 600_000_000
"""A request is stored at most so long after its creation: it must be read first."""

QUARTERS_A_DAY = MICROSECONDS_PER_DAY // US_A_QUARTER

_EARLIER_PENDING = sa.text(
    "SELECT 1 FROM request WHERE status = 'PENDING' AND expires_at_us > 0 AND created_at_us < :until_us LIMIT 1"
)
"""The partial index of pending requests has few entries. The literal lets SQLite use it."""


class SqlModelDays:
    """The `ModelDays` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def days(self, *, first_day: int) -> list[ModelDay]:
        """See `ports.ModelDays.days`."""
        return await self._store.read(lambda tx: _days(tx, first_day))

    async def roll_up(self, *, now_us: int) -> bool:
        """See `ports.ModelDays.roll_up`."""
        progress = sa.select(model_rollup.c.quarter)
        end = (now_us - WAIT_US) // US_A_QUARTER
        # Reads first, because usually there is nothing to add.
        if await self._store.read(lambda tx: tx.scalar(progress)) == end:
            return False

        def fn(tx: sa.Connection) -> bool:
            lock_for(tx, "model_rollup")
            by_index(tx)
            quarter = tx.scalar(progress)
            if quarter is None:
                quarter = _first_quarter(tx, end)
                tx.execute(sa.insert(model_rollup).values(quarter=quarter))
            if quarter >= end or tx.execute(_EARLIER_PENDING, {"until_us": (quarter + 1) * US_A_QUARTER}).first():
                return False
            _add(tx, quarter)
            tx.execute(sa.update(model_rollup).values(quarter=quarter + 1))
            return True

        return await self._store.write(fn)

    async def forget_old(self, *, now_us: int) -> None:
        """See `ports.ModelDays.forget_old`."""
        first_day = now_us // MICROSECONDS_PER_DAY - DAYS_KEPT

        def fn(tx: sa.Connection) -> None:
            tx.execute(sa.delete(model_day).where(model_day.c.day < first_day))
            tx.execute(sa.delete(verification).where(verification.c.at_us < first_day * MICROSECONDS_PER_DAY))

        await self._store.write(fn)


def _first_quarter(tx: sa.Connection, end: int) -> int:
    """Return the quarter hour of the oldest request that is not too old to be kept."""
    oldest = tx.scalar(sa.select(sa.func.min(request.c.id)))
    created_us = None if oldest is None else ids.request_time_us(oldest)
    first = end if created_us is None else created_us // US_A_QUARTER
    return min(end, max(first, end - DAYS_KEPT * QUARTERS_A_DAY))


def _add(tx: sa.Connection, quarter: int) -> None:
    """Add the requests that were created in a quarter hour to their day."""
    since, until = (ids.first_request_id(at * US_A_QUARTER) for at in (quarter, quarter + 1))
    columns = (request.c.model, request.c.status, request.c.code, request.c.upstream_ms)
    query = sa.select(*columns, sa.func.count()).where(request.c.id >= since, request.c.id < until).group_by(*columns)
    settled: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    latencies: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for model, status, code, upstream_ms, count in tx.execute(query):
        if status == RequestStatus.SETTLED:
            settled[model] += count
            if upstream_ms is not None:
                latencies[model][latency.bucket_of(upstream_ms)] += count
        elif code == UpstreamFailed.code:
            failed[model] += count
    day = quarter // QUARTERS_A_DAY
    for model in sorted(settled.keys() | failed.keys()):
        key = (model_day.c.day == day, model_day.c.model == model)
        row = tx.execute(sa.select(model_day).where(*key)).one_or_none()
        before = {} if row is None else _histogram(row.latencies)
        values = {
            "settled": settled[model] + (0 if row is None else row.settled),
            "failed": failed[model] + (0 if row is None else row.failed),
            "latencies": msgspec.json.encode(dict(latency.merge([before, latencies[model]]))).decode(),
        }
        if row is None:
            tx.execute(sa.insert(model_day).values(day=day, model=model, **values))
        else:
            tx.execute(sa.update(model_day).where(*key).values(values))


def _days(tx: sa.Connection, first_day: int) -> list[ModelDay]:
    days: dict[tuple[int, str], ModelDay] = {}
    for row in tx.execute(sa.select(model_day).where(model_day.c.day >= first_day)):
        days[row.day, row.model] = ModelDay(
            model=row.model,
            day=row.day,
            settled=row.settled,
            failed=row.failed,
            latencies=_histogram(row.latencies),
        )
    day = verification.c.at_us // sa.literal_column(str(MICROSECONDS_PER_DAY))
    query = sa.select(
        verification.c.model,
        day.label("day"),
        sa.func.count() - sa.func.count(verification.c.code),
        sa.func.count(verification.c.code),
    ).where(verification.c.at_us >= first_day * MICROSECONDS_PER_DAY)
    for model, number, passed, not_passed in tx.execute(query.group_by(verification.c.model, "day")):
        counted = days.get((int(number), model), ModelDay(model=model, day=int(number)))
        days[int(number), model] = msgspec.structs.replace(counted, passed=int(passed), not_passed=int(not_passed))
    return [days[key] for key in sorted(days)]


def _histogram(text: str) -> dict[int, int]:
    return msgspec.json.decode(text, type=dict[int, int])
