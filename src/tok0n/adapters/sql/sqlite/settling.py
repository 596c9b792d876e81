"""Ends of reservations on SQLite: the commands of one group commit that settle or release them."""

import sqlite3
from collections.abc import Iterator

import msgspec

from tok0n.adapters.sql import budget_periods
from tok0n.adapters.sql.sqlite import statements
from tok0n.domain.errors import AccountingFailed, AlreadyResolved, Tok0nError
from tok0n.domain.ledger import MICROSECONDS_PER_QUARTER_HOUR, Balance, Receipt, Release, RequestStatus, Settlement
from tok0n.domain.ledger_rules import PeriodId
from tok0n.domain.usage import Usage


class _Settled(msgspec.Struct, gc=False):
    """A request that a group commit settles, with its charge."""

    settlement: Settlement
    wallet: statements.WalletId
    reserved: int
    api_key_id: str
    model: str
    period_ids: tuple[PeriodId, ...]
    charged: int
    shortfall: int


def settle_all(connection: sqlite3.Connection, settlements: list[Settlement]) -> list[Receipt | Tok0nError]:
    """Settle for one group commit. Requests that used at most their reservation share statements.

    If only some of these are still pending, the commit is rolled back and each command runs again alone. A savepoint
    would roll back less, but would cost every commit two statements and copies of the changed pages.
    """
    results: dict[str, Receipt | Tok0nError] = {}
    within_reservation: list[_Settled] = []
    over_reservation: list[Settlement] = []
    for settlement in settlements:
        if settlement.first_event_ms is not None or settlement.client_left:
            stream_end = (settlement.first_event_ms, settlement.client_left, settlement.request_id)
            connection.execute(statements.RECORD_STREAM_END, stream_end)
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
        settled_count = _settle_as_reserved(connection, within_reservation)
        if settled_count == len(within_reservation):
            _charge(connection, within_reservation, results)
        elif settled_count:
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
    """Charge settled requests wallet by wallet, and write the ledger entries, the use and the budgets."""
    quarters: dict[tuple[str, int, str, str], list[int]] = {}
    wallets: dict[statements.WalletId, list[_Settled]] = {}
    period_rows: list[statements.Row] = []
    for item in settled:
        settlement = item.settlement
        usage = settlement.usage
        quarter = (
            item.wallet[0],
            settlement.resolved_at_us // MICROSECONDS_PER_QUARTER_HOUR,
            item.api_key_id,
            item.model,
        )
        sums = quarters.get(quarter)
        if sums is None:
            quarters[quarter] = [1, usage.prompt_tokens, usage.completion_tokens, item.charged]
        else:
            sums[0] += 1
            sums[1] += usage.prompt_tokens
            sums[2] += usage.completion_tokens
            sums[3] += item.charged
        wallets.setdefault(item.wallet, []).append(item)
        if item.period_ids:
            period_rows += [(item.charged, item.reserved, *period_id) for period_id in item.period_ids]
    statements.COUNT_QUARTERS.run(connection, [(*quarter, *sums) for quarter, sums in quarters.items()])
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
    account_id, token_class = group[0].wallet
    posted = posted_before
    number = last - len(group)
    for item in group:
        posted -= item.charged
        number += 1
        settlement = item.settlement
        yield account_id, token_class, number, -item.charged, posted, settlement.request_id, settlement.resolved_at_us
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


def release_all(connection: sqlite3.Connection, releases: list[Release]) -> list[Tok0nError | None]:
    """Release a group, one by one. Returns the error of each, or None."""
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
