"""The history of an account in SQL, behind the `History` port. Every query selects one account and uses an index.

A request's id starts with its creation time in milliseconds, so paging by id is paging by time.
"""

from collections.abc import Mapping, Sequence

import msgspec
import sqlalchemy as sa

from tok0n.adapters.sql.repositories import activity, keys, rejections, request_scan, request_totals
from tok0n.adapters.sql.repositories.request_search import REQUESTS, newest
from tok0n.adapters.sql.repositories.span_rows import QUARTERS_PER_DAY
from tok0n.adapters.sql.repositories.statement import entry_of_row
from tok0n.adapters.sql.repositories.use import SUMMED, column_of, totals, use_of_buckets
from tok0n.adapters.sql.schema import account, api_key, budget_period, ledger_entry, request, wallet
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.accounts import ApiKey, Caller
from tok0n.domain.budgets import BudgetPeriod, KeyBudget
from tok0n.domain.errors import NotFound
from tok0n.domain.history import (
    BucketOfUse,
    BudgetUse,
    DayOfUse,
    LedgerEntry,
    RequestFilter,
    RequestRecord,
    RequestSearch,
    UseBy,
    UseFilter,
    UseRow,
    UseTotals,
)
from tok0n.domain.key_edits import Activity
from tok0n.domain.ledger import STANDARD, Balance, RequestStatus
from tok0n.domain.rejections import RejectedRequest
from tok0n.domain.token_classes import EMPTY


