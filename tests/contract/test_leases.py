"""PostgreSQL: a process reserves only while its lease is alive, and a dead process's reservations expire soon.

The tests move the times of a process's row instead of waiting.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from support.leases import PROCESS_ID, move_lease
from support.ledgers import NOW_US, Opened, balance, new, open_engine, outcome, released, schema, used
from tok0n.adapters.sql import ledger_functions
from tok0n.adapters.sql.postgres import lease as leases
from tok0n.adapters.sql.postgres.lease import PostgresLease
from tok0n.adapters.sql.postgres.ledger import PostgresLedger
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.domain.accounts import Account, ApiKey
from tok0n.domain.errors import AccountingFailed, AlreadyResolved, Overloaded
from tok0n.domain.ledger import Balance, Receipt

pytestmark = pytest.mark.anyio

MINUTE = 60
HOUR = 3_600


class Process(msgspec.Struct, kw_only=True):
    """A serving process, with a reservation of 100 tokens of the account a@x."""

    store: PostgresStore
    lease: PostgresLease
    ledger: PostgresLedger
    request_id: str

    async def move(self, *, ends_in: int, renewed_for: int = HOUR) -> None:
        await move_lease(self.store, self.lease.process_id, ends_in=ends_in, renewed_for=renewed_for)

    async def sweep(self) -> int:
        return await self.lease.expire_abandoned(now_us=NOW_US)


class Cluster(msgspec.Struct, kw_only=True):
    """Two processes on one database."""

    db: Opened
    account: Account
    key: ApiKey
    sweeper: Process
    other: Process

    async def pending(self) -> int:
        return (await balance(self.db)).pending

    async def processes(self) -> set[str]:
        return {row["id"] for row in await self.db.rows(schema.process)} - {PROCESS_ID}


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with open_engine("postgres", tmp_path) as db:
        account, key = await db.key("a@x", tokens=100_000)
        assert isinstance(db.store, PostgresStore)
        processes = []
        for request_id in ("r_sweeper", "r_other"):
            store = PostgresStore(db.store.options)
            lease = PostgresLease(store)
            ledger = PostgresLedger(store, process_id=lease.process_id)
            await lease.renew()
            await ledger.reserve(new(request_id, account.id, key.id, 100))
            processes.append(Process(store=store, lease=lease, ledger=ledger, request_id=request_id))
        sweeper, other = processes
        await sweeper.move(ends_in=15)
        yield Cluster(db=db, account=account, key=key, sweeper=sweeper, other=other)
        for process in processes:
            await process.ledger.aclose()
            await process.lease.aclose()
            await process.store.aclose()
        assert (await db.ledger.audit()).ok


async def test_reservations_of_a_dead_process_expire_ten_seconds_after_its_lease(cluster: Cluster) -> None:
    await cluster.other.move(ends_in=-8)
    assert await cluster.sweeper.sweep() == 0
    await cluster.other.move(ends_in=-10)
    assert await cluster.sweeper.sweep() == 1
    assert await cluster.pending() == 100, "the sweeper's own reservation remains"
    (expired,) = [row for row in await cluster.db.rows(schema.request) if row["status"] == "EXPIRED"]
    assert (expired["id"], expired["code"], expired["charged"]) == ("r_other", "expired", 0)


async def test_a_process_that_was_stopped_cannot_settle_what_expired(cluster: Cluster) -> None:
    await cluster.other.move(ends_in=-MINUTE)
    assert await cluster.sweeper.sweep() == 1
    assert isinstance(await outcome(cluster.other.ledger.settle(used("r_other", 50))), AlreadyResolved)
    await cluster.other.ledger.release(released("r_other"))
    await cluster.other.lease.renew()
    assert isinstance(await outcome(cluster.other.ledger.settle(used("r_other", 50))), AlreadyResolved)
    assert await balance(cluster.db) == Balance(posted=100_000, pending=100)


@pytest.mark.parametrize(
    ("ends_in", "renewed_for"),
    [(15, 25), (15, 0), (-1, HOUR)],
    ids=["renewed for less than 30 s", "just started", "its own lease has ended"],
)
async def test_a_sweeper_without_a_steady_lease_expires_nothing(
    cluster: Cluster, ends_in: int, renewed_for: int
) -> None:
    await cluster.other.move(ends_in=-HOUR)
    await cluster.sweeper.move(ends_in=ends_in, renewed_for=renewed_for)
    assert await cluster.sweeper.sweep() == 0
    assert await cluster.pending() == 200


@pytest.mark.parametrize(("gap", "expired"), [(10, 1), (18, 1), (21, 0), (120, 0)])
async def test_a_sweeper_whose_renewals_had_a_gap_over_20_seconds_starts_again(
    cluster: Cluster, gap: int, expired: int
) -> None:
    await cluster.other.move(ends_in=-HOUR)
    await cluster.sweeper.move(ends_in=15 - gap)
    await cluster.sweeper.lease.renew()
    assert await cluster.sweeper.sweep() == expired
    await cluster.sweeper.move(ends_in=15, renewed_for=30)
    assert await cluster.sweeper.sweep() == 1 - expired


async def test_a_clock_that_was_set_back_starts_the_renewals_again(cluster: Cluster) -> None:
    await cluster.sweeper.move(ends_in=HOUR, renewed_for=-HOUR)
    await cluster.sweeper.lease.renew()
    await cluster.sweeper.lease.probe()
    await cluster.other.move(ends_in=-HOUR)
    assert await cluster.sweeper.sweep() == 0
    (row,) = [row for row in await cluster.db.rows(schema.process) if row["id"] == cluster.sweeper.lease.process_id]
    assert row["lease_ends_at_us"] - row["renewed_since_us"] == leases.LEASE_US


async def test_an_outage_of_two_minutes_expires_nothing(cluster: Cluster) -> None:
    sweeper, other = cluster.sweeper, cluster.other
    for process in (sweeper, other):
        await process.move(ends_in=15 - 2 * MINUTE)
    assert [await sweeper.sweep(), await other.sweep()] == [0, 0]
    await sweeper.lease.renew()
    assert [await sweeper.sweep(), await other.sweep()] == [0, 0]
    await other.lease.renew()
    assert [await sweeper.sweep(), await other.sweep()] == [0, 0]
    await sweeper.move(ends_in=15)
    assert await sweeper.sweep() == 0
    for process in (sweeper, other):
        receipt = await process.ledger.settle(used(process.request_id, 40))
        assert receipt.charged == 40
    assert await balance(cluster.db) == Balance(posted=99_920, pending=0)


async def test_a_process_with_an_ended_lease_reserves_nothing_until_it_renews(cluster: Cluster) -> None:
    other = cluster.other
    await other.move(ends_in=0)
    results = await asyncio.gather(
        other.ledger.reserve(new("r1", cluster.account.id, cluster.key.id, 10)),
        other.ledger.settle(used("r_other", 40)),
        other.ledger.reserve(new("r2", cluster.account.id, cluster.key.id, 10)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [Overloaded, Receipt, Overloaded]
    with pytest.raises(AccountingFailed) as failed:
        await other.lease.probe()
    assert failed.value.detail == "the lease of this process has ended"
    await cluster.sweeper.lease.probe()
    await cluster.sweeper.ledger.reserve(new("r3", cluster.account.id, cluster.key.id, 10))
    await other.lease.renew()
    await other.lease.probe()
    await other.ledger.reserve(new("r4", cluster.account.id, cluster.key.id, 10))
    assert await balance(cluster.db) == Balance(posted=99_960, pending=120)


async def test_a_process_that_never_had_a_lease_reserves_nothing(cluster: Cluster) -> None:
    ledger = PostgresLedger(cluster.sweeper.store, process_id="proc_none")
    reserving = ledger.reserve(new("r1", cluster.account.id, cluster.key.id, 10))
    assert isinstance(await outcome(reserving), Overloaded)
    await ledger.release(released("r_other"))
    assert await cluster.pending() == 100
    await ledger.aclose()


async def test_an_orderly_stop_ends_the_lease_at_once(cluster: Cluster) -> None:
    await cluster.other.ledger.settle(used("r_other", 40))
    await cluster.other.lease.end()
    with pytest.raises(AccountingFailed):
        await cluster.other.lease.probe()
    assert await cluster.sweeper.sweep() == 0
    assert len(await cluster.processes()) == 2, "a reservation may still be committed"


async def test_ended_processes_are_forgotten_once_no_reservation_refers_to_them(cluster: Cluster) -> None:
    kept_seconds = cluster.sweeper.store.options.statement_timeout_seconds + leases.KEPT_US // 10**6
    await cluster.other.move(ends_in=-round(kept_seconds) + 5)
    assert await cluster.sweeper.sweep() == 1
    assert await cluster.processes() == {cluster.sweeper.lease.process_id, cluster.other.lease.process_id}
    await cluster.other.move(ends_in=-round(kept_seconds))
    assert await cluster.sweeper.sweep() == 0
    assert await cluster.processes() == {cluster.sweeper.lease.process_id}


async def test_an_ended_process_that_still_has_a_reservation_is_kept(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other sweeps may have ended all the rows that this one found, while there are more."""
    monkeypatch.setattr(ledger_functions, "expire_of_processes", lambda *_, **__: 0)
    await cluster.other.move(ends_in=-HOUR)
    assert await cluster.sweeper.sweep() == 0
    assert cluster.other.lease.process_id in await cluster.processes()


