"""Export everything that Tok0n stores about an account as a ZIP file, in bounded memory. It never has a secret.

Small things are JSON, and histories are CSV, newest first. The file is made while it is sent, page by page.
"""

import asyncio
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any

import msgspec

from tok0n.domain import table_text
from tok0n.domain.attempts import AttemptKind
from tok0n.domain.history import RequestFilter, UseBy, UseFilter
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, US_A_QUARTER
from tok0n.domain.users import Session
from tok0n.ports.accounts import History, Statements
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Attempts
from tok0n.ports.orders import Orders
from tok0n.ports.users import Passkeys, Sessions, Users
from tok0n.services.api_keys import ApiKeys
from tok0n.services.attempts import count_attempt
from tok0n.services.notice_preferences import NoticePreferences
from tok0n.services.notices import LowBalances
from tok0n.services.passwords import FormError

ROWS_AT_ONCE = 1_000
DAYS_AT_ONCE = 90
QUARTERS_PER_DAY = MICROSECONDS_PER_DAY // US_A_QUARTER
EXPORT_SECONDS_MAX = 3_600.0
"""After this time, an export whose client has disappeared no longer blocks another."""

_README = """This is everything that we store about the account {account_id}.

account.json has the account, its user, sessions, passkeys, balances, alerts and notices.
keys.json has the API keys. We don't store their secrets.
requests.csv has every request, statement.csv every change of a balance, activity.csv every change of a key.
usage-by-model.csv and usage-by-key.csv add up the charged tokens of each UTC day. orders.csv has every order.

Times are UTC. Amounts are tokens, or cents where the name says so. We don't store prompts or responses.
"""


class AccountExport:
    """Exports accounts, one export of an account at a time."""

    def __init__(
        self,
        *,
        history: History,
        statements: Statements,
        api_keys: ApiKeys,
        users: Users,
        sessions: Sessions,
        passkeys: Passkeys,
        orders: Orders,
        low_balances: LowBalances,
        preferences: NoticePreferences,
        attempts: Attempts,
        clock: Clock,
    ) -> None:
        self._history = history
        self._statements = statements
        self._api_keys = api_keys
        self._users = users
        self._sessions = sessions
        self._passkeys = passkeys
        self._orders = orders
        self._low_balances = low_balances
        self._preferences = preferences
        self._attempts = attempts
        self._clock = clock
        self._running: dict[str, float] = {}

    async def begin(self, session: Session) -> AsyncIterator[bytes]:
        """Return the pieces of the ZIP file. Raises `FormError` if an export runs, or after too many exports."""
        account_id, now = session.account_id, self._clock.monotonic()
        if self._running.get(account_id, now) > now:
            raise FormError("An export is already running. Wait until it has finished.", field="export")
        await count_attempt(self._attempts, self._clock, AttemptKind.EXPORT, account_id, field="export")
        self._running[account_id] = now + EXPORT_SECONDS_MAX
        return self._run(session)

    async def _run(self, session: Session) -> AsyncIterator[bytes]:
        try:
            sink = _Sink()
            archive = zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED)
            for name, pieces in self._files(session):
                with archive.open(name, "w", force_zip64=True) as file:
                    async for piece in pieces:
                        await asyncio.to_thread(file.write, piece)
                        if data := sink.take():
                            yield data
            archive.close()
            yield sink.take()
        finally:
            self._running.pop(session.account_id, None)

    def _files(self, session: Session) -> Iterable[tuple[str, AsyncIterator[bytes]]]:
        account_id = session.account_id

        def requests(*, before: Any, rows_max: int) -> Awaitable[Sequence[Any]]:
            return self._history.requests(account_id, RequestFilter(), before=before, rows_max=rows_max)

        def entries(*, before: Any, rows_max: int) -> Awaitable[Sequence[Any]]:
            return self._statements.entries(account_id, before=before, rows_max=rows_max)

        def activity(*, before: Any, rows_max: int) -> Awaitable[Sequence[Any]]:
            return self._history.activity(account_id, before=before, rows_max=rows_max)

        def orders(*, before: Any, rows_max: int) -> Awaitable[Sequence[Any]]:
            return self._orders.of(account_id, before=before, rows_max=rows_max)

        yield "README.txt", _once(_README.format(account_id=account_id).encode())
        yield "account.json", _json(self._account(session))
        yield "keys.json", _json(self._api_keys.of(account_id))
        yield "requests.csv", _csv(requests)
        yield "usage-by-model.csv", self._usage(account_id, UseBy.MODEL)
        yield "usage-by-key.csv", self._usage(account_id, UseBy.KEY)
        yield "statement.csv", _csv(entries)
        yield "activity.csv", _csv(activity)
        yield "orders.csv", _csv(orders)

    async def _usage(self, account_id: str, by: UseBy) -> AsyncIterator[bytes]:
        """Yield the tokens charged on each UTC day, by model or key, oldest first."""
        yield table_text.lines([("day", f"{by}_id", "charged")]).encode()
        first_us = await self._statements.first_entry_at_us(account_id)
        today = self._clock.now_us() // MICROSECONDS_PER_DAY
        for first in range(
            today + 1 if first_us is None else first_us // MICROSECONDS_PER_DAY, today + 1, DAYS_AT_ONCE
        ):
            starts = range(first * QUARTERS_PER_DAY, (first + DAYS_AT_ONCE) * QUARTERS_PER_DAY, QUARTERS_PER_DAY)
            filters = UseFilter(since_quarter=starts.start, until_quarter=starts.stop)
            rows = [
                (table_text.moment(use.quarter * US_A_QUARTER)[:10], use.series, use.charged)
                for use in await self._history.buckets(account_id, filters, by=by, starts=starts)
            ]
            if rows:
                yield table_text.lines(rows).encode()

    async def _account(self, session: Session) -> dict[str, Any]:
        """Return the account and its user without secrets: no password hash, no digest, no key of a second factor."""
        user, now_us = await self._users.get(session.user_id), self._clock.now_us()
        sessions = await self._sessions.of(user.id, now_us=now_us)
        return {
            "id": session.account_id,
            "email": user.email,
            "exported_at": table_text.moment(now_us),
            "is_suspended": session.is_suspended,
            "user": {
                "id": user.id,
                "time_zone": user.time_zone,
                "verified_at": table_text.moment(user.verified_at_us),
                "two_factor": user.totp_secret is not None,
            },
            "sessions": [_without(each, "digest") for each in sessions],
            "passkeys": [_without(each, "credential_id", "public_key") for each in await self._passkeys.of(user.id)],
            "balances": await self._history.wallets(session.account_id),
            "low_balance_alerts": await self._low_balances.alerts(session.account_id),
            "notices": sorted(await self._preferences.wanted(session.account_id)),
        }


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


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _json(value: Awaitable[Any]) -> AsyncIterator[bytes]:
    text = msgspec.json.encode(table_text.readable(await value))
    yield msgspec.json.format(text, indent=2)


async def _csv(fetch: Callable[..., Awaitable[Sequence[Any]]]) -> AsyncIterator[bytes]:
    """Yield the rows of a history with a line of column names. No rows make an empty file."""
    before: Any = None
    while rows := await fetch(before=before, rows_max=ROWS_AT_ONCE):
        yield await asyncio.to_thread(table_text.table, rows, with_head=before is None)
        before = rows[-1].id


def _without(row: msgspec.Struct, *names: str) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(row).items() if name not in names}
