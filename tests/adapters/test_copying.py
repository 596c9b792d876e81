"""The way out of the embedded default: everything arrives, and nothing half."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from support import postgres
from support.ledgers import NOW_US, Opened, new, open_engine, schema
from tok0n.adapters.sql.copying import copy
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.errors import OperatorError
from tok0n.domain.ledger import Release, Settlement
from tok0n.domain.usage import Usage

pytestmark = pytest.mark.anyio


@pytest.fixture
async def target() -> AsyncIterator[PostgresStore]:
    async with postgres.database(f"t{secrets.token_hex(8)}") as url:
        store = PostgresStore(PostgresOptions(url=url))
        yield store
        await store.aclose()


_INSERT_CHANGE = (
    "INSERT INTO activity (account_id, action, actor, created_at_us)"
    " SELECT id, 'key.revoke', 'operator', 1 FROM account"
)
_INSERT_ENTRY = (
    "INSERT INTO ledger_entry (account_id, number, kind, amount, posted_after, created_at_us)"
    " SELECT account_id, entries + 1, 'grant', 1, posted + 1, 1 FROM wallet"
)


async def fill(db: Opened, *, requests: int) -> None:
    account, key = await db.key("a@x", tokens=10**9)
    for n in range(requests):
        reserved = db.ledger.reserve(new(f"r{n:05}", account.id, key.id, 1000, expires_in_us=0))
        if not db.ledger.has_room():
            await reserved
    usage = Usage(prompt_tokens=7, completion_tokens=0, total_tokens=7, details={"ü": 1})
    ends = [
        db.ledger.settle(Settlement(request_id=f"r{n:05}", usage=usage, resolved_at_us=NOW_US, upstream_ms=1))
        for n in range(1, requests)
    ]
    await asyncio.gather(*ends)
    await db.ledger.release(Release(request_id="r00000", code="upstream_error", dispatched=False, resolved_at_us=1))
    await db.accounts.revoke_key(account_id=key.account_id, key_id=key.id, now_us=NOW_US)
    await db.models.set_enabled(model="demo", enabled=False)
    await execute(db.store, sa.text(_INSERT_CHANGE))


async def execute(store: SqlStore, statement: sa.TextClause) -> None:
    await store.write(lambda tx: tx.execute(statement) and None)


async def rows_of(store: SqlStore, table: sa.Table) -> list[dict[str, Any]]:
    query = table.select().order_by(*table.primary_key.columns)
    return await store.read(lambda tx: [dict(row) for row in tx.execute(query).mappings()])


async def test_every_row_arrives_and_the_ledger_goes_on_where_it_was(tmp_path: Path, target: PostgresStore) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        await fill(db, requests=6_000)
        assert isinstance(db.store, SqliteStore)
        copied = await copy(db.store, target)
        for table in schema.metadata.sorted_tables:
            rows = await rows_of(db.store, table)
            assert await rows_of(target, table) == rows
    assert copied.rows["request"] == 6_000
    assert copied.source == copied.target
    for table, insert in ((schema.ledger_entry, _INSERT_ENTRY), (schema.activity, _INSERT_CHANGE)):
        before = [row["id"] for row in await rows_of(target, table)]
        await execute(target, sa.text(insert))
        assert [row["id"] for row in await rows_of(target, table)] == [*before, before[-1] + 1]


async def test_a_database_in_use_is_not_copied_to(tmp_path: Path, target: PostgresStore) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        await fill(db, requests=2)
        assert isinstance(db.store, SqliteStore)
        await copy(db.store, target)
        with pytest.raises(OperatorError, match="already has 1 rows in the table account"):
            await copy(db.store, target)


async def test_what_changes_while_it_is_copied_undoes_the_copy(
    tmp_path: Path, target: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        await fill(db, requests=2)
        assert isinstance(db.store, SqliteStore)
        store = db.store
        read = store.read
        reads = 0

        async def read_and_change(fn: Callable[[sa.Connection], Any], **more: bool) -> Any:
            nonlocal reads
            reads += 1
            if reads == 8:
                await db.accounts.grant(email="a@x", tokens=5, reason="meanwhile", now_us=NOW_US)
            return await read(fn, **more)

        monkeypatch.setattr(store, "read", read_and_change)
        with pytest.raises(OperatorError, match="changed during the copy"):
            await copy(store, target)
    assert await target.read(lambda tx: tx.scalar(sa.select(sa.func.count()).select_from(schema.account))) == 0


async def test_a_source_with_differences_is_not_copied(tmp_path: Path, target: PostgresStore) -> None:
    async with open_engine("sqlite", tmp_path) as db:
        await fill(db, requests=2)
        assert isinstance(db.store, SqliteStore)
        await db.store.write(lambda tx: tx.execute(sa.text("UPDATE wallet SET posted = posted + 1")) and None)
        with pytest.raises(OperatorError, match="audit of the source"):
            await copy(db.store, target)
