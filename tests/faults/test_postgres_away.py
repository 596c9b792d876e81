"""PostgreSQL is pulled away: a request is charged and answered, or neither, and nothing stays reserved."""

import asyncio
import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support import postgres
from support.fakes import ANSWER
from support.fault_proxy import FaultProxy
from support.gateways import Running, running
from support.http import USAGE_TOTAL, chat, chat_body, request
from support.leases import leased_ledger, move_lease
from support.ledgers import Opened, balance, new, schema, used
from support.scripted_upstream import ScriptedUpstream, http, ok
from tok0n.adapters.clock import SystemClock
from tok0n.adapters.sql.postgres.callers import PostgresCallers
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.lease import PostgresLease
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.adapters.sql.repositories.models import SqlModels
from tok0n.bootstrap import wiring
from tok0n.domain.errors import AccountingFailed
from tok0n.domain.ledger import Balance
from tok0n.services.reservations import Reservation, Reservations

pytestmark = pytest.mark.anyio
TOKENS = 1_000_000


@pytest.fixture
async def cluster() -> AsyncIterator[postgres.Cluster]:
    """A server of this test's own, for it is stopped."""
    cluster = await asyncio.to_thread(postgres.Cluster)
    yield cluster
    await asyncio.to_thread(cluster.remove)


async def gateway_on(folder: Path, url: str, upstream: ScriptedUpstream) -> AsyncIterator[Running]:
    async with running(folder, upstream_url=upstream.base_url, more=f'[database]\nurl = "{url}"\n') as gateway:
        yield gateway


@pytest.fixture
async def own(tmp_path: Path, upstream: ScriptedUpstream, cluster: postgres.Cluster) -> AsyncIterator[Running]:
    """A gateway on the server that can be stopped."""
    url = await postgres.make_database(cluster, "tok0n", template="template0")
    await postgres.migrate(url)
    async for gateway in gateway_on(tmp_path, url, upstream):
        assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200
        yield gateway


async def nothing_pending(gateway: Running) -> int:
    """Sweep until no reservation is left, and return what the account owns then."""
    async with asyncio.timeout(30):
        while True:
            try:
                await gateway.housekeeping.sweep()
                balance = (await gateway.account()).balance
            except Exception:  # noqa: BLE001  the database may be on its way back
                await asyncio.sleep(0.01)
                continue
            if not balance.pending:
                return balance.posted
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGQUIT])
async def test_stopped_before_a_reservation_it_is_a_500_that_reaches_nobody(
    own: Running, upstream: ScriptedUpstream, cluster: postgres.Cluster, sig: signal.Signals
) -> None:
    await asyncio.to_thread(cluster.stop, sig)
    answer = await chat(own.base_url, own.api_key, chat_body())
    assert (answer.status, answer.error["code"], answer.error["type"]) == (500, "api_error", "api_error")
    assert len(upstream.requests) == 1
    assert (await request(own.base_url, "GET", "/readyz")).status == 503
    await asyncio.to_thread(cluster.start)
    assert (await chat(own.base_url, own.api_key, chat_body())).status == 200
    assert await nothing_pending(own) == TOKENS - 2 * USAGE_TOTAL
    assert (await request(own.base_url, "GET", "/readyz")).status == 200
    assert await own.audit_is_clean()


async def test_stopped_before_a_settlement_nothing_is_charged_and_nothing_stays_reserved(
    own: Running, upstream: ScriptedUpstream, cluster: postgres.Cluster
) -> None:
    async def answer_without_database(writer: asyncio.StreamWriter) -> None:
        await asyncio.to_thread(cluster.stop)
        writer.write(http(ANSWER))
        await writer.drain()

    upstream.behaviour = answer_without_database
    answer = await chat(own.base_url, own.api_key, chat_body())
    assert (answer.status, answer.error["code"]) == (500, "api_error")
    assert answer.headers["x-should-retry"] == "false"
    await asyncio.to_thread(cluster.start)
    assert await nothing_pending(own) == TOKENS - USAGE_TOTAL
    assert await own.audit_is_clean()


@pytest.fixture
async def proxy() -> AsyncIterator[FaultProxy]:
    cluster = await asyncio.to_thread(postgres.shared_cluster)
    async with FaultProxy(cluster.port, only=b"tok0n_ledger_batch") as proxy:
        yield proxy


@pytest.fixture
async def proxied(tmp_path: Path, upstream: ScriptedUpstream, proxy: FaultProxy) -> AsyncIterator[Running]:
    """A gateway whose way to the database can be cut."""
    name = f"t{secrets.token_hex(8)}"
    async with postgres.database(name):
        async for gateway in gateway_on(tmp_path, f"postgresql://tok0n@127.0.0.1:{proxy.port}/{name}", upstream):
            assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200
            yield gateway


