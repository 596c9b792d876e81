"""Every ledger that the contract suites run against, and a way to read one whole."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from support import postgres, sqlite
from support.leases import leased_ledger
from tok0n.adapters.sql import schema
from tok0n.adapters.sql.postgres.callers import PostgresCallers
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.adapters.sql.repositories.models import SqlModels
from tok0n.adapters.sql.sqlite.callers import SqliteCallers
from tok0n.adapters.sql.sqlite.ledger import SqliteLedger
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.accounts import Account, ApiKey, KeyLimits
from tok0n.domain.ledger import Balance, NewReservation, Release, Settlement
from tok0n.domain.usage import Usage
from tok0n.ports.accounts import Accounts
from tok0n.ports.callers import Callers
from tok0n.ports.catalogue import Models
from tok0n.ports.ledger import Ledger

ENGINES = ["sqlite", "postgres"]
NOW_US = 1_800_000_000_000_000
NO_LIMITS = KeyLimits()


class Opened(msgspec.Struct, kw_only=True):
    store: SqlStore
    ledger: Ledger
    accounts: Accounts
    callers: Callers
    models: Models

    async def rows(self, table: sa.Table) -> list[dict[str, Any]]:
        return await self.store.read(lambda tx: [dict(row) for row in tx.execute(sa.select(table)).mappings()])

    async def open_connections(self) -> None:
        """Open every connection of the pool: one that is ready long before the others has no race with them."""
        await asyncio.gather(*(outcome(self.accounts.get("nobody@x")) for _ in range(20)))

    async def key(self, email: str, *, tokens: int, limits: KeyLimits = NO_LIMITS) -> tuple[Account, ApiKey]:
        account = await self.accounts.create(email=email, tokens=tokens, now_us=NOW_US)
        key = await self.accounts.create_key(
            account_id=account.id,
            name="test",
            digest=email.encode(),
            prefix="tk0n_",
            last_four="0000",
            now_us=NOW_US,
            limits=limits,
        )
        return account, key


@contextlib.asynccontextmanager
async def open_engine(engine: str, folder: Path) -> AsyncIterator[Opened]:
    """Open the database of a folder, which is one of `ENGINES`. The same folder has the same database."""
    match engine:
        case "sqlite":
            opening = _open_sqlite(folder)
        case "postgres":
            opening = _open_postgres(folder)
        case _:
            raise ValueError(f"unknown engine {engine!r}: use one of {ENGINES}")
    async with opening as opened:
        yield opened


@contextlib.asynccontextmanager
async def _open_sqlite(folder: Path) -> AsyncIterator[Opened]:
    await sqlite.make_database(folder / "ledger.db")
    store = SqliteStore(folder / "ledger.db", serving=True)
    callers = SqliteCallers(store)
    try:
        yield _opened(store, SqliteLedger(store), callers)
    finally:
        await callers.aclose()
        await store.aclose()


@contextlib.asynccontextmanager
async def _open_postgres(folder: Path) -> AsyncIterator[Opened]:
    url_file = folder / "postgres.url"
    if not url_file.exists():
        cluster = await asyncio.to_thread(postgres.shared_cluster)
        url_file.write_text(await postgres.make_database(cluster, f"t{secrets.token_hex(8)}"))
    # A burst waits for the pool longer on a busy machine.
    store = PostgresStore(PostgresOptions(url=url_file.read_text(), connect_timeout_seconds=60))
    ledger = await leased_ledger(store)
    callers = PostgresCallers(store)
    try:
        yield _opened(store, ledger, callers)
    finally:
        await callers.aclose()
        await ledger.aclose()
        await store.aclose()


def _opened(store: SqlStore, ledger: Ledger, callers: Callers) -> Opened:
    return Opened(store=store, ledger=ledger, accounts=SqlAccounts(store), callers=callers, models=SqlModels(store))


def new(request_id: str, account_id: str, key_id: str, tokens: int, *, expires_in_us: int = 10**6) -> NewReservation:
    """A reservation like any other."""
    return NewReservation(
        request_id=request_id,
        account_id=account_id,
        api_key_id=key_id,
        model="demo",
        tokens=tokens,
        created_at_us=NOW_US,
        expires_at_us=NOW_US + expires_in_us,
    )


def used(request_id: str, total: int) -> Settlement:
    """A settlement of so many tokens."""
    usage = Usage(prompt_tokens=total, completion_tokens=0, total_tokens=total, details={"a.b_tokens": 1})
    return Settlement(request_id=request_id, usage=usage, resolved_at_us=NOW_US + 5, upstream_ms=7)


def released(request_id: str) -> Release:
    """A release after a failure of the upstream."""
    return Release(request_id=request_id, code="upstream_error", dispatched=True, resolved_at_us=NOW_US + 5)


async def balance(db: Opened, email: str = "a@x") -> Balance:
    """What the account of `email` owns and has reserved."""
    return (await db.accounts.get(email)).balance


async def outcome(future: Awaitable[Any]) -> Any:
    """The result of a future, or the error it has."""
    try:
        return await future
    except Exception as error:  # noqa: BLE001
        return error


__all__ = ["ENGINES", "NOW_US", "Opened", "balance", "new", "open_engine", "outcome", "released", "schema", "used"]
