"""The hot statements of the ledger, written for sqlite3 itself. Each decides in the database, never in Python.

What many calls do to the same account in one commit is one statement for all, where that decides the same: a sum that
is refused, or a use beyond its reservation, goes one by one.
"""

import sqlite3
from asyncio import Future
from itertools import chain
from typing import Any

import msgspec

from tok0n.adapters.batcher import RESERVATIONS_WAITING_MAX
from tok0n.adapters.sql import ledger_functions
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.domain.errors import (
    AccountingFailed,
    AlreadyResolved,
    InsufficientTokens,
    InvalidApiKey,
    KeyBudgetSpent,
    Overloaded,
    Tok0nError,
)
from tok0n.domain.ledger import (
    US_AN_HOUR,
    AuditReport,
    Balance,
    NewReservation,
    Receipt,
    Release,
    RequestStatus,
    Settlement,
)
from tok0n.domain.usage import Usage
from tok0n.ports.ledger import RecentRequest

ROWS_MAX = 64
"""How many rows one statement takes, at the most."""

EXACT_ROWS_MAX = 16
"""Up to so many rows, the usual numbers, there is a statement for each number."""


class ManyRows:
    """A statement for several rows at once: each statement is a chance to lose the interpreter to another thread.

    `{rows}` in it becomes `row` as often as there are rows. From `EXACT_ROWS_MAX` on it is the next power of two, so
    that few statements are prepared; the rows that are too many are '' throughout, which the statement must ignore. No
    value may be None: sqlite3 looks for an adapter for each, which costs more than all else that it does with a value.
    """

    def __init__(self, statement: str, *, row: str) -> None:
        self._statement = statement
        self._row = row
        self._width = row.count("?")
        self._prepared: dict[int, str] = {}

    def run(self, connection: sqlite3.Connection, rows: list[tuple[int | str, ...]]) -> int:
        """Run it for all rows; gives how many it changed."""
        changed = 0
        for start in range(0, len(rows), ROWS_MAX):
            values = list(chain.from_iterable(rows[start : start + ROWS_MAX]))
            size = len(values) // self._width
            if size > EXACT_ROWS_MAX:
                size = 1 << (size - 1).bit_length()
                values += [""] * (size * self._width - len(values))
            changed += connection.execute(self._for(size), values).rowcount
        return changed

    def _for(self, size: int) -> str:
        prepared = self._prepared.get(size)
        if prepared is None:
            prepared = self._prepared[size] = self._statement.format(rows=", ".join([self._row] * size))
        return prepared


_RESERVE = """
UPDATE account SET pending = pending + :tokens
WHERE id = :account_id AND status = 'open' AND posted - pending >= :tokens
  AND EXISTS (
    SELECT 1 FROM api_key WHERE id = :api_key_id AND account_id = :account_id AND revoked_at_us IS NULL
      AND (expires_at_us IS NULL OR expires_at_us > :created_at_us)
      AND (budget IS NULL OR budget - spent - api_key.pending >= :tokens))
RETURNING posted, pending
"""
_RESERVE_BUDGET = "UPDATE api_key SET pending = pending + :tokens WHERE id = :api_key_id AND budget IS NOT NULL"
_INSERT_REQUESTS = ManyRows(
    """
    INSERT INTO request (id, account_id, api_key_id, model, reserved, created_at_us, expires_at_us,
        status, charged, shortfall, dispatched)
    SELECT *, 'PENDING', 0, 0, 1 FROM (VALUES {rows}) WHERE column1 <> ''
    """,
    row="(?, ?, ?, ?, ?, ?, ?)",
)
_WHY_NOT = """
SELECT account.posted, account.pending, budget - spent - api_key.pending
FROM account JOIN api_key ON api_key.account_id = account.id
WHERE account.id = :account_id AND account.status = 'open' AND api_key.id = :api_key_id AND revoked_at_us IS NULL
  AND (expires_at_us IS NULL OR expires_at_us > :created_at_us)
"""
_SETTLE_AS_RESERVED = ManyRows(
    """
    UPDATE request SET status = 'SETTLED', charged = used.column3, prompt_tokens = used.column1,
        completion_tokens = used.column2, total_tokens = used.column3, details = NULLIF(used.column4, ''),
        upstream_ms = used.column5, resolved_at_us = used.column6
    FROM (VALUES {rows}) AS used
    WHERE id = used.column7 AND status = 'PENDING' AND reserved = used.column8 AND account_id = used.column9
    """,
    row="(?, ?, ?, ?, ?, ?, ?, ?, ?)",
)
_SETTLE = """
UPDATE request SET status = 'SETTLED',
    charged = MIN(:total, reserved + (SELECT posted - pending FROM account WHERE account.id = request.account_id)),
    shortfall = MAX(0,
        :total - reserved - (SELECT posted - pending FROM account WHERE account.id = request.account_id)),
    prompt_tokens = :prompt, completion_tokens = :completion, total_tokens = :total, details = :details,
    upstream_ms = :upstream_ms, resolved_at_us = :resolved_at_us
WHERE id = :request_id AND status = 'PENDING'
RETURNING account_id, reserved, charged, shortfall, api_key_id, model
"""
_CHARGE = """
UPDATE account SET posted = posted - :charged, pending = pending - :reserved WHERE id = :account_id
RETURNING posted, pending
"""
_INSERT_USAGE = ManyRows(
    """
    INSERT INTO ledger_entry (account_id, amount, posted_after, request_id, created_at_us, kind)
    SELECT *, 'usage' FROM (VALUES {rows}) WHERE column1 <> ''
    """,
    row="(?, ?, ?, ?, ?)",
)
_COUNT_HOUR = """
INSERT INTO usage_hour (account_id, hour, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (account_id, hour, api_key_id, model) DO UPDATE SET requests = requests + excluded.requests,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens, charged = charged + excluded.charged
"""
_END_BUDGET = """
UPDATE api_key SET spent = spent + ?, pending = pending - ? WHERE id = ? AND budget IS NOT NULL
"""
_SETTLED_BEFORE = """
SELECT request.status, reserved, charged, shortfall, account.posted, account.pending, account.id
FROM request JOIN account ON account.id = request.account_id WHERE request.id = :request_id
"""
_RELEASE = """
UPDATE request SET status = 'RELEASED', code = :code, dispatched = :dispatched, resolved_at_us = :resolved_at_us
WHERE id = :request_id AND status = 'PENDING'
RETURNING account_id, reserved, api_key_id
"""
_UNRESERVE = "UPDATE account SET pending = pending - :reserved WHERE id = :account_id"
_STATUS = "SELECT status FROM request WHERE id = :request_id"


