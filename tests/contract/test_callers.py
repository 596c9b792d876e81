"""Lookups of API keys on both engines: what they find, what they report as changed, and how they store the last use."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa

from support.api_keys import create_key, edit_key, keys_of
from support.fakes import FakeClock
from support.ledgers import ENGINES, NOW_US, Opened, open_engine, schema
from tok0n.adapters.sql.sqlite.callers import SqliteCallers
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.domain import api_key
from tok0n.domain.accounts import ApiKey, Caller, KeyLimits
from tok0n.domain.budgets import KeyBudget, ResetPeriod
from tok0n.domain.errors import AccountingFailed, InvalidApiKey
from tok0n.ports.callers import Callers
from tok0n.services.caller_cache import CallerCache

pytestmark = pytest.mark.anyio

LIMITS = KeyLimits(
    expires_at_us=NOW_US + 10,
    budgets=(
        KeyBudget(id="bud_1", tokens=5),
        KeyBudget(id="bud_2", tokens=3, period=ResetPeriod.DAY, token_class="premium", time_zone="Europe/Berlin"),
    ),
    models=("demo",),
    endpoints=("chat", "embeddings"),
    networks=("10.0.0.0/8", "::1/128"),
    requests_per_minute=7,
)


async def execute(db: Opened, statement: Any) -> None:
    await db.store.write(lambda tx: tx.execute(statement) and None)


def change_key(key: ApiKey, **values: object) -> Any:
    columns = schema.api_key.c
    return sa.update(schema.api_key).where(columns.id == key.id).values(**values, version=columns.version + 1)


def revoke(key: ApiKey) -> Any:
    return change_key(key, revoked_at_us=NOW_US)


async def test_lookups_at_once_each_get_their_own_caller(db: Opened) -> None:
    keys = [(await db.key(f"{number}@x", tokens=1))[1] for number in range(20)]
    wanted = [*range(20), *range(20), 99]
    found = await asyncio.gather(*(db.callers.find(f"{number}@x".encode(), now_us=NOW_US) for number in wanted))
    assert [caller and caller.api_key_id for caller in found] == [key.id for key in keys * 2] + [None]


async def test_a_caller_has_the_limits_of_its_key(db: Opened) -> None:
    await db.key("a@x", tokens=1)
    key, secret = await create_key(db.accounts, "a@x", limits=LIMITS)
    assert key.limits == LIMITS
    found = await db.callers.find(api_key.digest(secret), now_us=NOW_US)
    assert found == key.caller
    assert found == Caller(
        api_key_id=key.id,
        account_id=key.account_id,
        budgets=LIMITS.budgets,
        models=("demo",),
        endpoints=("chat", "embeddings"),
        networks=("10.0.0.0/8", "::1/128"),
        requests_per_minute=7,
        expires_at_us=NOW_US + 10,
    )


async def test_a_suspended_account_and_a_disabled_key_have_a_caller_that_says_so(db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1)
    await execute(db, change_key(key, disabled_at_us=NOW_US))
    await execute(db, sa.update(schema.account).where(schema.account.c.id == account.id).values(status="suspended"))
    caller = await db.callers.find(b"a@x", now_us=NOW_US)
    assert caller is not None
    assert (caller.is_disabled, caller.is_suspended, caller.key_version) == (True, True, 3)


async def test_a_secret_that_has_ended_finds_nobody(db: Opened) -> None:
    _, key = await db.key("a@x", tokens=1)
    secret = schema.key_secret
    values = {"api_key_id": key.id, "prefix": "tk0n_", "last_four": "1111", "created_at_us": NOW_US + 1}
    await execute(db, sa.insert(secret).values(digest=b"second", **values))
    await execute(db, sa.update(secret).where(secret.c.digest == b"a@x").values(ends_at_us=NOW_US + 5))
    first, second = [await db.callers.find(digest, now_us=NOW_US + 4) for digest in (b"a@x", b"second")]
    assert first is not None
    assert second is not None
    assert (first.api_key_id, first.expires_at_us) == (second.api_key_id, NOW_US + 5)
    assert await db.callers.find(b"a@x", now_us=NOW_US + 5) is None
    assert await db.callers.find(b"second", now_us=NOW_US + 5) == second


@pytest.mark.parametrize(
    "values",
    [
        {"revoked_at_us": 1},
        {"disabled_at_us": 1},
        {"expires_at_us": 1},
        {"models": "[]"},
        {"endpoints": "[]"},
        {"networks": "[]"},
        {"requests_per_minute": 1},
    ],
    ids=lambda values: next(iter(values)),
)
async def test_the_database_rejects_a_change_of_a_key_without_a_new_version(db: Opened, values: dict[str, Any]) -> None:
    _, key = await db.key("a@x", tokens=1)
    with pytest.raises(AccountingFailed):
        await execute(db, sa.update(schema.api_key).where(schema.api_key.c.id == key.id).values(**values))
    await execute(db, change_key(key, **values))


CHANGES: dict[str, Callable[[ApiKey], Any]] = {
    "revoked": revoke,
    "changed": lambda key: change_key(key, expires_at_us=1),
    "account closed": lambda key: (
        sa.update(schema.account).where(schema.account.c.id == key.account_id).values(status="closed")
    ),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_every_change_that_matters_is_reported_once(db: Opened, change: str) -> None:
    _, other = await db.key("b@x", tokens=1)
    _, key = await db.key("a@x", tokens=1)
    start = await db.callers.changes(after=None)
    assert start.api_key_ids == frozenset()
    await execute(db, CHANGES[change](key))
    changes = await db.callers.changes(after=start.number)
    assert changes.api_key_ids == frozenset({key.id})
    assert (await db.callers.changes(after=changes.number)).api_key_ids == frozenset()
    await execute(db, revoke(other))
    assert (await db.callers.changes(after=start.number)).api_key_ids == frozenset({key.id, other.id})


async def test_a_request_is_no_change(db: Opened) -> None:
    _, key = await db.key("a@x", tokens=1)
    start = await db.callers.changes(after=None)
    await db.accounts.grant(email="a@x", tokens=5, reason="x", now_us=NOW_US)
    await edit_key(db.accounts, key, name="new", note="mine")
    await db.callers.mark_used({key.id: NOW_US})
    assert await db.callers.changes(after=start.number) == start


async def test_changes_of_many_keys_are_numbered_without_gaps(db: Opened) -> None:
    account, _ = await db.key("a@x", tokens=1)
    keys = [(await create_key(db.accounts, "a@x", name=str(number)))[0] for number in range(10)]
    start = await db.callers.changes(after=None)
    await asyncio.gather(*(execute(db, revoke(key)) for key in keys))
    changes = await db.callers.changes(after=start.number)
    assert changes.api_key_ids == frozenset(key.id for key in keys)
    assert changes.number == start.number + 10
    await execute(db, sa.update(schema.account).where(schema.account.c.id == account.id).values(status="closed"))
    after = await db.callers.changes(after=changes.number)
    assert after.api_key_ids == frozenset(key.id for key in await keys_of(db.accounts, "a@x"))


async def test_a_reader_that_is_too_far_behind_is_told_so(db: Opened) -> None:
    _, key = await db.key("a@x", tokens=1)
    start = await db.callers.changes(after=None)
    for _ in range(3):
        await execute(db, revoke(key))
    await execute(db, sa.delete(schema.key_change).where(schema.key_change.c.number == start.number + 1))
    changes = await db.callers.changes(after=start.number)
    assert changes.api_key_ids is None
    assert changes.number == start.number + 3


async def test_the_list_of_changes_is_bounded(db: Opened) -> None:
    _, key = await db.key("a@x", tokens=1)
    await execute(db, sa.insert(schema.key_change).values(number=20_000, api_key_id=key.id))
    await execute(db, sa.insert(schema.key_change).values(number=5_000, api_key_id=key.id))
    await execute(db, revoke(key))
    assert [row["number"] for row in await db.rows(schema.key_change)] == [20_000, 20_001]


async def test_when_a_key_was_last_used_only_grows(db: Opened) -> None:
    _, key = await db.key("a@x", tokens=1)
    for at_us in (NOW_US, NOW_US + 5, NOW_US + 2):
        assert await db.callers.mark_used({key.id: at_us, "key_unknown": at_us}) == frozenset()
    assert [one.last_used_at_us for one in await keys_of(db.accounts, "a@x")] == [NOW_US + 5]


async def test_many_keys_are_marked_at_once(db: Opened) -> None:
    keys = [(await db.key(f"{number}@x", tokens=1))[1] for number in range(30)]
    await db.callers.mark_used({key.id: NOW_US + number for number, key in enumerate(keys)})
    rows = {row["id"]: row["last_used_at_us"] for row in await db.rows(schema.api_key)}
    assert rows == {key.id: NOW_US + number for number, key in enumerate(keys)}


@pytest.mark.parametrize("engine", ["postgres"])
async def test_a_locked_key_is_reported_instead_of_waited_for(engine: str, tmp_path: Path) -> None:
    async with open_engine(engine, tmp_path) as db:
        _, locked = await db.key("a@x", tokens=1)
        _, free = await db.key("b@x", tokens=1)
        connection = await asyncpg.connect((tmp_path / "postgres.url").read_text())
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM api_key WHERE id = $1 FOR UPDATE", locked.id)
            assert await db.callers.mark_used({locked.id: NOW_US, free.id: NOW_US}) == {locked.id}
        await connection.close()
        rows = {row["id"]: row["last_used_at_us"] for row in await db.rows(schema.api_key)}
        assert rows == {locked.id: None, free.id: NOW_US}


@pytest.fixture(params=ENGINES)
async def processes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[Opened, Callers]]:
    """One database, opened by two processes. SQLite has one server, and the command line beside it."""
    async with open_engine(request.param, tmp_path) as first:
        if request.param == "sqlite":
            store = SqliteStore(tmp_path / "ledger.db", serving=False)
            yield first, SqliteCallers(store)
            await store.aclose()
        else:
            async with open_engine(request.param, tmp_path) as second:
                yield first, second.callers


@pytest.mark.parametrize("change", ["revoked", "changed", "account closed"])
async def test_a_change_in_one_process_reaches_the_cache_of_another(
    processes: tuple[Opened, Callers], change: str
) -> None:
    db, callers = processes
    clock = FakeClock()
    await db.accounts.create(email="a@x", tokens=1, now_us=NOW_US)
    cache = CallerCache(callers, clock)
    await cache.refresh()
    key, secret = await create_key(db.accounts, "a@x")
    authorization = b"Bearer " + secret.encode()
    assert (await cache.authenticate(authorization)).api_key_id == key.id
    assert cache.cached(authorization) is not None
    await execute(db, CHANGES[change](key))
    with pytest.raises(InvalidApiKey):
        await cache.authenticate_now(authorization)
    cache = CallerCache(callers, clock)
    await cache.refresh()
    with pytest.raises(InvalidApiKey):
        await cache.authenticate(authorization)


async def test_a_refresh_drops_what_another_process_has_changed(processes: tuple[Opened, Callers]) -> None:
    db, callers = processes
    await db.accounts.create(email="a@x", tokens=1, now_us=NOW_US)
    cache = CallerCache(callers, FakeClock())
    await cache.refresh()
    key, secret = await create_key(db.accounts, "a@x")
    _, other_secret = await create_key(db.accounts, "a@x", name="other")
    authorization, other = b"Bearer " + secret.encode(), b"Bearer " + other_secret.encode()
    await cache.authenticate(authorization)
    await cache.authenticate(other)
    await execute(db, revoke(key))
    await cache.refresh()
    assert cache.cached(authorization) is None
    assert cache.cached(other) is not None
    with pytest.raises(InvalidApiKey):
        await cache.authenticate(authorization)
