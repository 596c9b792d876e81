"""The ledger on SQLite: reservations, settlements and releases in group commits. SQL statements make all decisions.

Commands of one commit that change the same account share a statement if the result is the same. If the group doesn't
fit the balance, or a use exceeds its reservation, commands run one by one. `domain/ledger_rules.py` has the rules.
"""

import sqlite3
from asyncio import Future
from collections.abc import Iterator
from typing import Any

import msgspec

from tok0n.adapters.batcher import RESERVATIONS_WAITING_MAX
from tok0n.adapters.sql.shared_ledger import SharedLedger
from tok0n.adapters.sql.sqlite import statements
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
    Balance,
    NewReservation,
    Receipt,
    Release,
    RequestStatus,
    Settlement,
)
from tok0n.domain.usage import Usage


class SqliteLedger(SharedLedger):
    """The `Ledger` port on SQLite."""

    _store: SqliteStore

    def __init__(self, store: SqliteStore) -> None:
        super().__init__(store)
        self._waiting = store.waiting

    def has_room(self) -> bool:
        """See `ports.Ledger.has_room`."""
        return len(self._waiting) < RESERVATIONS_WAITING_MAX

    def reserve(self, reservation: NewReservation) -> Future[Balance]:
        if not self.has_room():
            raise Overloaded(queue="reservations")
        return self._store.submit(_reserve_all, reservation)

    def settle(self, settlement: Settlement) -> Future[Receipt]:
        return self._store.submit(_settle_all, settlement)

    def release(self, release: Release) -> Future[None]:
        return self._store.submit(_release_all, release)


def _reserve_all(connection: sqlite3.Connection, reservations: list[NewReservation]) -> list[Balance | Tok0nError]:
    """Reserve a group. Returns rejections instead of raising them, because an exception rolls back the group commit."""
    results: dict[str, Balance | Tok0nError] = {}
    groups = _grouped(reservations)
    _reserve_together(connection, groups, results)
    for group in groups.values():
        if group[0].request_id not in results:
            _reserve_group(connection, group, results)
    rows: list[statements.Row] = []
    other_rows: list[statements.Row] = []
    for new in reservations:
        if not isinstance(results[new.request_id], Balance):
            continue
        row = (
            new.request_id,
            new.account_id,
            new.api_key_id,
            new.model,
            new.tokens,
            new.created_at_us,
            new.expires_at_us,
        )
        if new.is_stream or new.endpoint != "chat":
            other_rows.append((*row, int(new.is_stream), new.endpoint))  # sqlite3 searches an adapter for a bool
        else:
            rows.append(row)
    statements.INSERT_REQUESTS.run(connection, rows)
    statements.INSERT_OTHER_REQUESTS.run(connection, other_rows)
    return [results[new.request_id] for new in reservations]


def _grouped(reservations: list[NewReservation]) -> dict[tuple[str, str], list[NewReservation]]:
    groups: dict[tuple[str, str], list[NewReservation]] = {}
    for new in reservations:
        groups.setdefault((new.account_id, new.api_key_id), []).append(new)
    return groups


def _reserve_together(
    connection: sqlite3.Connection,
    groups: dict[tuple[str, str], list[NewReservation]],
    results: dict[str, Balance | Tok0nError],
) -> None:
    """Reserve for accounts that have one group in one statement. Skips the groups that don't fit or have a budget."""
    together: dict[str, list[NewReservation]] = {}
    several: set[str] = set()
    for (account_id, _), group in groups.items():
        if account_id in together:
            several.add(account_id)
        elif not group[0].has_budget:
            together[account_id] = group
    rows: list[statements.Row] = []
    for account_id, group in together.items():
        if account_id not in several:
            tokens, created_at_us = _total(group)
            rows.append((account_id, group[0].api_key_id, tokens, created_at_us))
    if len(rows) > 1:
        for account_id, posted, pending in statements.RESERVE_MANY.fetch(connection, rows):
            balance = Balance(posted=posted, pending=pending)
            for new in together[account_id]:
                results[new.request_id] = balance


