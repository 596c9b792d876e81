"""Audit the ledger in small steps: recompute every balance, and report each difference.

One snapshot of a large database would stop the checkpoints of SQLite and the vacuum of PostgreSQL for minutes. So each
step reads a limited number of rows in a snapshot of its own, and sums them in memory. The server keeps writing between
two steps, and still no step reports a false difference:

- Entries are never edited. The audit reads them in the order of their ids and keeps a sum for each account. The usage
  entry, the end of its request and the new balance are one commit, so each of them proves the others in any snapshot.
- On PostgreSQL, an entry may commit after one with a higher id. So the audit reads only up to an id that is final (see
  `entry_ids.py`). Entries of the same account always commit in the order of their ids, because each transaction locks
  the account's row before it takes an id.
- Balances change all the time. A step that compares them reads the entries since the last such step in its own
  snapshot, so the sums are exactly those of the snapshot. Entries above the final id are read again at the next step,
  and counted once (`_seen`).
- Requests that start after the audit are left to the next one, but their entries and reservations are in the sums.
"""

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from tok0n.adapters.sql.entry_ids import FinalEntries
from tok0n.adapters.sql.store import by_index
from tok0n.domain.ledger import AuditReport, Difference, RequestStatus

ENTRIES_PER_STEP = 50_000
REQUESTS_PER_STEP = 50_000
IDS_PER_STEP = 50_000
ACCOUNTS_PER_STEP = 1_000
KEYS_PER_STEP = 10_000

_ID_MAX = 2**63 - 1

Steps = Generator[int, sa.Connection, AuditReport]
"""Yields the number of rows read so far, and gets the connection of the next snapshot."""

Row = Sequence[Any]

_ENTRIES = """
SELECT e.id, e.account_id, e.amount, e.posted_after, e.order_id, r.api_key_id,
    CASE WHEN r.charged = -e.amount AND r.account_id = e.account_id THEN NULL ELSE e.request_id END
FROM ledger_entry e LEFT JOIN request r ON r.id = e.request_id
WHERE e.id > :after AND e.id <= :last ORDER BY e.id
"""
_USAGE_ENTRY = """
SELECT e.account_id, e.amount, r.account_id, r.charged
FROM ledger_entry e LEFT JOIN request r ON r.id = e.request_id WHERE e.id = :id
"""
_REQUESTS = """
SELECT account_id, api_key_id, count(*), sum(shortfall), max(id) FROM (
    SELECT id, account_id, api_key_id, shortfall FROM request WHERE id > :after AND id <= :last ORDER BY id LIMIT :rows
) AS page GROUP BY account_id, api_key_id
"""
_WRONG_REQUESTS = """
SELECT r.id, r.api_key_id, r.status, r.charged, r.shortfall, r.total_tokens, r.resolved_at_us, e.id
FROM request r LEFT JOIN ledger_entry e ON e.request_id = r.id
WHERE r.id > :after AND r.id <= :last AND (
    (r.charged > 0 AND e.id IS NULL)
    OR (r.status = 'SETTLED') <> (r.charged > 0)
    OR (r.status = 'PENDING') <> (r.resolved_at_us IS NULL)
    OR (r.status = 'SETTLED' AND r.charged + r.shortfall <> r.total_tokens)
)
"""
_OF_MISSING = "SELECT id FROM request WHERE {column} = :target AND id > :after AND id <= :last"
_IDS = "SELECT id FROM {table} WHERE id > :after ORDER BY id LIMIT :rows"
_EXISTS = "SELECT 1 FROM {table} WHERE id = :id"
_PENDING = "SELECT account_id, api_key_id, reserved FROM request WHERE status = 'PENDING'"
_ACCOUNTS = "SELECT id, posted, pending FROM account WHERE id > :after ORDER BY id LIMIT :rows"
_KEYS = "SELECT id, budget, spent, pending FROM api_key WHERE id > :after ORDER BY id LIMIT :rows"
_HOURS = """
SELECT account_id, sum(charged) FROM usage_hour WHERE account_id >= :first AND account_id <= :last GROUP BY account_id
"""
_WRONG_DAYS = """
SELECT account_id, day, sum(by_hour), sum(by_day) FROM (
    SELECT account_id, hour / 24 AS day, charged AS by_hour, 0 AS by_day FROM usage_hour
    WHERE account_id >= :first AND account_id <= :last AND hour < 24 * (SELECT day FROM usage_rollup)
    UNION ALL
    SELECT account_id, day, 0, charged FROM usage_day
    WHERE account_id >= :first AND account_id <= :last AND day < (SELECT day FROM usage_rollup)
) AS used GROUP BY account_id, day HAVING sum(by_hour) <> sum(by_day) ORDER BY account_id, day
"""
_ORDERS = """
SELECT account_id, sum(purchase_applied - refund_applied - dispute_applied)
FROM pack_order WHERE account_id >= :first AND account_id <= :last GROUP BY account_id
"""
_DEBTS = "SELECT account_id, tokens FROM debt WHERE account_id >= :first AND account_id <= :last"
_DANGLING_REVERSALS = """
SELECT e.id, e.reverses_request_id FROM ledger_entry e LEFT JOIN request r ON r.id = e.reverses_request_id
WHERE e.reverses_request_id IS NOT NULL AND r.id IS NULL
"""


