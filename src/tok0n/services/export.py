"""Export everything that Tok0n stores about an account as a ZIP file, in bounded memory. It never has a secret.

Small things are JSON, and histories are CSV, newest first. The file is made while it is sent, page by page. Only one
page is read and compressed at a time, whatever the number of exports, so exports leave most of the machine to others.
"""

import asyncio
import zipfile
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import Any

import msgspec

from tok0n.domain import table_text
from tok0n.domain.attempts import AttemptKind
from tok0n.domain.history import RequestFilter, UseBy
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.rejections import RejectedRequest
from tok0n.domain.users import Session
from tok0n.ports.accounts import History, Statements
from tok0n.ports.clock import Clock
from tok0n.ports.documents import Billing, Documents
from tok0n.ports.exported import ExportedRows
from tok0n.ports.forms import Attempts
from tok0n.ports.orders import Orders
from tok0n.ports.users import Passkeys, Sessions, Users
from tok0n.services.api_keys import ApiKeys
from tok0n.services.attempts import count_attempt
from tok0n.services.notice_preferences import NoticePreferences
from tok0n.services.notices import LowBalances
from tok0n.services.passwords import FormError

ROWS_AT_ONCE = 500
DAYS_AT_ONCE = 90
EXPORT_SECONDS_MAX = 3_600.0
"""After this time, an export whose client has disappeared no longer blocks another."""

_README = """This is everything that we store about the account {account_id}.

account.json has the account, its user, sessions, passkeys, balances, billing details, alerts and notices.
keys.json has the API keys with their limits. We don't store their secrets. budget-periods.csv has the use of their
budgets.
requests.csv has every request, statement.csv every change of a balance, activity.csv every change of a key.
rejected-requests.csv has the requests that were rejected lately, rejected-counts.csv how many there were.
usage-by-model.csv and usage-by-key.csv add up the charged requests of each UTC day.
orders.csv has every order, documents.json every invoice, receipt and credit note.

Times are UTC. Amounts are tokens, or cents where the name says so. We don't store prompts or responses.
"""

Pieces = AsyncIterator[bytes]
Fetch = Callable[..., Awaitable[Sequence[Any]]]
"""Returns the newest `rows_max` rows `before` another one: the id of that row, or the row itself if it has no id."""


class ExportPorts(msgspec.Struct, frozen=True, kw_only=True):
    """What an export reads."""

    history: History
    statements: Statements
    rows: ExportedRows
    api_keys: ApiKeys
    users: Users
    sessions: Sessions
    passkeys: Passkeys
    orders: Orders
    documents: Documents
    billing: Billing
    low_balances: LowBalances
    preferences: NoticePreferences


