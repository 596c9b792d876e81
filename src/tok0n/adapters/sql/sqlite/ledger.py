"""The ledger on SQLite: reservations, settlements and releases in group commits. SQL statements make all decisions.

Commands of one commit that change the same wallet share a statement if the result is the same. If the group doesn't
fit the balance, or a use exceeds its reservation, commands run one by one. `domain/ledger_rules.py` has the rules.
"""

import sqlite3
from asyncio import Future
from collections.abc import Iterator

import msgspec

from tok0n.adapters.batcher import RESERVATIONS_WAITING_MAX
from tok0n.adapters.sql import budget_periods
from tok0n.adapters.sql.shared_ledger import SharedLedger
from tok0n.adapters.sql.sqlite import statements
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.domain.budgets import BudgetPeriod
from tok0n.domain.errors import (
    AccountingFailed,
    AlreadyResolved,
    InsufficientTokens,
    InvalidApiKey,
    KeyBudgetSpent,
    KeyChanged,
    Overloaded,
    Tok0nError,
)
from tok0n.domain.ledger import (
    STANDARD,
    US_AN_HOUR,
    Balance,
    NewReservation,
    Receipt,
    Release,
    RequestStatus,
    Settlement,
)
from tok0n.domain.ledger_rules import PeriodId
from tok0n.domain.usage import Usage

WalletId = tuple[str, str]
"""The id of the account, and the token class."""


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
        if new.is_stream or new.endpoint != "chat" or new.token_class != STANDARD or new.periods:
            periods = budget_periods.encode(new.periods) or ""
            # int: sqlite3 searches an adapter for a bool.
            other_rows.append((*row, int(new.is_stream), new.endpoint, new.token_class, periods))
        else:
            rows.append(row)
    statements.INSERT_REQUESTS.run(connection, rows)
    statements.INSERT_OTHER_REQUESTS.run(connection, other_rows)
    return [results[new.request_id] for new in reservations]


def _grouped(reservations: list[NewReservation]) -> dict[tuple[object, ...], list[NewReservation]]:
    """Group reservations that differ in their tokens and times alone."""
    groups: dict[tuple[object, ...], list[NewReservation]] = {}
    for new in reservations:
        like = (new.account_id, new.token_class, new.api_key_id, new.key_version, new.periods)
        groups.setdefault(like, []).append(new)
    return groups


def _reserve_together(
    connection: sqlite3.Connection,
    groups: dict[tuple[object, ...], list[NewReservation]],
    results: dict[str, Balance | Tok0nError],
) -> None:
    """Reserve for wallets that have one group in one statement. Skips the groups that don't fit or have a budget."""
    together: dict[WalletId, list[NewReservation]] = {}
    several: set[WalletId] = set()
    for group in groups.values():
        wallet = (group[0].account_id, group[0].token_class)
        if wallet in together:
            several.add(wallet)
        elif not group[0].periods:
            together[wallet] = group
    rows: list[statements.Row] = []
    for wallet, group in together.items():
        if wallet not in several:
            tokens, created_at_us = _total(group)
            rows.append((*wallet, group[0].api_key_id, group[0].key_version, created_at_us, tokens))
    if len(rows) > 1:
        for account_id, token_class, posted, pending in statements.RESERVE_MANY.fetch(connection, rows):
            balance = Balance(posted=posted, pending=pending)
            for new in together[account_id, token_class]:
                results[new.request_id] = balance


def _reserve_group(
    connection: sqlite3.Connection, group: list[NewReservation], results: dict[str, Balance | Tok0nError]
) -> None:
    """Reserve for a group: all at once, or one by one if it doesn't fit."""
    tokens, created_at_us = _total(group)
    if len(group) > 1:
        total = msgspec.structs.replace(group[0], tokens=tokens, created_at_us=created_at_us)
        balance = _reserve(connection, total)
        if isinstance(balance, Balance):
            results.update(dict.fromkeys([new.request_id for new in group], balance))
            return
    for new in group:
        results[new.request_id] = _reserve(connection, new)


def _total(group: list[NewReservation]) -> tuple[int, int]:
    """Return the sum of the tokens, and the time of the last reservation."""
    tokens = created_at_us = 0
    for new in group:
        tokens += new.tokens
        created_at_us = max(created_at_us, new.created_at_us)
    return tokens, created_at_us


def _reserve(connection: sqlite3.Connection, new: NewReservation) -> Balance | Tok0nError:
    if new.periods:
        return _reserve_in_periods(connection, new, new.periods)
    values = {
        "account_id": new.account_id,
        "token_class": new.token_class,
        "api_key_id": new.api_key_id,
        "key_version": new.key_version,
        "created_at_us": new.created_at_us,
        "tokens": new.tokens,
    }
    row = connection.execute(statements.RESERVE, values).fetchone()
    if row is None:
        return _rejection(connection, new)
    return Balance(posted=row[0], pending=row[1])


def _reserve_in_periods(
    connection: sqlite3.Connection, new: NewReservation, periods: tuple[BudgetPeriod, ...]
) -> Balance | Tok0nError:
    """Reserve for a key with budgets. This transaction is the only writer, so what it reads stays true."""
    lefts: list[tuple[int, str]] = []
    for period in periods:
        row = connection.execute(statements.LEFT_IN_PERIOD, (period.starts_at_us, period.budget_id)).fetchone()
        if row is not None:
            lefts.append((row[0], period.budget_id))
    if len(lefts) < len(periods):
        return KeyChanged()
    if min(lefts)[0] < new.tokens:
        return _rejection(connection, new, least=min(lefts))
    balance = _reserve(connection, msgspec.structs.replace(new, periods=()))
    if isinstance(balance, Balance):
        holds = [(period.budget_id, period.starts_at_us, period.ends_at_us, new.tokens) for period in periods]
        connection.executemany(statements.HOLD_IN_PERIOD, holds)
    return balance