class SqlHistory:
    """The `History` port."""

    def __init__(self, store: SqlStore) -> None:
        self._store = store

    async def balance(self, account_id: str, token_class: str = STANDARD) -> Balance:
        return (await self.wallets(account_id)).get(token_class, EMPTY)

    async def wallets(self, account_id: str) -> dict[str, Balance]:
        query = sa.select(wallet).where(wallet.c.account_id == account_id).order_by(wallet.c.token_class)
        rows = await self._store.read(lambda tx: tx.execute(query).all())
        if not rows:
            raise NotFound("There is no such account.")
        return {row.token_class: Balance(posted=row.posted, pending=row.pending) for row in rows}

    async def key(self, account_id: str, api_key_id: str) -> ApiKey:
        return await self._store.read(lambda tx: keys.find(tx, account_id=account_id, key_id=api_key_id))

    async def caller(self, account_id: str, api_key_id: str) -> Caller | None:
        def fn(tx: sa.Connection) -> Caller | None:
            status = tx.scalar(sa.select(account.c.status).where(account.c.id == account_id))
            rows = sa.select(api_key).where(api_key.c.id == api_key_id, api_key.c.account_id == account_id)
            for key in keys.select(tx, rows.where(api_key.c.revoked_at_us.is_(None))):
                if status != "closed":
                    return msgspec.structs.replace(key.caller, is_suspended=status == "suspended")
            return None

        return await self._store.read(fn)

    async def budget_uses(self, account_id: str, api_key_id: str, *, now_us: int) -> list[BudgetUse]:
        def fn(tx: sa.Connection) -> list[BudgetUse]:
            key = keys.find(tx, account_id=account_id, key_id=api_key_id)
            return _uses(tx, {key.id: key.limits.budgets}, now_us=now_us)[key.id]

        return await self._store.read(fn)

    async def all_budget_uses(self, account_id: str, *, now_us: int) -> dict[str, list[BudgetUse]]:
        query = sa.select(api_key.c.id).where(api_key.c.account_id == account_id, api_key.c.revoked_at_us.is_(None))
        return await self._store.read(lambda tx: _uses(tx, keys.budgets_by_key(tx, query), now_us=now_us))

    async def activity(self, account_id: str, *, before: int | None, rows_max: int) -> list[Activity]:
        return await self._store.read(lambda tx: activity.select(tx, account_id, before=before, rows_max=rows_max))

    async def request(self, account_id: str, request_id: str) -> RequestRecord:
        query = REQUESTS.where(request.c.id == request_id, request.c.account_id == account_id)
        row = await self._store.read(lambda tx: tx.execute(query).one_or_none())
        if row is None:
            raise NotFound("There is no such request in this account.")
        return _record(row)

    async def reversal(self, account_id: str, request_id: str) -> LedgerEntry | None:
        columns = ledger_entry.c
        query = sa.select(ledger_entry).where(
            columns.reverses_request_id == request_id, columns.account_id == account_id
        )

        def fn(tx: sa.Connection) -> LedgerEntry | None:
            row = tx.execute(query).one_or_none()
            return None if row is None else entry_of_row(row)

        return await self._store.read(fn)

    async def requests(
        self, account_id: str, filters: RequestFilter, *, before: str | None, rows_max: int
    ) -> list[RequestRecord]:
        def fn(tx: sa.Connection) -> list[RequestRecord]:
            return [_record(row) for row in newest(tx, account_id, filters, before=before, rows_max=rows_max)]

        return await self._store.read(fn)

    async def search_requests(
        self, account_id: str, filters: RequestFilter, *, search_before: str | None, before: str | None, rows_max: int
    ) -> RequestSearch:
        def fn(tx: sa.Connection) -> RequestSearch:
            rows, totals, searched_to = request_scan.search(
                tx, account_id, filters, search_before=search_before, before=before, rows_max=rows_max
            )
            return RequestSearch(rows=[_record(row) for row in rows], totals=totals, searched_to=searched_to)

        return await self._store.read(fn)

    async def request_totals(self, account_id: str, filters: RequestFilter) -> UseTotals:
        return await self._store.read(lambda tx: request_totals.totals(tx, account_id, filters))

    async def rejected_request(self, account_id: str, request_id: str) -> RejectedRequest:
        rejected = await self._store.read(lambda tx: rejections.find(tx, account_id, request_id))
        if rejected is None:
            raise NotFound("There is no such request in this account.")
        return rejected

    async def rejected_requests(
        self, account_id: str, filters: RequestFilter, *, before: str | None, rows_max: int
    ) -> list[RejectedRequest]:
        return await self._store.read(
            lambda tx: rejections.newest(tx, account_id, filters, before=before, rows_max=rows_max)
        )

    async def count_not_stored(self, account_id: str, filters: RequestFilter) -> int:
        return await self._store.read(lambda tx: rejections.count_not_stored(tx, account_id, filters))

    async def daily_use(self, account_id: str, *, by: UseBy | None, first_day: int, until_day: int) -> list[DayOfUse]:
        filters = UseFilter(until_quarter=until_day * QUARTERS_PER_DAY)
        starts = range(first_day * QUARTERS_PER_DAY, until_day * QUARTERS_PER_DAY, QUARTERS_PER_DAY)
        columns = [] if by is None else [column_of(by)]
        return [
            DayOfUse(
                day=quarter // QUARTERS_PER_DAY,
                series=names[0] if names else None,
                totals=UseTotals(**dict(zip(SUMMED, sums, strict=True))),
            )
            for quarter, names, sums in await self._use_of_buckets(account_id, filters, columns, starts, SUMMED)
        ]

    async def buckets(
        self, account_id: str, filters: UseFilter, *, by: UseBy, starts: Sequence[int]
    ) -> list[BucketOfUse]:
        summed = ("requests", "charged")
        return [
            BucketOfUse(quarter=quarter, series=series, charged=charged, requests=requests)
            for quarter, (series,), (requests, charged) in await self._use_of_buckets(
                account_id, filters, [column_of(by)], starts, summed
            )
        ]

    async def use_rows(self, account_id: str, filters: UseFilter, *, starts: Sequence[int]) -> list[UseRow]:
        by = ["model", "api_key_id"]
        return [
            UseRow(
                quarter=quarter,
                model=model,
                api_key_id=api_key_id,
                totals=UseTotals(**dict(zip(SUMMED, sums, strict=True))),
            )
            for quarter, (model, api_key_id), sums in await self._use_of_buckets(
                account_id, filters, by, starts, SUMMED
            )
        ]

    async def _use_of_buckets(
        self, account_id: str, filters: UseFilter, by: Sequence[str], starts: Sequence[int], summed: Sequence[str]
    ) -> list[tuple[int, tuple[str, ...], list[int]]]:
        """Return the start, the values of the columns `by` and the sums of each bucket with use, sorted.

        The first column of `summed` must be `requests`.
        """
        sums = await self._store.read(
            lambda tx: use_of_buckets(tx, account_id, filters, by=by, starts=starts, summed=summed)
        )
        return [(quarter, names, values) for (quarter, names), values in sorted(sums.items()) if values[0]]

    async def totals(self, account_id: str, filters: UseFilter) -> UseTotals:
        sums = await self._store.read(lambda tx: totals(tx, account_id, filters))
        return UseTotals(**dict(zip(SUMMED, sums, strict=True)))

    async def bucket_totals(self, account_id: str, filters: UseFilter, *, starts: Sequence[int]) -> list[UseTotals]:
        use = {
            quarter: sums for quarter, _, sums in await self._use_of_buckets(account_id, filters, [], starts, SUMMED)
        }
        no_use = [0] * len(SUMMED)
        return [UseTotals(**dict(zip(SUMMED, use.get(start, no_use), strict=True))) for start in starts]

    async def models_used(self, account_id: str) -> list[str]:
        use = await self._use_of_buckets(account_id, UseFilter(), ["model"], [0], ["requests"])
        return [model for _, (model,), _ in use]


