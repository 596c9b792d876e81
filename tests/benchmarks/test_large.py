"""The databases of the benchmarks with many customers are ones that Tok0n could have written."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import large
import pytest
import sqlalchemy as sa

from support import postgres, sqlite
from support.ledgers import ENGINES
from tok0n.adapters.sql import audit
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.schema import key_secret, request, usage_quarter
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.adapters.sql.store import SqlStore
from tok0n.domain.api_key import digest, is_well_formed

pytestmark = pytest.mark.anyio

NOW_US = 1_800_000_000_000_000
MINUTE_US = 60_000_000
SIZE = large.Size(accounts=50, requests=2_000, largest=400, recent=65)


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlStore]:
    opened: SqlStore
    if request.param == "sqlite":
        path = tmp_path / "large.db"
        await sqlite.make_database(path)
        await large.fill_database(f"sqlite:{path}", SIZE, now_us=NOW_US)
        opened = SqliteStore(path, serving=False)
    else:
        cluster = await asyncio.to_thread(postgres.shared_cluster)
        url = await postgres.make_database(cluster, f"t{secrets.token_hex(8)}")
        await large.fill_database(url, SIZE, now_us=NOW_US)
        opened = PostgresStore(PostgresOptions(url=url))
    yield opened
    await opened.aclose()


async def test_the_audit_of_a_generated_database_finds_no_difference(store: SqlStore) -> None:
    report = await store.read(audit.audit)
    assert report.ok, report.differences[:3]
    assert report.accounts == 50
    assert report.requests == 2_065
    assert report.entries == 50 + 2_065


async def test_the_key_of_each_account_can_be_computed_again(store: SqlStore) -> None:
    digests = await store.read(lambda tx: {row.api_key_id: row.digest for row in tx.execute(sa.select(key_secret))})
    assert digests == {large.key_id(number): digest(large.api_key(number)) for number in range(50)}
    assert all(is_well_formed(large.api_key(number)) for number in range(50))


async def test_requests_are_spread_over_time_accounts_and_models_as_asked(store: SqlStore) -> None:
    rows = await store.read(lambda tx: tx.execute(sa.select(request).order_by(request.c.id)).all())
    times = [row.created_at_us for row in rows]
    assert times == sorted(times)
    assert times[0] == NOW_US - large.DAYS * large.MICROSECONDS_PER_DAY
    assert sum(NOW_US - MINUTE_US <= at_us < NOW_US for at_us in times) == 65
    assert max(row.resolved_at_us for row in rows) < NOW_US
    assert sum(row.account_id == large.account_id(0) for row in rows) >= 400
    assert {row.account_id for row in rows} == {large.account_id(number) for number in range(50)}
    assert {row.model for row in rows} == set(large.MODELS)


async def test_the_roll_ups_count_every_request(store: SqlStore) -> None:
    assert await store.read(lambda tx: tx.scalar(sa.select(sa.func.sum(usage_quarter.c.requests)))) == 2_065


def test_a_file_of_keys_has_one_per_line(tmp_path: Path) -> None:
    path = large.write_keys(tmp_path / "keys", range(2, 4))
    assert path.read_text().splitlines() == [large.api_key(2), large.api_key(3)]