def _reserve_group(
    connection: sqlite3.Connection, group: list[NewReservation], results: dict[str, Balance | Tok0nError]
) -> None:
    """Reserve for a key: all at once, or one by one if the group doesn't fit."""
    tokens, created_at_us = _total(group)
    values = {
        "account_id": group[0].account_id,
        "api_key_id": group[0].api_key_id,
        "tokens": tokens,
        "created_at_us": created_at_us,
    }
    balance = _reserve_on_account(connection, values, has_budget=any(new.has_budget for new in group))
    if isinstance(balance, Balance):
        results.update(dict.fromkeys([new.request_id for new in group], balance))
        return
    for new in group:
        results[new.request_id] = _reserve_on_account(
            connection, msgspec.structs.asdict(new), has_budget=new.has_budget
        )


def _total(group: list[NewReservation]) -> tuple[int, int]:
    """Return the sum of the tokens, and the time of the last reservation."""
    tokens = created_at_us = 0
    for new in group:
        tokens += new.tokens
        created_at_us = max(created_at_us, new.created_at_us)
    return tokens, created_at_us


def _reserve_on_account(
    connection: sqlite3.Connection, values: dict[str, Any], *, has_budget: bool
) -> Balance | Tok0nError:
    row = connection.execute(statements.RESERVE, values).fetchone()
    if row is None:
        return _rejection(connection, values, required=values["tokens"])
    if has_budget:
        connection.execute(statements.RESERVE_BUDGET, values)
    return Balance(posted=row[0], pending=row[1])


def _rejection(connection: sqlite3.Connection, values: dict[str, Any], *, required: int) -> Tok0nError:
    row = connection.execute(statements.REJECTION, values).fetchone()
    if row is None:
        return InvalidApiKey("This API key is no longer active.")
    if row[2] is not None and row[2] < required:
        return KeyBudgetSpent(left=row[2], required=required)
    return InsufficientTokens(required=required, posted=row[0], pending=row[1], largest_output_tokens=0)


class _Settled(msgspec.Struct, gc=False):
    """A request that a group settles, with its charge."""

    settlement: Settlement
    account_id: str
    reserved: int
    api_key_id: str
    model: str
    charged: int
    shortfall: int


def _settle_all(connection: sqlite3.Connection, settlements: list[Settlement]) -> list[Receipt | Tok0nError]:
    """Settle a group. Requests that used at most their reservation share statements.

    If only some of these are still pending, the group is rolled back and each command runs again alone. A savepoint
    would roll back less, but would cost every commit two statements and copies of the changed pages.
    """
    results: dict[str, Receipt | Tok0nError] = {}
    within_reservation: list[_Settled] = []
    over_reservation: list[Settlement] = []
    for settlement in settlements:
        if settlement.first_event_ms is not None or settlement.client_left:
            ended = (settlement.first_event_ms, settlement.client_left, settlement.request_id)
            connection.execute(statements.END_STREAM, ended)
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
            raise AccountingFailed(upstream_called=True, detail="a reservation in the group has already ended")
        else:
            over_reservation += [settled.settlement for settled in within_reservation]
    for settlement in over_reservation:
        _settle_alone(connection, settlement, results)
    return [results[settlement.request_id] for settlement in settlements]


def _settle_as_reserved(connection: sqlite3.Connection, within_reservation: list[_Settled]) -> int:
    """Settle the requests that are PENDING with the given reservation. Returns how many were."""
    rows: list[statements.Row] = []
    for settled in within_reservation:
        settlement = settled.settlement
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
                settled.reserved,
                settled.account_id,
            )
        )
    return statements.SETTLE_AS_RESERVED.run(connection, rows)


