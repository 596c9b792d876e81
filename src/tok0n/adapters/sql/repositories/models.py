"""The state of models in SQL, behind the `Models` port."""

from typing import Any

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.schema import model, operator_request
from tok0n.adapters.sql.schema import verification as results
from tok0n.adapters.sql.store import SqlStore, lock_for
from tok0n.domain.catalogue import EndpointState, ModelState, StreamState, Verification

KEPT_US = 600_000_000
"""The operator's requests are kept for 10 minutes. A limiter needs only those of the last minute."""


class SqlModels:
    """The `Models` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def states(self) -> dict[str, ModelState]:
        return await self._store.read(lambda tx: {row.id: _state(row) for row in tx.execute(sa.select(model))})

    async def set_enabled(self, *, model: str, enabled: bool) -> ModelState:
        return await self._store.write(lambda tx: _save(tx, msgspec.structs.replace(_load(tx, model), enabled=enabled)))

    async def claim_verification(self, *, model: str, request_id: str, now_us: int, exclusive_us: int) -> bool:
        row = {"id": request_id, "model": model, "created_at_us": now_us}
        return await self._store.write(lambda tx: _claim(tx, row, since_us=now_us - exclusive_us))

    async def record(self, verification: Verification) -> ModelState:
        def fn(tx: sa.Connection) -> ModelState:
            state = _save(tx, _load(tx, verification.model).after(verification))
            for result in verification.results:
                values = msgspec.structs.asdict(result) | {"is_stream": int(result.is_stream)}
                same = [results.c[name] == values[name] for name in ("model", "at_us", "endpoint", "is_stream")]
                tx.execute(sa.delete(results).where(*same))  # The clock may stand still.
                tx.execute(sa.insert(results).values(values))
            return state

        return await self._store.write(fn)


def _claim(tx: sa.Connection, row: dict[str, Any], *, since_us: int) -> bool:
    requests = operator_request.c
    lock_for(tx, f"model {row['model']}")
    recent = sa.select(requests.id).where(requests.model == row["model"], requests.created_at_us > since_us)
    if tx.execute(recent.limit(1)).first() is not None:
        return False
    tx.execute(sa.delete(operator_request).where(requests.created_at_us < row["created_at_us"] - KEPT_US))
    tx.execute(sa.insert(operator_request).values(row))
    return True


def _load(tx: sa.Connection, model_id: str) -> ModelState:
    """Read the state of a model, and lock it against other changes until the transaction ends."""
    lock_for(tx, f"model {model_id}")
    row = tx.execute(sa.select(model).where(model.c.id == model_id)).one_or_none()
    return ModelState(id=model_id) if row is None else _state(row)


def _save(tx: sa.Connection, state: ModelState) -> ModelState:
    values = msgspec.structs.asdict(state) | {
        "enabled": int(state.enabled),
        "endpoints": msgspec.json.encode(state.endpoints).decode(),
        "streams": msgspec.json.encode(state.streams).decode(),
    }
    if tx.execute(sa.update(model).where(model.c.id == state.id).values(values)).rowcount == 0:
        tx.execute(sa.insert(model).values(values))
    return state


def _state(row: sa.Row[tuple[object, ...]]) -> ModelState:
    values = dict(row._mapping)  # noqa: SLF001  SQLAlchemy's documented name
    endpoints = msgspec.json.decode(values.pop("endpoints"), type=dict[str, EndpointState])
    streams = msgspec.json.decode(values.pop("streams"), type=dict[str, StreamState])
    return ModelState(**values | {"enabled": bool(values["enabled"]), "endpoints": endpoints, "streams": streams})