def _rejection(
    connection: sqlite3.Connection, new: NewReservation, *, least: tuple[int, str] | None = None
) -> Tok0nError:
    """Return why nothing was reserved. `least` are the tokens left in a budget that doesn't suffice, and its id."""
    values = {"account_id": new.account_id, "token_class": new.token_class, "api_key_id": new.api_key_id}
    row = connection.execute(statements.REJECTION, values).fetchone()
    if row is None:
        return InvalidApiKey("This API key is no longer active.")
    version, expires_at_us, posted, pending = row
    if version != new.key_version:
        return KeyChanged()
    if expires_at_us is not None and expires_at_us <= new.created_at_us:
        return InvalidApiKey("This API key is no longer active.")
    if least is not None:
        return KeyBudgetSpent(left=least[0], required=new.tokens, budget_id=least[1])
    return InsufficientTokens(required=new.tokens, posted=posted, pending=pending, largest_output_tokens=0)


class _Settled(msgspec.Struct, gc=False):
    """A request that a group settles, with its charge."""

    settlement: Settlement
    wallet: WalletId
    reserved: int
    api_key_id: str
    model: str
    period_ids: tuple[PeriodId, ...]
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
            wallet = (new.account_id, new.token_class)
            period_ids = tuple((period.budget_id, period.starts_at_us) for period in new.periods) if new.periods else ()
            within_reservation.append(
                _Settled(settlement, wallet, new.tokens, new.api_key_id, new.model, period_ids, charged, 0)
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
                settled.wallet[0],
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
        account_id, token_class, reserved, charged, shortfall, api_key_id, model, periods = row
        period_ids = budget_periods.period_ids(periods)
        wallet = (account_id, token_class)
        settled = _Settled(settlement, wallet, reserved, api_key_id, model, period_ids, charged, shortfall)
        _charge(connection, [settled], results)


def _details(usage: Usage) -> str | None:
    return msgspec.json.encode(usage.details).decode() if usage.details else None


def _charge(connection: sqlite3.Connection, settled: list[_Settled], results: dict[str, Receipt | Tok0nError]) -> None:
    """Charge settled requests wallet by wallet, and write the ledger entries, the hourly use and the budgets."""
    hours: dict[tuple[str, int, str, str], list[int]] = {}
    wallets: dict[WalletId, list[_Settled]] = {}
    period_rows: list[statements.Row] = []
    for item in settled:
        settlement = item.settlement
        usage = settlement.usage
        hour = (item.wallet[0], settlement.resolved_at_us // US_AN_HOUR, item.api_key_id, item.model)
        sums = hours.get(hour)
        if sums is None:
            hours[hour] = [1, usage.prompt_tokens, usage.completion_tokens, item.charged]
        else:
            sums[0] += 1
            sums[1] += usage.prompt_tokens
            sums[2] += usage.completion_tokens
            sums[3] += item.charged
        wallets.setdefault(item.wallet, []).append(item)
        if item.period_ids:
            period_rows += [(item.charged, item.reserved, *period_id) for period_id in item.period_ids]
    statements.COUNT_HOURS.run(connection, [(*hour, *sums) for hour, sums in hours.items()])
    if period_rows:
        connection.executemany(statements.END_IN_PERIOD, period_rows)
    entries: list[statements.Row] = []
    wallet_sums = {wallet: _sums(group) for wallet, group in wallets.items()}
    wallet_rows: list[statements.Row] = [(*wallet, *sums, len(wallets[wallet])) for wallet, sums in wallet_sums.items()]
    for account_id, token_class, posted, pending, last in statements.CHARGE.fetch(connection, wallet_rows):
        wallet = (account_id, token_class)
        balance = Balance(posted=posted, pending=pending)
        posted_before = posted + wallet_sums[wallet][0]
        entries += _entries(wallets[wallet], posted_before, last, balance, results)
    statements.INSERT_USAGE.run(connection, entries)


def _entries(
    group: list[_Settled], posted_before: int, last: int, balance: Balance, results: dict[str, Receipt | Tok0nError]
) -> Iterator[statements.Row]:
    """Yield the rows of the usage entries of one wallet, and add the receipts.

    `posted_before` is the wallet's posted balance before the group, `balance` the balance after it. `last` is the
    number of the last entry.
    """
    posted = posted_before
    number = last - len(group)
    for item in group:
        posted -= item.charged
        number += 1
        settlement = item.settlement
        yield *item.wallet, number, -item.charged, posted, settlement.request_id, settlement.resolved_at_us
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
    _, reserved, charged, shortfall, posted, pending = row
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
        account_id, token_class, reserved, periods = row
        connection.execute(statements.UNRESERVE, (reserved, account_id, token_class))
        rows = [(0, reserved, *period_id) for period_id in budget_periods.period_ids(periods)]
        connection.executemany(statements.END_IN_PERIOD, rows)
        return None
    status = connection.execute(statements.STATUS, values).fetchone()
    if status is not None and status[0] == RequestStatus.SETTLED:
        return AlreadyResolved(request_id=release.request_id, status=status[0], event="release")
    return None