async def test_a_sweep_expires_everything_in_short_transactions(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "ROWS_PER_COMMIT", 2)
    for number in range(4):
        await cluster.other.ledger.reserve(new(f"r{number}", cluster.account.id, cluster.key.id, 10))
    await cluster.other.move(ends_in=-MINUTE)
    assert await cluster.sweeper.sweep() == 5
    assert await cluster.pending() == 100


async def test_two_sweepers_expire_each_reservation_once(cluster: Cluster) -> None:
    third = PostgresLease(cluster.other.store)
    await third.renew()
    await move_lease(cluster.other.store, third.process_id, ends_in=15, renewed_for=HOUR)
    await cluster.other.move(ends_in=-MINUTE)
    assert sum(await asyncio.gather(cluster.sweeper.sweep(), third.expire_abandoned(now_us=NOW_US))) == 1
    await third.aclose()


async def test_a_sweep_skips_a_process_that_is_renewing_its_lease(cluster: Cluster) -> None:
    await cluster.other.move(ends_in=-MINUTE)
    locked, done = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        connection = await cluster.other.store.options.connect()
        async with connection.transaction():
            await connection.execute("SELECT 1 FROM process FOR UPDATE")
            locked.set()
            await done.wait()
        await connection.close()

    holding = asyncio.create_task(hold())
    await locked.wait()
    assert await cluster.sweeper.sweep() == 0
    done.set()
    await holding
    assert await cluster.pending() == 200


async def test_the_overdue_sweep_still_expires_reservations_of_live_processes(cluster: Cluster) -> None:
    assert await cluster.sweeper.ledger.expire(now_us=NOW_US + 10**7, rows_max=10) == 2
    assert await cluster.pending() == 0


async def test_a_renewal_that_fails_raises(cluster: Cluster) -> None:
    await cluster.db.store.write(lambda tx: tx.execute(sa.text("ALTER TABLE process RENAME TO gone")) and None)
    with pytest.raises(AccountingFailed):
        await cluster.sweeper.lease.renew()
    await cluster.db.store.write(lambda tx: tx.execute(sa.text("ALTER TABLE gone RENAME TO process")) and None)
