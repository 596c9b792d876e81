"""The hot statements of the ledger, written for sqlite3 itself. Each decides in the database, never in Python."""

import sqlite3
from asyncio import Future

import msgspec

from tok0n.adapters.sql import ledger_functions
from tok0n.adapters.sql.sqlite import SqliteStore
from tok0n.domain.errors import AlreadyResolved, InsufficientTokens, InvalidApiKey, KeyBudgetSpent, Tok0nError
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
from tok0n.ports import RecentRequest

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
_INSERT_REQUEST = """
INSERT INTO request (id, account_id, api_key_id, model, status, reserved, charged, shortfall, dispatched,
                     created_at_us, expires_at_us)
VALUES (:request_id, :account_id, :api_key_id, :model, 'PENDING', :tokens, 0, 0, 1, :created_at_us, :expires_at_us)
"""
_WHY_NOT = """
SELECT account.posted, account.pending, budget - spent - api_key.pending
FROM account JOIN api_key ON api_key.account_id = account.id
WHERE account.id = :account_id AND account.status = 'open' AND api_key.id = :api_key_id AND revoked_at_us IS NULL
  AND (expires_at_us IS NULL OR expires_at_us > :created_at_us)
"""
_SETTLE = """
UPDATE request SET status = 'SETTLED',
    charged = MIN(:total, reserved + (SELECT posted - pending FROM account WHERE account.id = request.account_id)),
    shortfall = MAX(0,
        :total - reserved - (SELECT posted - pending FROM account WHERE account.id = request.account_id)),
    prompt_tokens = :prompt, completion_tokens = :completion, total_tokens = :total, details = :details,
    upstream_ms = :upstream_ms, resolved_at_us = :resolved_at_us
WHERE id = :request_id AND status = 'PENDING'
RETURNING account_id, reserved, charged, shortfall, api_key_id, model,
    (SELECT budget IS NOT NULL FROM api_key WHERE api_key.id = request.api_key_id)
"""
_CHARGE = """
UPDATE account SET posted = posted - :charged, pending = pending - :reserved WHERE id = :account_id
RETURNING posted, pending
"""
_INSERT_USAGE = """
INSERT INTO ledger_entry (account_id, kind, amount, posted_after, request_id, created_at_us)
VALUES (:account_id, 'usage', -:charged, :posted, :request_id, :created_at_us)
"""
_COUNT_HOUR = """
INSERT INTO usage_hour (account_id, hour, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)
VALUES (:account_id, :hour, :api_key_id, :model, 1, :prompt, :completion, :charged)
ON CONFLICT (account_id, hour, api_key_id, model) DO UPDATE SET requests = requests + 1,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens, charged = charged + excluded.charged
"""
_END_BUDGET = "UPDATE api_key SET spent = spent + :charged, pending = pending - :reserved WHERE id = :api_key_id"
_SETTLED_BEFORE = """
SELECT request.status, reserved, charged, shortfall, account.posted, account.pending, account.id
FROM request JOIN account ON account.id = request.account_id WHERE request.id = :request_id
"""
_RELEASE = """
UPDATE request SET status = 'RELEASED', code = :code, dispatched = :dispatched, resolved_at_us = :resolved_at_us
WHERE id = :request_id AND status = 'PENDING'
RETURNING account_id, reserved, api_key_id,
    (SELECT budget IS NOT NULL FROM api_key WHERE api_key.id = request.api_key_id)
"""
_UNRESERVE = "UPDATE account SET pending = pending - :reserved WHERE id = :account_id"
_STATUS = "SELECT status FROM request WHERE id = :request_id"


