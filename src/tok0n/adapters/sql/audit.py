"""Audit the ledger in small steps: recompute every balance, and report each difference.

One snapshot of a large database would stop the checkpoints of SQLite and the vacuum of PostgreSQL for minutes. So each
step reads a limited number of rows in a snapshot of its own, and sums them in memory. The server keeps writing between
two steps, and still no step reports a false difference:

- Entries are never edited. The audit reads them in the order of their ids and keeps a sum for each account. The usage
  entry, the end of its request and the new balance are one commit, so a snapshot has all of them or none.
- On PostgreSQL, an entry may commit after one with a higher id. So the audit reads only up to an id that is final (see
  `entry_ids.py`). Entries of the same wallet always commit in the order of their ids, because each transaction locks
  the wallet's row before it takes an id.
- Balances change all the time. A step that compares them reads the entries since the last such step in its own
  snapshot, so the sums are exactly those of the snapshot. Entries above the final id are read again at the next step,
  and counted once (`_seen`).
- Requests are read in the order of their ids, beside the index of their entries in the same order. An entry up to the
  final id is compared with its request there, and a newer one when it is read.
- Requests that start after the audit are left to the next one, but their entries and reservations are in the sums.
"""

from collections.abc import Callable, Collection, Generator, Iterator
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.audit_sums import Sums, missing_rows, wrong_accounts, wrong_periods
from tok0n.adapters.sql.budget_periods import period_ids
from tok0n.adapters.sql.entry_ids import FinalEntries
from tok0n.adapters.sql.store import Row, fetch, merge_joins
from tok0n.domain.ledger import AuditReport, Difference, RequestStatus

ENTRIES_PER_STEP = 50_000
REQUESTS_PER_STEP = 200_000
IDS_PER_STEP = 50_000
ACCOUNTS_PER_STEP = 1_000
PERIODS_PER_STEP = 10_000

_AFTER_ALL_IDS = "\U0010ffff"
"""Sorts after every id."""

Steps = Generator[int, sa.Connection, AuditReport]
"""Yields the number of rows read so far, and gets the connection of the next snapshot."""

_ENTRIES = """
SELECT id, account_id, token_class, number, amount, posted_after, order_id, request_id IS NOT NULL
FROM ledger_entry WHERE id > :after AND id <= :last ORDER BY id
"""
_NEWEST_ENTRIES = """
SELECT e.id, e.account_id, e.token_class, e.number, e.amount, e.posted_after, e.order_id, e.request_id IS NOT NULL,
    r.budget_periods, CASE WHEN r.charged = -e.amount AND r.account_id = e.account_id AND r.token_class = e.token_class
        THEN NULL ELSE e.request_id END
FROM ledger_entry e LEFT JOIN request r ON r.id = e.request_id WHERE e.id > :after ORDER BY e.id
"""
_USAGE_ENTRY = """
SELECT r.charged, e.amount, r.account_id <> e.account_id OR r.token_class <> e.token_class
FROM ledger_entry e LEFT JOIN request r ON r.id = e.request_id WHERE e.id = :id
"""
_IS_WRONG = """(
    (charged > 0 AND e.id IS NULL)
    OR (e.id <= :final AND (amount <> -charged OR e.account_id <> page.account_id OR e.token_class <> page.token_class))
    OR (status = 'SETTLED') <> (charged > 0)
    OR (status = 'PENDING') <> (resolved_at_us IS NULL)
    OR (status = 'SETTLED' AND charged + shortfall <> total_tokens)
)"""
_PAGE_END = "SELECT id FROM request WHERE id > :after AND id <= :last ORDER BY id LIMIT 1 OFFSET :rows - 1"
_PAGE = """
FROM request AS page LEFT JOIN ledger_entry e
ON e.request_id = page.id AND e.request_id > :after AND e.request_id <= :last
WHERE page.id > :after AND page.id <= :last
"""
_REQUESTS = f"""
SELECT count(*), sum(shortfall), count(e.id), count(CASE WHEN {_IS_WRONG} THEN 1 END), count(budget_periods) {_PAGE}
"""
_SPENT = f"""
SELECT budget_periods, sum(CASE WHEN e.id <= :final THEN -amount ELSE 0 END)
{_PAGE} AND budget_periods IS NOT NULL GROUP BY budget_periods
"""
_WRONG_REQUESTS = f"""
SELECT page.id, budget_periods, status, charged, shortfall, total_tokens, resolved_at_us, e.id, amount,
    page.account_id <> e.account_id OR page.token_class <> e.token_class
{_PAGE} AND {_IS_WRONG}
"""
_USAGE_ENTRIES = "SELECT count(*) FROM ledger_entry WHERE request_id > :after AND request_id <= :last"
_DANGLING_USAGE = """
SELECT e.id, e.request_id FROM ledger_entry e LEFT JOIN request r ON r.id = e.request_id
WHERE e.request_id > :after AND e.request_id <= :last AND e.id <= :final AND r.id IS NULL
"""
_OWNERS = "SELECT DISTINCT account_id, api_key_id FROM request WHERE id > :after AND id <= :last"
_OF_MISSING = "SELECT id FROM request WHERE {column} = :target AND id > :after AND id <= :last"
_IDS = "SELECT id FROM {table} WHERE id > :after ORDER BY id LIMIT :rows"
_EXISTS = "SELECT 1 FROM {table} WHERE id = :id"
_ACCOUNTS = "SELECT id FROM account WHERE id > :after ORDER BY id LIMIT :rows"
_PERIODS = """
SELECT budget_id, starts_at_us, spent, pending FROM budget_period
WHERE (budget_id, starts_at_us) > (:after, :starts) ORDER BY budget_id, starts_at_us LIMIT :rows
"""
_DANGLING_REVERSALS = """
SELECT e.id, e.reverses_request_id FROM ledger_entry e LEFT JOIN request r ON r.id = e.reverses_request_id
WHERE e.reverses_request_id IS NOT NULL AND r.id IS NULL
"""