def audit(tx: sa.Connection, *, has_daily_use: bool = True) -> AuditReport:
    """Audit in one transaction, which must be one snapshot or have locked the tables.

    Schemas before 0102 have no daily use.
    """
    steps = Audit(is_one_snapshot=True, has_daily_use=has_daily_use).steps()
    next(steps)
    while not isinstance(done := run_step(tx, steps), AuditReport):
        pass
    return done


def run_step(tx: sa.Connection, steps: Steps) -> int | AuditReport:
    """Run the next step. Returns the number of rows read so far, or the report."""
    by_index(tx)
    try:
        return steps.send(tx)
    except StopIteration as end:
        report: AuditReport = end.value
        return report


class Audit:
    """The sums of one audit. With `is_one_snapshot`, all steps see the same data, so there is nothing to wait for."""

    def __init__(self, *, is_one_snapshot: bool = False, has_daily_use: bool = True) -> None:
        self._is_one_snapshot = is_one_snapshot
        self._final = FinalEntries()
        self._has_daily_use = has_daily_use
        self._posted: dict[str, int] = {}
        self._not_used: Counter[str] = Counter()
        self._of_orders: Counter[str] = Counter()
        self._spent: Counter[str] = Counter()
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
        yield from self._compare(_ACCOUNTS, ACCOUNTS_PER_STEP, self._compare_accounts)
        yield from self._compare(_KEYS, KEYS_PER_STEP, self._compare_keys)
        tx = yield self._rows
        self._differences += self._dangling_entries(tx)
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
        self._add(tx, _fetch(tx, _ENTRIES, after=self._after, last=last))
        self._after = last

    def _read_newest_entries(self, tx: sa.Connection, last: int) -> None:
        """Read every other entry of this snapshot. Those above the final id `last` are read again."""
        rows = _fetch(tx, _ENTRIES, after=self._after, last=_ID_MAX)
        self._add(tx, [row for row in rows if row[0] not in self._seen])
        self._after = last
        self._seen = {row[0] for row in rows if row[0] > last}

    def _add(self, tx: sa.Connection, rows: Collection[Row]) -> None:
        posted, spent = self._posted, self._spent
        for entry_id, account_id, amount, posted_after, order_id, api_key_id, wrong_request_id in rows:
            running = posted[account_id] = posted.get(account_id, 0) + amount
            if running != posted_after:
                self._report(f"entry {entry_id}", "posted_after is not the running sum", running, posted_after)
            if api_key_id is not None:
                spent[api_key_id] -= amount
            elif wrong_request_id is None:
                self._not_used[account_id] += amount
                if order_id is not None:
                    self._of_orders[account_id] += amount
            if wrong_request_id is not None:
                self._report_usage_entry(tx, entry_id, wrong_request_id)
        self._entries += len(rows)

    def _report_usage_entry(self, tx: sa.Connection, entry_id: int, request_id: str) -> None:
        ((account_id, amount, request_account_id, charged),) = _fetch(tx, _USAGE_ENTRY, id=entry_id)
        if charged is None:
            self._report(f"entry {entry_id}", f"its request {request_id} does not exist")
            return
        if charged != -amount:
            self._report(request_id, "the usage entry is not the charge", -charged, amount)
        if account_id != request_account_id:
            self._report(request_id, "the usage entry is on another account")

    def _read_ids(self, table: str) -> Generator[int, sa.Connection, None]:
        after: str | None = ""
        while after is not None:
            tx = yield self._rows
            rows = _fetch(tx, _IDS.format(table=table), after=after, rows=IDS_PER_STEP)
            self._known[table].update(row[0] for row in rows)
            after = rows[-1][0] if len(rows) == IDS_PER_STEP else None

    def _read_requests(self, tx: sa.Connection, *, after: str, last: str) -> str | None:
        """Check the next requests up to `last`. Returns the id of the last one, or None at the end."""
        pairs = _fetch(tx, _REQUESTS, after=after, last=last, rows=REQUESTS_PER_STEP)
        if not pairs:
            return None
        page_end: str = max(row[4] for row in pairs)
        self._requests += sum(row[2] for row in pairs)
        self._shortfall += int(sum(row[3] for row in pairs))
        for index, table in enumerate(("account", "api_key")):
            for target in sorted({row[index] for row in pairs} - self._known[table]):
                if self._exists(tx, table, target):
                    continue
                query = _OF_MISSING.format(column=f"{table}_id")
                for (request_id,) in _fetch(tx, query, target=target, after=after, last=page_end):
                    self._report(request_id, f"its {table} {target} does not exist")
        for row in _fetch(tx, _WRONG_REQUESTS, after=after, last=page_end):
            self._report_request(*row)
        return page_end

    def _exists(self, tx: sa.Connection, table: str, row_id: str) -> bool:
        """Whether a row exists that was not there when the audit read the ids of the table."""
        if _one(tx, _EXISTS.format(table=table), id=row_id) is None:
            return False
        self._known[table].add(row_id)
        return True

    def _report_request(
        self,
        request_id: str,
        api_key_id: str,
        status: str,
        charged: int,
        shortfall: int,
        total: int,
        resolved_at_us: int | None,
        entry_id: int | None,
    ) -> None:
        if charged > 0 and entry_id is None:
            self._spent[api_key_id] += charged
            self._report(request_id, "the usage entry is not the charge", -charged, None)
        if (status == RequestStatus.SETTLED) != (charged > 0):
            self._report(request_id, f"a {status} request is charged", None, charged)
        if (status == RequestStatus.PENDING) != (resolved_at_us is None):
            what = f"a {status} request has {'no' if resolved_at_us is None else 'a'} time of its end"
            self._report(request_id, what, None, resolved_at_us)
        if status == RequestStatus.SETTLED and charged + shortfall != total:
            self._report(request_id, "charged + shortfall is not the use", total, charged + shortfall)

    def _compare(
        self, query: str, rows_per_step: int, compare: Callable[[sa.Connection, list[Row]], None]
    ) -> Generator[int, sa.Connection, None]:
        """Compare the rows of `query` with the sums, page by page. Each page has the sums of its own snapshot."""
        after: str | None = ""
        while after is not None:
            tx = yield self._rows
            last = yield from self._final_id(tx)
            tx = yield self._rows
            self._read_newest_entries(tx, last)
            rows = _fetch(tx, query, after=after, rows=rows_per_step)
            if rows:
                compare(tx, rows)
            after = rows[-1][0] if len(rows) == rows_per_step else None

    def _compare_accounts(self, tx: sa.Connection, accounts: list[Row]) -> None:
        """Posted = Σ entries, pending = Σ reserved of PENDING requests, 0 ≤ pending ≤ posted."""
        reserved: Counter[str] = Counter()
        for account_id, _, tokens in _fetch(tx, _PENDING):
            reserved[account_id] += tokens
        for account_id, posted, pending in accounts:
            expected = self._posted.get(account_id, 0)
            if posted != expected:
                self._report(account_id, "posted is not the sum of the entries", expected, posted)
            if pending != reserved[account_id]:
                self._report(account_id, "pending is not the sum of the reservations", reserved[account_id], pending)
            if not 0 <= pending <= posted:
                self._report(account_id, "pending is not between 0 and posted", posted, pending)
        self._accounts += len(accounts)
        account_ids = [row[0] for row in accounts]
        self._differences += self._wrong_hours(tx, account_ids)
        if self._has_daily_use:
            self._differences += self._wrong_days(tx, account_ids)
        self._differences += self._wrong_orders(tx, account_ids)

    def _wrong_hours(self, tx: sa.Connection, account_ids: list[str]) -> Iterator[Difference]:
        """The sum of an account's hourly use is the sum of its usage entries."""
        found = _sums(tx, _HOURS, account_ids)
        for account_id in account_ids:
            used = self._not_used[account_id] - self._posted.get(account_id, 0)
            if found.get(account_id, 0) != used:
                what = "the hourly use is not the sum of the usage entries"
                yield Difference(subject=account_id, what=what, expected=used, found=found.get(account_id, 0))

    def _wrong_days(self, tx: sa.Connection, account_ids: list[str]) -> Iterator[Difference]:
        """Each complete day of the daily use is the sum of its hours."""
        for account_id, day, by_hour, by_day in _fetch(tx, _WRONG_DAYS, first=account_ids[0], last=account_ids[-1]):
            what = f"the daily use of day {day} is not the sum of its hours"
            yield Difference(subject=account_id, what=what, expected=int(by_hour), found=int(by_day))

    def _wrong_orders(self, tx: sa.Connection, account_ids: list[str]) -> Iterator[Difference]:
        """The tokens that an account's orders have applied, plus its debt, are the sum of the orders' entries."""
        applied, debts = _sums(tx, _ORDERS, account_ids), _sums(tx, _DEBTS, account_ids)
        for account_id in account_ids:
            expected = applied.get(account_id, 0) + debts.get(account_id, 0)
            if expected != (entries := self._of_orders[account_id]):
                what = "the entries of the orders are not the orders' tokens plus the debt"
                yield Difference(subject=account_id, what=what, expected=expected, found=entries)

    def _compare_keys(self, tx: sa.Connection, keys: list[Row]) -> None:
        """The spent and reserved tokens of a key with a budget are the sums of its requests."""
        reserved: Counter[str] = Counter()
        for _, api_key_id, tokens in _fetch(tx, _PENDING):
            reserved[api_key_id] += tokens
        for key_id, budget, spent, pending in keys:
            expected = self._spent[key_id], reserved[key_id]
            if budget is not None and (spent, pending) != expected:
                what = "the tokens that the key has spent and reserved are not the sum of its requests"
                self._report(key_id, what, sum(expected), spent + pending)

    def _dangling_entries(self, tx: sa.Connection) -> Iterator[Difference]:
        """Every entry refers to existing rows. PostgreSQL has no foreign keys for this: see ADR 12."""
        dangling = [(*row, "request") for row in _fetch(tx, _DANGLING_REVERSALS)]
        for account_id in sorted(self._posted.keys() - self._known["account"]):
            if not self._exists(tx, "account", account_id):
                rows = _fetch(tx, "SELECT id, account_id FROM ledger_entry WHERE account_id = :id", id=account_id)
                dangling += [(*row, "account") for row in rows]
        for entry_id, target_id, table in dangling:
            what = f"its {table} {target_id} does not exist"
            yield Difference(subject=f"entry {entry_id}", what=what, expected=None, found=None)

    def _report(self, subject: str, what: str, expected: int | None = None, found: int | None = None) -> None:
        self._differences.append(Difference(subject=subject, what=what, expected=expected, found=found))


def _sums(tx: sa.Connection, query: str, account_ids: list[str]) -> Mapping[str, int]:
    """Return the sums of a page of accounts, whose ids are sorted."""
    return {row[0]: int(row[1]) for row in _fetch(tx, query, first=account_ids[0], last=account_ids[-1])}


def _one(tx: sa.Connection, query: str, **values: object) -> Any:
    rows = _fetch(tx, query, **values)
    return rows[0][0] if rows else None


def _fetch(tx: sa.Connection, query: str, **values: object) -> list[Row]:
    """Return the driver's rows, without the cost of SQLAlchemy's."""
    cursor = tx.execute(sa.text(query), values).cursor
    assert cursor is not None
    return list(cursor.fetchall())