class AccountExport:
    """Exports accounts, one export of an account at a time."""

    def __init__(self, ports: ExportPorts, attempts: Attempts, clock: Clock) -> None:
        self._ports = ports
        self._attempts = attempts
        self._clock = clock
        self._running: dict[str, float] = {}
        self._next_piece = asyncio.Lock()

    async def begin(self, session: Session) -> "RunningExport":
        """Return the pieces of the ZIP file, which the caller must close.

        Raises `FormError` if an export of the account runs, or after too many exports.
        """
        account_id, now = session.account_id, self._clock.monotonic()
        if self._running.get(account_id, now) > now:
            raise FormError("An export is already running. Wait until it has finished.", field="export")
        await count_attempt(self._attempts, self._clock, AttemptKind.EXPORT, account_id, field="export")
        self._running[account_id] = now + EXPORT_SECONDS_MAX
        return RunningExport(self._run(session), lambda: self._running.pop(account_id, None))

    async def _run(self, session: Session) -> AsyncGenerator[bytes]:
        sink = _Sink()
        archive = zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED)
        for name, pieces in self._files(session):
            with archive.open(name, "w", force_zip64=True) as file:
                while await self._write_next(pieces, file.write):
                    if data := sink.take():
                        yield data
        archive.close()
        yield sink.take()

    async def _write_next(self, pieces: Pieces, write: Callable[[bytes], Any]) -> bool:
        """Read and compress the next piece. One export at a time does this. Returns whether there was a piece."""
        async with self._next_piece:
            piece = await anext(pieces, None)
            if piece is not None:
                await asyncio.to_thread(write, piece)
            return piece is not None

    def _files(self, session: Session) -> Iterable[tuple[str, Pieces]]:
        account_id, ports = session.account_id, self._ports
        orders = partial(ports.orders.list_for_account, account_id)
        yield "README.txt", _once(_README.format(account_id=account_id).encode())
        yield "account.json", _json(self._account(session))
        yield "keys.json", _json(ports.api_keys.list_for_account(account_id))
        yield "budget-periods.csv", self._budget_periods(account_id)
        yield "requests.csv", _csv(partial(ports.history.requests, account_id, RequestFilter()))
        yield (
            "rejected-requests.csv",
            _csv(partial(ports.history.rejected_requests, account_id, RequestFilter()), row_of=_rejected),
        )
        yield "rejected-counts.csv", _csv(partial(ports.rows.rejected_counts, account_id))
        yield "usage-by-model.csv", self._usage(account_id, UseBy.MODEL)
        yield "usage-by-key.csv", self._usage(account_id, UseBy.KEY)
        yield "statement.csv", _csv(partial(ports.statements.entries, account_id))
        yield "activity.csv", _csv(partial(ports.history.activity, account_id))
        yield "orders.csv", _csv(orders)
        yield "documents.json", self._documents(account_id, orders)

    async def _budget_periods(self, account_id: str) -> Pieces:
        """Yield the periods of each budget, newest first."""
        is_first = True
        for key in await self._ports.api_keys.list_for_account(account_id):
            for budget in key.limits.budgets:
                periods = partial(self._ports.rows.budget_periods, account_id, budget_id=budget.id)
                async for piece in _csv(periods, has_head=is_first):
                    is_first = False
                    yield piece

    async def _usage(self, account_id: str, by: UseBy) -> Pieces:
        """Yield the charged requests of each UTC day and their tokens, by model or key, oldest first."""
        names = ("requests", "prompt_tokens", "completion_tokens", "charged")
        yield table_text.lines([("day", f"{by}_id", *names)]).encode()
        first_us = await self._ports.statements.first_entry_at_us(account_id)
        end = self._clock.now_us() // MICROSECONDS_PER_DAY + 1
        for first in range(end if first_us is None else first_us // MICROSECONDS_PER_DAY, end, DAYS_AT_ONCE):
            days = await self._ports.history.daily_use(
                account_id, by=by, first_day=first, until_day=min(first + DAYS_AT_ONCE, end)
            )
            rows = [
                (
                    table_text.utc_time(use.day * MICROSECONDS_PER_DAY)[:10],
                    use.series,
                    *(getattr(use.totals, name) for name in names),
                )
                for use in days
            ]
            if rows:
                yield (await asyncio.to_thread(table_text.lines, rows)).encode()

    async def _documents(self, account_id: str, orders: Fetch) -> Pieces:
        """Yield a JSON array of all documents, those of the newest orders first."""
        separator = b"[\n"
        async for rows in _batches(orders):
            order_ids = [order.id for order in rows]
            documents = await self._ports.documents.list_for_orders(account_id=account_id, order_ids=order_ids)
            if documents:
                yield separator + await asyncio.to_thread(_json_lines, documents)
                separator = b",\n"
        yield b"[]\n" if separator == b"[\n" else b"\n]\n"

    async def _account(self, session: Session) -> dict[str, Any]:
        """Return the account and its user without secrets: no password hash, no digest, no TOTP secret."""
        ports, account_id, now_us = self._ports, session.account_id, self._clock.now_us()
        user = await ports.users.get(session.user_id)
        facts = await ports.rows.facts(account_id=account_id, user_id=user.id)
        sessions = await ports.sessions.list_for_user(user.id, now_us=now_us)
        return {
            "id": account_id,
            "email": user.email,
            "exported_at": table_text.utc_time(now_us),
            "created_at": table_text.utc_time(facts.created_at_us),
            "status": facts.status,
            "user": {
                "id": user.id,
                "created_at": table_text.utc_time(facts.user_created_at_us),
                "verified_at": table_text.utc_time(user.verified_at_us),
                "time_zone": user.time_zone,
                "is_operator": user.is_operator,
                "two_factor": user.totp_secret is not None,
                "recovery_codes_left": await ports.users.recovery_codes_left(user.id),
                "dismissed_hints": sorted(await ports.users.dismissed_hints(user.id)),
            },
            "sessions": [_without(each, "digest") for each in sessions],
            "known_devices": [{"seen_at_us": seen_at_us} for seen_at_us in facts.known_devices],
            "passkeys": [
                _without(each, "credential_id", "public_key") for each in await ports.passkeys.list_for_user(user.id)
            ],
            "balances": await ports.history.wallets(account_id),
            "refunded_after_use": await ports.orders.debts(account_id),
            "billing_details": await ports.billing.details(account_id),
            "low_balance_alerts": await ports.low_balances.alerts(account_id),
            "notices": sorted(await ports.preferences.enabled_kinds(account_id)),
        }


class RunningExport:
    """The pieces of a ZIP file. `aclose` ends the export, even one whose client left before the first piece."""

    def __init__(self, pieces: AsyncGenerator[bytes], end: Callable[[], object]) -> None:
        self._pieces = pieces
        self._end = end

    def __aiter__(self) -> "RunningExport":
        return self

    async def __anext__(self) -> bytes:
        return await anext(self._pieces)

    async def aclose(self) -> None:
        """End the export."""
        self._end()
        await self._pieces.aclose()


class _Sink:
    """Collects what `ZipFile` writes. It can't seek, so each file's size follows its content."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: `take` returns everything."""

    def close(self) -> None:
        """Do nothing, for the same reason."""

    def take(self) -> bytes:
        """Return what was written since the last call."""
        data, self._pieces = b"".join(self._pieces), []
        return data


async def _once(data: bytes) -> Pieces:
    yield data


async def _json(value: Awaitable[Any]) -> Pieces:
    yield await asyncio.to_thread(_json_text, await value)


def _json_text(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(table_text.readable(value)), indent=2)


def _json_lines(values: Iterable[Any]) -> bytes:
    return b",\n".join(msgspec.json.encode(table_text.readable(value)) for value in values)


async def _csv(
    fetch: Fetch,
    *,
    row_of: Callable[[Any], Any] | None = None,
    has_head: bool = True,
) -> Pieces:
    """Yield the rows of a history with a line of column names. No rows make an empty file.

    `row_of` returns what to write of a row.
    """
    async for rows in _batches(fetch):
        written = rows if row_of is None else [row_of(row) for row in rows]
        yield await asyncio.to_thread(table_text.table, written, with_head=has_head)
        has_head = False


async def _batches(fetch: Fetch) -> AsyncIterator[Sequence[Any]]:
    """Yield all rows, newest first, in lists of at most `ROWS_AT_ONCE`."""
    before: Any = None
    while rows := await fetch(before=before, rows_max=ROWS_AT_ONCE):
        yield rows
        before = getattr(rows[-1], "id", rows[-1])


def _rejected(row: RejectedRequest) -> dict[str, Any]:
    """Return a rejected request with the message that the client got."""
    return _without(row, "template", "arguments") | {"message": row.message}


def _without(row: msgspec.Struct, *names: str) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(row).items() if name not in names}