def _uses(tx: sa.Connection, budgets: Mapping[str, Sequence[KeyBudget]], *, now_us: int) -> dict[str, list[BudgetUse]]:
    """Return the use of the budgets of each key in their current periods. Reads their rows by primary key."""
    periods = {budget.id: budget.period_at(now_us) for of_key in budgets.values() for budget in of_key}
    columns = budget_period.c
    query = sa.select(columns.budget_id, columns.starts_at_us, columns.spent, columns.pending).where(
        columns.budget_id.in_(periods),
        columns.starts_at_us.in_({period.starts_at_us for period in periods.values()}),
    )
    rows = tx.execute(query).all() if periods else []
    counters = {(row.budget_id, row.starts_at_us): (row.spent, row.pending) for row in rows}
    return {
        key_id: [
            _use(budget, periods[budget.id], counters.get((budget.id, periods[budget.id].starts_at_us), (0, 0)))
            for budget in of_key
        ]
        for key_id, of_key in budgets.items()
    }


def _use(budget: KeyBudget, period: BudgetPeriod, counters: tuple[int, int]) -> BudgetUse:
    spent, pending = counters
    return BudgetUse(budget=budget, spent=spent, pending=pending, resets_at_us=period.ends_at_us)


def _record(row: sa.Row[tuple[object, ...]]) -> RequestRecord:
    return RequestRecord(
        id=row.id,
        api_key_id=row.api_key_id,
        key_name=row.key_name,
        model=row.model,
        status=RequestStatus(row.status),
        reserved=row.reserved,
        charged=row.charged,
        shortfall=row.shortfall,
        prompt_tokens=row.prompt_tokens,
        completion_tokens=row.completion_tokens,
        total_tokens=row.total_tokens,
        details={} if row.details is None else msgspec.json.decode(row.details, type=dict[str, int]),
        code=row.code,
        upstream_ms=row.upstream_ms,
        created_at_us=row.created_at_us,
        resolved_at_us=row.resolved_at_us,
        endpoint=row.endpoint,
        token_class=row.token_class,
        is_stream=bool(row.is_stream),
        first_event_ms=row.first_event_ms,
        client_left=bool(row.client_left),
    )