CUTS = [("answer", size) for size in (0, 1, 5, 40, 100)] + [("request", size) for size in (0, 1, 30, 150)]


def arm(proxy: FaultProxy, direction: str, size: int) -> None:
    (proxy.cut_answer_after if direction == "answer" else proxy.cut_request_after)(size)


@pytest.mark.parametrize(("direction", "size"), CUTS)
@pytest.mark.parametrize("moment", ["reserve", "settle"])
async def test_a_cut_connection_leaves_a_request_answered_and_charged_or_neither(
    proxied: Running, upstream: ScriptedUpstream, proxy: FaultProxy, moment: str, direction: str, size: int
) -> None:
    async def cut_and_answer(writer: asyncio.StreamWriter) -> None:
        if moment == "settle":
            arm(proxy, direction, size)
        writer.write(http(ANSWER))
        await writer.drain()

    upstream.behaviour = cut_and_answer
    if moment == "reserve":
        arm(proxy, direction, size)
    answer = await chat(proxied.base_url, proxied.api_key, chat_body())
    assert proxy.cut.is_set()
    posted = await nothing_pending(proxied)
    assert (answer.status, posted) in {(200, TOKENS - 2 * USAGE_TOTAL), (500, TOKENS - USAGE_TOTAL)}
    assert await proxied.audit_is_clean()
    upstream.behaviour = ok()
    assert (await chat(proxied.base_url, proxied.api_key, chat_body())).status == 200


async def test_a_settlement_whose_outcome_stayed_unknown_is_reversed(tmp_path: Path, proxy: FaultProxy) -> None:
    """The charge is committed, the response is lost, and the database stays away until all attempts have failed."""
    name = f"t{secrets.token_hex(8)}"
    async with postgres.database(name):
        store = PostgresStore(PostgresOptions(url=f"postgresql://tok0n@127.0.0.1:{proxy.port}/{name}"))
        ledger = await leased_ledger(store, read_back_seconds_max=0.05)
        db = Opened(
            store=store,
            ledger=ledger,
            accounts=SqlAccounts(store),
            callers=PostgresCallers(store),
            models=SqlModels(store),
        )
        account, key = await db.key("a@x", tokens=1_000)
        reservations = Reservations(ledger, SystemClock())

        async def settle_while_the_database_goes_away() -> None:
            async with Reservation(reservations, new("req_1", account.id, key.id, 100)) as reservation:
                proxy.cut_answer_after(0)
                settling = asyncio.create_task(reservation.settle(used("req_1", 40).usage, upstream_ms=1))
                await proxy.cut.wait()
                proxy.refuse(away=True)
                await settling

        with pytest.raises(AccountingFailed):
            await settle_while_the_database_goes_away()
        proxy.refuse(away=False)
        assert await reservations.retry_releases() == 0
        amounts = [(row["kind"], row["amount"]) for row in await db.rows(schema.ledger_entry)]
        assert amounts == [("grant", 1_000), ("usage", -40), ("adjustment", 40)]
        assert await balance(db) == Balance(posted=1_000, pending=0)
        assert (await ledger.audit()).ok
        await ledger.aclose()
        await store.aclose()


async def test_a_slow_way_to_the_database_only_delays(
    proxied: Running, upstream: ScriptedUpstream, proxy: FaultProxy
) -> None:
    proxy.flowing.clear()
    calling = asyncio.create_task(chat(proxied.base_url, proxied.api_key, chat_body()))
    assert (await request(proxied.base_url, "GET", "/healthz")).status == 200, "the loop is not held"
    proxy.flowing.set()
    assert (await calling).status == 200


async def test_a_gateway_whose_lease_ended_rejects_requests_until_it_renews(
    tmp_path: Path, upstream: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wiring, "RENEW_LEASE_SECONDS", 3_600)
    async with postgres.database(f"t{secrets.token_hex(8)}") as url:
        async for gateway in gateway_on(tmp_path, url, upstream):
            lease = gateway.store.lease
            assert isinstance(lease, PostgresLease)
            assert isinstance(gateway.store.database, PostgresStore)
            assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200
            await move_lease(gateway.store.database, lease.process_id, ends_in=0, renewed_for=60)
            answer = await chat(gateway.base_url, gateway.api_key, chat_body())
            assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "overloaded", "1")
            ready = await request(gateway.base_url, "GET", "/readyz")
            assert (ready.status, ready.json["components"]) == (503, {"database": "failed", "limiter": "ok"})
            assert len(upstream.requests) == 1
            await lease.renew()
            assert (await request(gateway.base_url, "GET", "/readyz")).status == 200
            assert (await chat(gateway.base_url, gateway.api_key, chat_body())).status == 200
            assert await nothing_pending(gateway) == TOKENS - 2 * USAGE_TOTAL
            assert await gateway.audit_is_clean()
