"""The daily results of models in SQL, behind the `ModelDays` port. `outcome_rollup` adds the requests."""

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import model_day, verification
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain import latency
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.model_days import DAYS_KEPT, ModelDay


class SqlModelDays:
    """The `ModelDays` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def days(self, *, first_day: int) -> list[ModelDay]:
        return await self._store.read(lambda tx: _days(tx, first_day))

    async def delete_old(self, *, now_us: int) -> None:
        first_day = now_us // MICROSECONDS_PER_DAY - DAYS_KEPT

        def fn(tx: sa.Connection) -> None:
            tx.execute(sa.delete(model_day).where(model_day.c.day < first_day))
            tx.execute(sa.delete(verification).where(verification.c.at_us < first_day * MICROSECONDS_PER_DAY))

        await self._store.write(fn)


def add_to_day(tx: sa.Connection, added: ModelDay) -> None:
    """Add the requests of `added` to the day of its model."""
    key = (model_day.c.day == added.day, model_day.c.model == added.model)
    row = tx.execute(sa.select(model_day).where(*key)).one_or_none()
    before = {} if row is None else _histogram(row.latencies)
    values = {
        "settled": added.settled + (0 if row is None else row.settled),
        "failed": added.failed + (0 if row is None else row.failed),
        "latencies": msgspec.json.encode(dict(latency.merge([before, added.latencies]))).decode(),
    }
    if row is None:
        tx.execute(sa.insert(model_day).values(day=added.day, model=added.model, **values))
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