def _settle_alone(
    connection: sqlite3.Connection, settlement: Settlement, results: dict[str, Receipt | Tok0nError]
) -> None:
    """Settle a request that exceeded its reservation, is already settled, or whose reservation is unknown."""
    usage = settlement.usage
    row = connection.execute(
        statements.SETTLE,
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
    """Charge settled requests account by account, and write the ledger entries and the hourly use.

    A key's budget is fixed when it is created, so the reservation's `has_budget` is still right.
    """
    hours: dict[tuple[str, int, str, str], list[int]] = {}
    accounts: dict[str, list[_Settled]] = {}
    budget_rows: list[statements.Row] = []
    for item in settled:
        settlement = item.settlement
        usage = settlement.usage
        hour = (item.account_id, settlement.resolved_at_us // US_AN_HOUR, item.api_key_id, item.model)
        sums = hours.get(hour)
        if sums is None:
            hours[hour] = [1, usage.prompt_tokens, usage.completion_tokens, item.charged]
        else:
            sums[0] += 1
            sums[1] += usage.prompt_tokens
            sums[2] += usage.completion_tokens
            sums[3] += item.charged
        accounts.setdefault(item.account_id, []).append(item)
        if settlement.reservation is None or settlement.reservation.has_budget:
            budget_rows.append((item.charged, item.reserved, item.api_key_id))
    statements.COUNT_HOURS.run(connection, [(*hour, *sums) for hour, sums in hours.items()])
    if budget_rows:
        connection.executemany(statements.END_BUDGET, budget_rows)
    entries: list[statements.Row] = []
    account_sums = {account_id: _sums(group) for account_id, group in accounts.items()}
    account_rows: list[statements.Row] = [(account_id, *sums) for account_id, sums in account_sums.items()]
    for account_id, posted, pending in statements.CHARGE.fetch(connection, account_rows):
        balance = Balance(posted=posted, pending=pending)
        posted_before = posted + account_sums[account_id][0]
        entries += _entries(accounts[account_id], posted_before, balance, results)
    statements.INSERT_USAGE.run(connection, entries)


def _entries(
    group: list[_Settled], posted_before: int, balance: Balance, results: dict[str, Receipt | Tok0nError]
) -> Iterator[statements.Row]:
    """Yield the rows of the usage entries of one account, and add the receipts.

    `posted_before` is the account's posted balance before the group, `balance` the balance after it.
    """
    posted = posted_before
    for item in group:
        posted -= item.charged
        settlement = item.settlement
        yield item.account_id, -item.charged, posted, settlement.request_id, settlement.resolved_at_us
        results[settlement.request_id] = Receipt(
            request_id=settlement.request_id,
            reserved=item.reserved,
            charged=item.charged,
            shortfall=item.shortfall,
            balance=balance,
        )


def _sums(group: list[_Settled]) -> tuple[int, int]:
    """Return the charged and the reserved tokens of a group."""
    charged = reserved = 0
    for item in group:
        charged += item.charged
        reserved += item.reserved
    return charged, reserved


def _settled_before(connection: sqlite3.Connection, request_id: str) -> Receipt | Tok0nError:
    row = connection.execute(statements.SETTLED_BEFORE, {"request_id": request_id}).fetchone()
    if row is None or row[0] != RequestStatus.SETTLED:
        return AlreadyResolved(request_id=request_id, status=row[0] if row else "unknown", event="settle")
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
        "first_event_ms": release.first_event_ms,
    }
    row = connection.execute(statements.RELEASE, values).fetchone()
    if row is not None:
        account_id, reserved, api_key_id = row
        connection.execute(statements.UNRESERVE, {"account_id": account_id, "reserved": reserved})
        connection.execute(statements.END_BUDGET, (0, reserved, api_key_id))
        return None
    status = connection.execute(statements.STATUS, values).fetchone()
    if status is not None and status[0] == RequestStatus.SETTLED:
        return AlreadyResolved(request_id=release.request_id, status=status[0], event="release")
    return None