class SqliteLedger:
    """The `Ledger` port on SQLite."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    def reserve(self, reservation: NewReservation) -> Future[Balance]:
        """See `ports.Ledger.reserve`."""
        return self._store.submit(lambda connection: _reserve(connection, reservation))

    def settle(self, settlement: Settlement) -> Future[Receipt]:
        """See `ports.Ledger.settle`."""
        return self._store.submit(lambda connection: _settle(connection, settlement), must=True)

    def release(self, release: Release) -> Future[None]:
        """See `ports.Ledger.release`."""
        return self._store.submit(lambda connection: _release(connection, release), must=True)

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


def _reserve(connection: sqlite3.Connection, reservation: NewReservation) -> Balance | Tok0nError:
    """Refusals are returned, not raised: they must not undo the group commit they are part of."""
    values = msgspec.structs.asdict(reservation)
    row = connection.execute(_RESERVE, values).fetchone()
    if row is None:
        return _why_not(connection, values, required=reservation.tokens)
    if reservation.has_budget:
        connection.execute(_RESERVE_BUDGET, values)
    connection.execute(_INSERT_REQUEST, values)
    return Balance(posted=row[0], pending=row[1])


def _why_not(connection: sqlite3.Connection, values: dict[str, object], *, required: int) -> Tok0nError:
    row = connection.execute(_WHY_NOT, values).fetchone()
    if row is None:
        return InvalidApiKey("This API key is not active any more.")
    if row[2] is not None and row[2] < required:
        return KeyBudgetSpent(left=row[2], required=required)
    return InsufficientTokens(required=required, posted=row[0], pending=row[1], largest_output_tokens=0)


def _settle(connection: sqlite3.Connection, settlement: Settlement) -> Receipt | Tok0nError:
    usage = settlement.usage
    row = connection.execute(
        _SETTLE,
        {
            "request_id": settlement.request_id,
            "prompt": usage.prompt_tokens,
            "completion": usage.completion_tokens,
            "total": usage.total_tokens,
            "details": msgspec.json.encode(usage.details).decode() if usage.details else None,
            "upstream_ms": settlement.upstream_ms,
            "resolved_at_us": settlement.resolved_at_us,
        },
    ).fetchone()
    if row is None:
        return _settled_before(connection, settlement.request_id)
    account_id, reserved, charged, shortfall, api_key_id, model, has_budget = row
    if has_budget:
        connection.execute(_END_BUDGET, {"charged": charged, "reserved": reserved, "api_key_id": api_key_id})
    connection.execute(
        _COUNT_HOUR,
        {
            "account_id": account_id,
            "hour": settlement.resolved_at_us // US_AN_HOUR,
            "api_key_id": api_key_id,
            "model": model,
            "prompt": usage.prompt_tokens,
            "completion": usage.completion_tokens,
            "charged": charged,
        },
    )
    posted, pending = connection.execute(
        _CHARGE, {"charged": charged, "reserved": reserved, "account_id": account_id}
    ).fetchone()
    connection.execute(
        _INSERT_USAGE,
        {
            "account_id": account_id,
            "charged": charged,
            "posted": posted,
            "request_id": settlement.request_id,
            "created_at_us": settlement.resolved_at_us,
        },
    )
    return Receipt(
        request_id=settlement.request_id,
        reserved=reserved,
        charged=charged,
        shortfall=shortfall,
        balance=Balance(posted=posted, pending=pending),
    )


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


def _release(connection: sqlite3.Connection, release: Release) -> Tok0nError | None:
    values = {
        "request_id": release.request_id,
        "code": release.code,
        "dispatched": int(release.dispatched),
        "resolved_at_us": release.resolved_at_us,
    }
    row = connection.execute(_RELEASE, values).fetchone()
    if row is not None:
        account_id, reserved, api_key_id, has_budget = row
        connection.execute(_UNRESERVE, {"account_id": account_id, "reserved": reserved})
        if has_budget:
            connection.execute(_END_BUDGET, {"charged": 0, "reserved": reserved, "api_key_id": api_key_id})
        return None
    status = connection.execute(_STATUS, values).fetchone()
    if status is not None and status[0] == RequestStatus.SETTLED:
        return AlreadyResolved(request_id=release.request_id, status=status[0], wanted="release")
    return None