def audit(tx: sa.Connection) -> AuditReport:
    """Audit in one transaction, which must be one snapshot or have locked the tables."""
    steps = Audit(is_one_snapshot=True).steps()
    next(steps)
    while not isinstance(done := run_step(tx, steps), AuditReport):
        pass
    return done


def run_step(tx: sa.Connection, steps: Steps) -> int | AuditReport:
    """Run the next step. Returns the number of rows read so far, or the report."""
    try:
        return steps.send(tx)
    except StopIteration as end:
        report: AuditReport = end.value
        return report


class Audit:
    """The sums of one audit. With `is_one_snapshot`, all steps see the same data, so there is nothing to wait for."""

    def __init__(self, *, is_one_snapshot: bool = False) -> None:
        self._is_one_snapshot = is_one_snapshot
        self._final = FinalEntries()
        self._sums = Sums()
        self._after = 0
        self._seen: set[int] = set()
        self._accounts = self._requests = self._entries = self._shortfall = 0
        self._known: dict[str, set[str]] = {"account": set(), "api_key": set()}
        self._differences: list[Difference] = []

    @property
    def _rows(self) -> int:
        return self._entries + self._requests + self._accounts

    def steps(self) -> Steps:
        """Run the audit. The first `next` runs nothing."""
        tx = yield 0
        last = yield from self._final_id(tx)
        while self._after < last:
            tx = yield self._rows
            self._read_entries(tx, last)
        for table in self._known:
            yield from self._read_ids(table)
        tx = yield self._rows
        newest = _one(tx, "SELECT max(id) FROM request") or ""
        after: str | None = ""
        while after is not None:
            tx = yield self._rows
            after = self._read_requests(tx, after=after, last=newest)
        yield from self._compare(_ACCOUNTS, ACCOUNTS_PER_STEP, self._compare_accounts, after="")
        yield from self._compare(_PERIODS, PERIODS_PER_STEP, self._compare_periods, after="", starts=0)
        tx = yield self._rows
        self._differences += self._dangling_entries(tx)
        self._differences += missing_rows(self._sums, tx)
        return AuditReport(
            accounts=self._accounts,
            requests=self._requests,
            entries=self._entries,
            shortfall=self._shortfall,
            differences=self._differences,
        )

    def _final_id(self, tx: sa.Connection) -> Generator[int, sa.Connection, int]:
        """Return an id up to which no further entry can appear. Waits for the transactions that write now."""
        if self._is_one_snapshot:
            return int(_one(tx, "SELECT max(id) FROM ledger_entry") or 0)
        while not self._final.look(tx):
            tx = yield self._rows
        return self._final.final_id

    def _read_entries(self, tx: sa.Connection, last: int) -> None:
        """Read the next entries up to the final id `last`."""
        last = min(last, self._after + ENTRIES_PER_STEP)
        self._add(fetch(tx, _ENTRIES, after=self._after, last=last))
        self._after = last

    def _read_newest_entries(self, tx: sa.Connection, last: int) -> None:
        """Read every other entry of this snapshot. Those above the final id `last` are read again."""
        rows = fetch(tx, _NEWEST_ENTRIES, after=self._after)
        unseen = [row for row in rows if row[0] not in self._seen]
        self._add([row[:-2] for row in unseen])
        for entry_id, _, _, _, amount, _, _, _, periods, wrong_id in unseen:
            for period_id in period_ids(periods):
                self._sums.spent[period_id] -= amount
            if wrong_id is not None:
                self._report_usage_entry(tx, entry_id, wrong_id)
        self._after = last
        self._seen = {row[0] for row in rows if row[0] > last}

    def _add(self, rows: Collection[Row]) -> None:
        wallets = self._sums.entries
        for entry_id, account_id, token_class, number, amount, after, order_id, is_usage in rows:
            wallet = wallets[account_id][token_class]
            wallet.posted += amount
            if wallet.posted != after:
                self._report(f"entry {entry_id}", "posted_after is not the running sum", wallet.posted, after)
            wallet.number += 1
            if number != wallet.number:
                what = "its number does not follow the previous one"
                self._report(f"entry {entry_id}", what, wallet.number, number)
                wallet.number = number
            if is_usage:
                wallet.used -= amount
            if order_id is not None:
                self._sums.order_tokens[account_id, token_class] += amount
        self._entries += len(rows)

    def _report_usage_entry(self, tx: sa.Connection, entry_id: int, request_id: str) -> None:
        ((charged, amount, is_elsewhere),) = fetch(tx, _USAGE_ENTRY, id=entry_id)
        if charged is None:
            self._report(f"entry {entry_id}", f"its request {request_id} does not exist")
        else:
            self._compare_usage(request_id, charged=charged, amount=amount, is_elsewhere=is_elsewhere)

    def _compare_usage(self, request_id: str, *, charged: int, amount: int | None, is_elsewhere: bool | None) -> None:
        if amount != -charged:
            self._report(request_id, "the usage entry is not the charge", -charged, amount)
        if is_elsewhere:
            self._report(request_id, "the usage entry is in another wallet")

    def _read_ids(self, table: str) -> Generator[int, sa.Connection, None]:
        after: str | None = ""
        while after is not None:
            tx = yield self._rows
            rows = fetch(tx, _IDS.format(table=table), after=after, rows=IDS_PER_STEP)
            self._known[table].update(row[0] for row in rows)
            after = rows[-1][0] if len(rows) == IDS_PER_STEP else None

    def _read_requests(self, tx: sa.Connection, *, after: str, last: str) -> str | None:
        """Check the next requests up to `last`, and their entries. Returns the last id, or None at the end.

        The entries above the final id are checked when they are read.
        """
        is_end = after == last
        page_end = _AFTER_ALL_IDS if is_end else _one(tx, _PAGE_END, after=after, last=last, rows=REQUESTS_PER_STEP)
        page = {"after": after, "last": page_end or last}
        entries = 0 if is_end else self._read_page(tx, page)
        if entries != _one(tx, _USAGE_ENTRIES, **page):
            for entry_id, request_id in fetch(tx, _DANGLING_USAGE, **page, final=self._after):
                self._report(f"entry {entry_id}", f"its request {request_id} does not exist")
        if is_end:
            return None
        self._check_owners(tx, page)
        return page["last"]

    def _read_page(self, tx: sa.Connection, page: dict[str, str]) -> int:
        """Check a page of requests. Returns the number of their entries."""
        with merge_joins(tx):
            ((requests, shortfall, entries, wrong, with_budgets),) = fetch(tx, _REQUESTS, **page, final=self._after)
            spent_of = fetch(tx, _SPENT, **page, final=self._after) if with_budgets else []
        for column, spent in spent_of:
            for period_id in period_ids(column):
                self._sums.spent[period_id] += int(spent)
        self._requests += requests
        self._shortfall += int(shortfall)
        if wrong:
            for row in fetch(tx, _WRONG_REQUESTS, **page, final=self._after):
                self._report_request(*row)
        return int(entries)

    def _check_owners(self, tx: sa.Connection, page: dict[str, str]) -> None:
        """The account and the API key of each request exist."""
        owners = fetch(tx, _OWNERS, **page)
        for index, table in enumerate(("account", "api_key")):
            for target in sorted({row[index] for row in owners} - self._known[table]):
                if not self._exists(tx, table, target):
                    query = _OF_MISSING.format(column=f"{table}_id")
                    for (request_id,) in fetch(tx, query, target=target, **page):
                        self._report(request_id, f"its {table} {target} does not exist")

    def _exists(self, tx: sa.Connection, table: str, row_id: str) -> bool:
        """Whether a row exists that was not there when the audit read the ids of the table."""
        if _one(tx, _EXISTS.format(table=table), id=row_id) is None:
            return False
        self._known[table].add(row_id)
        return True

    def _report_request(
        self,
        request_id: str,
        budget_periods: str | None,
        status: str,
        charged: int,
        shortfall: int,
        total: int,
        resolved_at_us: int | None,
        entry_id: int | None,
        amount: int | None,
        is_elsewhere: bool | None,  # noqa: FBT001  the columns of a row, in their order
    ) -> None:
        if entry_id is None and charged > 0:
            for period_id in period_ids(budget_periods):
                self._sums.spent[period_id] += charged
            self._compare_usage(request_id, charged=charged, amount=None, is_elsewhere=False)
        elif entry_id is not None and entry_id <= self._after:
            self._compare_usage(request_id, charged=charged, amount=amount, is_elsewhere=is_elsewhere)
        if (status == RequestStatus.SETTLED) != (charged > 0):
            self._report(request_id, f"a {status} request is charged", None, charged)
        if (status == RequestStatus.PENDING) != (resolved_at_us is None):
            what = f"a {status} request has {'no' if resolved_at_us is None else 'a'} time of its end"
            self._report(request_id, what, None, resolved_at_us)
        if status == RequestStatus.SETTLED and charged + shortfall != total:
            self._report(request_id, "charged + shortfall is not the use", total, charged + shortfall)

    def _compare(
        self,
        query: str,
        rows_per_step: int,
        compare: Callable[[sa.Connection, list[Row]], None],
        **after: str | int,
    ) -> Generator[int, sa.Connection, None]:
        """Compare the rows of `query` with the sums, page by page. Each page has the sums of its own snapshot.

        `after` are the parameters of the first page. Those of the next are the first columns of the last row.
        """
        has_more = True
        while has_more:
            tx = yield self._rows
            last = yield from self._final_id(tx)
            tx = yield self._rows
            self._read_newest_entries(tx, last)
            rows = fetch(tx, query, rows=rows_per_step, **after)
            if rows:
                compare(tx, rows)
                after = dict(zip(after, rows[-1], strict=False))
            has_more = len(rows) == rows_per_step

    def _compare_accounts(self, tx: sa.Connection, accounts: list[Row]) -> None:
        self._accounts += len(accounts)
        self._differences += wrong_accounts(self._sums, tx, [row[0] for row in accounts])

    def _compare_periods(self, tx: sa.Connection, periods: list[Row]) -> None:
        self._differences += wrong_periods(self._sums, tx, periods)

    def _dangling_entries(self, tx: sa.Connection) -> Iterator[Difference]:
        """Every entry refers to existing rows. PostgreSQL has no foreign keys for this: see ADR 12."""
        dangling = [(*row, "request") for row in fetch(tx, _DANGLING_REVERSALS)]
        for account_id in sorted(set(self._sums.entries) - self._known["account"]):
            if not self._exists(tx, "account", account_id):
                rows = fetch(tx, "SELECT id, account_id FROM ledger_entry WHERE account_id = :id", id=account_id)
                dangling += [(*row, "account") for row in rows]
        for entry_id, target_id, table in dangling:
            what = f"its {table} {target_id} does not exist"
            yield Difference(subject=f"entry {entry_id}", what=what, expected=None, found=None)

    def _report(self, subject: str, what: str, expected: int | None = None, found: int | None = None) -> None:
        self._differences.append(Difference(subject=subject, what=what, expected=expected, found=found))


def _one(tx: sa.Connection, query: str, **values: object) -> Any:
    rows = fetch(tx, query, **values)
    return rows[0][0] if rows else None