class SqliteLedger:
    """The `Ledger` port on SQLite."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def has_room(self) -> bool:
        """See `ports.Ledger.has_room`."""
        return self._store.waiting < RESERVATIONS_WAITING_MAX

    def reserve(self, reservation: NewReservation) -> Future[Balance]:
        """See `ports.Ledger.reserve`."""
        if not self.has_room():
            raise Overloaded(queue="reservations")
        return self._store.submit(_reserve_all, reservation)

    def settle(self, settlement: Settlement) -> Future[Receipt]:
        """See `ports.Ledger.settle`."""
        return self._store.submit(_settle_all, settlement)

    def release(self, release: Release) -> Future[None]:
        """See `ports.Ledger.release`."""
        return self._store.submit(_release_all, release)

    async def reverse(self, *, request_id: str, now_us: int) -> None:
        """See `ports.Ledger.reverse`."""
        await self._store.write(lambda tx: ledger_functions.reverse(tx, request_id=request_id, now_us=now_us))

    async def expire(self, *, now_us: int, rows_max: int) -> int:
        """See `ports.Ledger.expire`."""
        return await self._store.write(
            lambda tx: ledger_functions.expire(tx, now_us=now_us, before_us=now_us, rows_max=rows_max)
        )

    async def recover(self, *, now_us: int) -> int:
        """See `ports.Ledger.recover`."""
        return await self._store.write(lambda tx: ledger_functions.recover(tx, now_us=now_us))

    async def recent(self, *, since_us: int) -> list[RecentRequest]:
        """See `ports.Ledger.recent`."""
        return await self._store.read(lambda tx: ledger_functions.recent(tx, since_us=since_us))

    async def audit(self) -> AuditReport:
        """See `ports.Ledger.audit`."""
        return await self._store.read(ledger_functions.audit)


def _reserve_all(connection: sqlite3.Connection, reservations: list[NewReservation]) -> list[Balance | Tok0nError]:
    """Refusals are returned, not raised: they must not undo the group commit they are part of."""
    results: dict[str, Balance | Tok0nError] = {}
    rows: list[NewReservation] = []
    for (account_id, api_key_id), group in _grouped(reservations).items():
        sum_of_all = {
            "account_id": account_id,
            "api_key_id": api_key_id,
            "tokens": sum(new.tokens for new in group),
            "created_at_us": max(new.created_at_us for new in group),
        }
        balance = _reserve_on_account(connection, sum_of_all, has_budget=any(new.has_budget for new in group))
        if isinstance(balance, Balance):
            rows += group
            results.update(dict.fromkeys([new.request_id for new in group], balance))
            continue
        for new in group:
            results[new.request_id] = _reserve_on_account(
                connection, msgspec.structs.asdict(new), has_budget=new.has_budget
            )
            if isinstance(results[new.request_id], Balance):
                rows.append(new)
    _INSERT_REQUESTS.run(
        connection,
        [
            (
                new.request_id,
                new.account_id,
                new.api_key_id,
                new.model,
                new.tokens,
                new.created_at_us,
                new.expires_at_us,
            )
            for new in rows
        ],
    )
    return [results[new.request_id] for new in reservations]


def _grouped(reservations: list[NewReservation]) -> dict[tuple[str, str], list[NewReservation]]:
    groups: dict[tuple[str, str], list[NewReservation]] = {}
    for new in reservations:
        groups.setdefault((new.account_id, new.api_key_id), []).append(new)
    return groups


def _reserve_on_account(
    connection: sqlite3.Connection, values: dict[str, Any], *, has_budget: bool
) -> Balance | Tok0nError:
    row = connection.execute(_RESERVE, values).fetchone()
    if row is None:
        return _why_not(connection, values, required=values["tokens"])
    if has_budget:
        connection.execute(_RESERVE_BUDGET, values)
    return Balance(posted=row[0], pending=row[1])


def _why_not(connection: sqlite3.Connection, values: dict[str, Any], *, required: int) -> Tok0nError:
    row = connection.execute(_WHY_NOT, values).fetchone()
    if row is None:
        return InvalidApiKey("This API key is not active any more.")
    if row[2] is not None and row[2] < required:
        return KeyBudgetSpent(left=row[2], required=required)
    return InsufficientTokens(required=required, posted=row[0], pending=row[1], largest_output_tokens=0)


class _Settled(msgspec.Struct, gc=False):
    """One request of a group that is being settled, with its charge."""

    settlement: Settlement
    account_id: str
    reserved: int
    api_key_id: str
    model: str
    charged: int
    shortfall: int


def _settle_all(connection: sqlite3.Connection, settlements: list[Settlement]) -> list[Receipt | Tok0nError]:
    """Settle a group. Requests that used at most their reservation are charged in one statement each.

    If only some of these are still pending, the group is undone and each command runs again alone. A savepoint would
    undo less, and cost every commit two statements and the copies of the pages that it changes.
    """
    results: dict[str, Receipt | Tok0nError] = {}
    within_reservation: list[_Settled] = []
    over_reservation: list[Settlement] = []
    for settlement in settlements:
        new = settlement.reservation
        charged = settlement.usage.total_tokens
        if new is None or charged > new.tokens:
            over_reservation.append(settlement)
        else:
            within_reservation.append(
                _Settled(settlement, new.account_id, new.tokens, new.api_key_id, new.model, charged, 0)
            )
    if within_reservation:
        pending = _settle_as_reserved(connection, within_reservation)
        if pending == len(within_reservation):
            _charge(connection, within_reservation, results)
        elif pending:
            raise AccountingFailed(upstream_called=True, detail="a reservation in the group has ended already")
        else:
            over_reservation += [one.settlement for one in within_reservation]
    for settlement in over_reservation:
        _settle_alone(connection, settlement, results)
    return [results[settlement.request_id] for settlement in settlements]


def _settle_as_reserved(connection: sqlite3.Connection, within_reservation: list[_Settled]) -> int:
    """Settle those that are PENDING with exactly this reservation. Return how many were."""
    rows: list[tuple[int | str, ...]] = []
    for one in within_reservation:
        settlement = one.settlement
        usage = settlement.usage
        rows.append(
            (
                usage.prompt_tokens,
                usage.completion_tokens,
                usage.total_tokens,
                _details(usage) or "",
                settlement.upstream_ms,
                settlement.resolved_at_us,
                settlement.request_id,
                one.reserved,
                one.account_id,
            )
        )
    return _SETTLE_AS_RESERVED.run(connection, rows)


def _settle_alone(
    connection: sqlite3.Connection, settlement: Settlement, results: dict[str, Receipt | Tok0nError]
) -> None:
    """One that used more than was reserved, was settled before, or whose reservation is not at hand."""
    usage = settlement.usage
    row = connection.execute(
        _SETTLE,
        {
            "request_id": settlement.request_id,
            "prompt": usage.prompt_tokens,
            "completion": usage.completion_tokens,
            "total": usage.total_tokens,
            "details": _details(usage),
            "upstream_ms": settlement.upstream_ms,
            "resolved_at_us": settlement.resolved_at_us,
        },
    ).fetchone()
    if row is None:
        results[settlement.request_id] = _settled_before(connection, settlement.request_id)
    else:
        account_id, reserved, charged, shortfall, api_key_id, model = row
        settled = _Settled(settlement, account_id, reserved, api_key_id, model, charged, shortfall)
        _charge(connection, [settled], results)


def _details(usage: Usage) -> str | None:
    return msgspec.json.encode(usage.details).decode() if usage.details else None


def _charge(connection: sqlite3.Connection, settled: list[_Settled], results: dict[str, Receipt | Tok0nError]) -> None:
    """Charge what was settled, an account after the other, and write the entries and the roll-ups.

    A key has its budget from the start or never, so the reservation knows whether there is one.
    """
    hours: dict[tuple[str, int, str, str], list[_Settled]] = {}
    for one in settled:
        hour = one.settlement.resolved_at_us // US_AN_HOUR
        hours.setdefault((one.account_id, hour, one.api_key_id, one.model), []).append(one)
    accounts: dict[str, list[_Settled]] = {}
    hour_rows: list[tuple[int | str, ...]] = []
    budget_rows: list[tuple[int | str, ...]] = []
    for key, group in hours.items():
        account_id, _, api_key_id, _ = key
        accounts.setdefault(account_id, []).extend(group)
        usages = [one.settlement.usage for one in group]
        tokens = [(usage.prompt_tokens, usage.completion_tokens) for usage in usages]
        prompt, completion = map(sum, zip(*tokens, strict=True))
        charged, reserved = _sums(group)
        hour_rows.append((*key, len(group), prompt, completion, charged))
        reservation = group[0].settlement.reservation
        if reservation is None or reservation.has_budget:
            budget_rows.append((charged, reserved, api_key_id))
    connection.executemany(_COUNT_HOUR, hour_rows)
    if budget_rows:
        connection.executemany(_END_BUDGET, budget_rows)
    for account_id, group in accounts.items():
        _charge_account(connection, account_id, group, results)


def _charge_account(
    connection: sqlite3.Connection, account_id: str, group: list[_Settled], results: dict[str, Receipt | Tok0nError]
) -> None:
    charged, reserved = _sums(group)
    posted, pending = connection.execute(
        _CHARGE, {"charged": charged, "reserved": reserved, "account_id": account_id}
    ).fetchone()
    balance = Balance(posted=posted, pending=pending)
    posted += charged
    entries: list[tuple[int | str, ...]] = []
    for one in group:
        posted -= one.charged
        settlement = one.settlement
        entries.append((account_id, -one.charged, posted, settlement.request_id, settlement.resolved_at_us))
        results[settlement.request_id] = Receipt(
            request_id=settlement.request_id,
            reserved=one.reserved,
            charged=one.charged,
            shortfall=one.shortfall,
            balance=balance,
        )
    _INSERT_USAGE.run(connection, entries)


def _sums(group: list[_Settled]) -> tuple[int, int]:
    """What was charged and what was reserved."""
    charged, reserved = map(sum, zip(*[(one.charged, one.reserved) for one in group], strict=True))
    return charged, reserved


def _settled_before(connection: sqlite3.Connection, request_id: str) -> Receipt | Tok0nError:
    row = connection.execute(_SETTLED_BEFORE, {"request_id": request_id}).fetchone()
    if row is None or row[0] != RequestStatus.SETTLED:
        return AlreadyResolved(request_id=request_id, status=row[0] if row else "unknown", wanted="settle")
    _, reserved, charged, shortfall, posted, pending, _ = row
    return Receipt(
        request_id=request_id,
        reserved=reserved,
        charged=charged,
        shortfall=shortfall,
        balance=Balance(posted=posted, pending=pending),
    )


def _release_all(connection: sqlite3.Connection, releases: list[Release]) -> list[Tok0nError | None]:
    return [_release(connection, release) for release in releases]


def _release(connection: sqlite3.Connection, release: Release) -> Tok0nError | None:
    values = {
        "request_id": release.request_id,
        "code": release.code,
        "dispatched": int(release.dispatched),
        "resolved_at_us": release.resolved_at_us,
    }
    row = connection.execute(_RELEASE, values).fetchone()
    if row is not None:
        account_id, reserved, api_key_id = row
        connection.execute(_UNRESERVE, {"account_id": account_id, "reserved": reserved})
        connection.execute(_END_BUDGET, (0, reserved, api_key_id))
        return None
    status = connection.execute(_STATUS, values).fetchone()
    if status is not None and status[0] == RequestStatus.SETTLED:
        return AlreadyResolved(request_id=release.request_id, status=status[0], wanted="release")
    return None
