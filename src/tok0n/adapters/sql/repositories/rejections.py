"""Rejected requests in SQL, behind the `RejectedRequests` port."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.repositories.request_search import id_bounds, matching
from tok0n.adapters.sql.schema import api_key, key_secret, rejected_count, rejected_request
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain import ids
from tok0n.domain.history import RequestFilter
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR
from tok0n.domain.rejection_messages import Arguments
from tok0n.domain.rejections import RejectedRequest, Rejection, RejectionCount, RejectionTotal

_INSERT = sa.text(
    "INSERT INTO rejected_request"
    " (id, account_id, api_key_id, endpoint, model, http_status, code, param, template, arguments, created_at_us)"
    " VALUES (:id, :account_id, :api_key_id, :endpoint, :model, :http_status, :code, :param, :template, :arguments,"
    " :created_at_us) ON CONFLICT (id) DO NOTHING"
)
_COUNT = sa.text(
    "INSERT INTO rejected_count AS c (account_id, quarter, api_key_id, model, code, requests, stored)"
    " VALUES (:account_id, :quarter, :api_key_id, :model, :code, :requests, :stored)"
    " ON CONFLICT (account_id, quarter, api_key_id, model, code)"
    " DO UPDATE SET requests = c.requests + excluded.requests, stored = c.stored + excluded.stored"
)
_REJECTED = sa.select(rejected_request, api_key.c.name.label("key_name")).join(
    api_key, api_key.c.id == rejected_request.c.api_key_id
)
_Keys = Mapping[tuple[str, str] | bytes, tuple[str, str]]


class SqlRejectedRequests:
    """The `RejectedRequests` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def record(self, rejections: Sequence[Rejection], counts: Mapping[RejectionCount, RejectionTotal]) -> None:
        def fn(tx: sa.Connection) -> None:
            keys = _keys(tx, [*(rejection.key for rejection in rejections), *(count.key for count in counts)])
            if rows := [_row(rejection, keys[rejection.key]) for rejection in rejections if rejection.key in keys]:
                tx.execute(_INSERT, rows)
            if sums := _sums(counts, keys):
                tx.execute(_COUNT, sums)

        await self._store.write(fn)

    async def delete_before(self, *, requests_us: int, counts_us: int, rows_max: int) -> bool:
        old = sa.select(rejected_request.c.id).where(rejected_request.c.id < ids.first_request_id(requests_us))
        quarters = sa.select(rejected_count.c.quarter).where(
            rejected_count.c.quarter < counts_us // MICROSECONDS_PER_QUARTER_HOUR
        )

        def fn(tx: sa.Connection) -> bool:
            page = old.order_by(rejected_request.c.id).limit(rows_max)
            deleted = tx.execute(sa.delete(rejected_request).where(rejected_request.c.id.in_(page))).rowcount
            oldest = tx.scalar(quarters.order_by(rejected_count.c.quarter).limit(1))
            if oldest is not None:
                tx.execute(sa.delete(rejected_count).where(rejected_count.c.quarter == oldest))
            return deleted == rows_max or oldest is not None

        return await self._store.write(fn)


def find(tx: sa.Connection, account_id: str, request_id: str) -> RejectedRequest | None:
    """Return a rejected request of the account, or None."""
    columns = rejected_request.c
    row = tx.execute(_REJECTED.where(columns.id == request_id, columns.account_id == account_id)).one_or_none()
    return None if row is None else _rejected(row)


def newest(
    tx: sa.Connection, account_id: str, filters: RequestFilter, *, before: str | None, rows_max: int
) -> list[RejectedRequest]:
    """Return at most `rows_max` rejected requests with ids below `before`, newest first. Each filter has an index."""
    if not filters.has_rejected:
        return []
    columns = rejected_request.c
    lower, upper = id_bounds(filters, before=before)
    query = _REJECTED.where(columns.account_id == account_id, columns.id >= lower, columns.id < upper)
    query = query.where(*matching(rejected_request, filters))
    return [_rejected(row) for row in tx.execute(query.order_by(columns.id.desc()).limit(rows_max))]


def count_not_stored(tx: sa.Connection, account_id: str, filters: RequestFilter) -> int:
    """Return how many rejected requests of the quarter hours of a period were counted but not stored."""
    columns = rejected_count.c
    total = sa.func.coalesce(sa.func.sum(columns.requests - columns.stored), 0)
    since_quarter = (filters.since_us or 0) // MICROSECONDS_PER_QUARTER_HOUR
    query = sa.select(total).where(columns.account_id == account_id, columns.quarter >= since_quarter)
    if filters.until_us is not None:
        query = query.where(columns.quarter < -(-filters.until_us // MICROSECONDS_PER_QUARTER_HOUR))
    query = query.where(*matching(rejected_count, filters))
    return int(tx.scalar(query) or 0)


def _rejected(row: sa.Row[tuple[object, ...]]) -> RejectedRequest:
    return RejectedRequest(
        id=row.id,
        api_key_id=row.api_key_id,
        key_name=row.key_name,
        endpoint=row.endpoint,
        model=row.model,
        http_status=row.http_status,
        code=row.code,
        param=row.param,
        template=row.template,
        arguments=msgspec.json.decode(row.arguments, type=Arguments),
        created_at_us=row.created_at_us,
    )


def _keys(tx: sa.Connection, keys: Iterable[tuple[str, str] | bytes]) -> _Keys:
    """Return the account and the key of each pair of their ids, and of each digest that a key has."""
    by_key: dict[tuple[str, str] | bytes, tuple[str, str]] = {key: key for key in keys if isinstance(key, tuple)}
    digests = sorted({key for key in keys if isinstance(key, bytes)})
    if digests:
        owners = sa.select(key_secret.c.digest, api_key.c.account_id, api_key.c.id).join(
            api_key, api_key.c.id == key_secret.c.api_key_id
        )
        for digest, account_id, key_id in tx.execute(owners.where(key_secret.c.digest.in_(digests))):
            by_key[bytes(digest)] = (account_id, key_id)
    return by_key


def _row(rejection: Rejection, key: tuple[str, str]) -> dict[str, object]:
    return {
        "id": rejection.id,
        "account_id": key[0],
        "api_key_id": key[1],
        "endpoint": rejection.endpoint,
        "model": rejection.model,
        "http_status": rejection.http_status,
        "code": rejection.code,
        "param": rejection.message.param,
        "template": rejection.message.template,
        "arguments": msgspec.json.encode(rejection.message.arguments).decode(),
        "created_at_us": rejection.created_at_us,
    }


def _sums(counts: Mapping[RejectionCount, RejectionTotal], keys: _Keys) -> list[dict[str, object]]:
    """Return the rows to add, in the order of their key, because PostgreSQL locks them in the order of the rows."""
    sums: defaultdict[tuple[str, int, str, str, str], RejectionTotal] = defaultdict(RejectionTotal)
    for count, counted in counts.items():
        if count.key in keys:
            account_id, key_id = keys[count.key]
            total = sums[account_id, count.quarter, key_id, count.model or "", count.code]
            total.requests += counted.requests
            total.stored += counted.stored
    names = ("account_id", "quarter", "api_key_id", "model", "code")
    return [
        dict(zip(names, key, strict=True)) | {"requests": total.requests, "stored": total.stored}
        for key, total in sorted(sums.items())
    ]
