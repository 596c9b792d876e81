"""A task that is cancelled at any of its awaits holds no slot, no reservation and no token afterwards."""

import asyncio
import contextlib
import gc
import secrets
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support import postgres
from support.cancelling import cancelled_at_each_await
from support.endpoint_cases import BILLED, CASES, CHAT_CASE, COUNT_CASE, EndpointCase
from support.fakes import FakeClock, FakeUpstream
from support.gateways import SERVING, InProcess, in_process
from support.ledgers import ENGINES, schema
from support.limiters import KINDS, open_limiter, slots
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.domain.errors import Tok0nError, UpstreamFailed
from tok0n.ports.upstream import UpstreamResponse
from tok0n.services.verify_models import VerifyModels

pytestmark = pytest.mark.anyio

NOT_REACHED = UpstreamFailed("It failed.", detail="refused", reached=False)


class NotReached(FakeUpstream):
    """Cannot be reached. It counts the calls that were cancelled, of which nobody knows whether they were sent."""

    cancelled = 0

    async def send(self, path: str, body: bytes, *, headers: Sequence[tuple[str, str]] = ()) -> UpstreamResponse:
        try:
            return await super().send(path, body)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@contextlib.contextmanager
def ignoring_aborted_connections() -> Iterator[None]:
    """asyncpg aborts the connection of a query that is cancelled, and leaves a future that nobody awaits."""
    loop = asyncio.get_running_loop()
    handler = loop.get_exception_handler()

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "connection_lost" not in str(context.get("exception")) and handler is not None:
            handler(loop, context)

    loop.set_exception_handler(handle)
    try:
        yield
        gc.collect()
    finally:
        loop.set_exception_handler(handler)


async def call(gateway: InProcess, case: EndpointCase) -> None:
    new = gateway.pipeline.new_call(case.name)
    caller = await gateway.pipeline.authenticate(new, gateway.authorization)
    await gateway.pipeline.serve(case.endpoint, new, caller, case.body())


SETUPS = [
    *(pytest.param("memory", "sqlite", case, id=f"memory-sqlite-{case.name}") for case in CASES),
    *(
        pytest.param(kind, engine, case, id=f"{kind}-{engine}-{case.name}")
        for kind, engine in (("memory", "postgres"), ("redis", "sqlite"), ("redis", "postgres"))
        for case in (CHAT_CASE, COUNT_CASE)
    ),
]


@pytest.mark.parametrize(("kind", "engine", "case"), SETUPS)
@pytest.mark.parametrize("answer", [None, NOT_REACHED], ids=["answered", "not reached"])
async def test_a_call_that_is_cancelled_at_any_await_holds_nothing(
    tmp_path: Path, kind: str, engine: str, case: EndpointCase, answer: Tok0nError | None
) -> None:
    clock = FakeClock()
    upstream = FakeUpstream(answer or UpstreamResponse(status=200, body=case.answer_body))
    async with (
        open_limiter(kind, clock, key=10**6, user=1, upstream=10**6) as limiter,
        in_process(tmp_path, upstream, clock=clock, limiter=limiter, engine=engine) as gateway,
    ):
        (account,) = await gateway.db.rows(schema.account)
        runs = 0
        async for run in cancelled_at_each_await(lambda: call(gateway, case)):
            task = run
            runs += 1
            rows = await gateway.db.rows(schema.request)
            assert {row["status"] for row in rows} <= {"SETTLED", "RELEASED"}
            assert await gateway.pending() == 0
            assert await slots(limiter, clock, account["id"]) == (0, sum(row["dispatched"] for row in rows))
            await gateway.db.store.probe()
        assert runs > (5 if kind == "redis" else 4), "lookup, admission, reservation, upstream, settlement or release"
        assert type(task.exception()) is (type(answer) if answer else type(None))
        assert {row["endpoint"] for row in rows} == {case.name}
        assert {row["charged"] for row in rows} <= {0, case.charged}
        assert await gateway.posted() == 1_000_000 - sum(row["charged"] for row in rows)
        assert (await gateway.db.ledger.audit()).ok


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_with_a_key_that_has_changed_holds_nothing_when_it_is_cancelled_at_any_await(
    tmp_path: Path, kind: str, engine: str
) -> None:
    clock = FakeClock()

    async def stale_call(gateway: InProcess) -> None:
        new = gateway.pipeline.new_call("chat")
        caller = await gateway.pipeline.authenticate(new, gateway.authorization)
        stale = msgspec.structs.replace(caller, key_version=caller.key_version + 1)
        await gateway.pipeline.serve(CHAT_CASE.endpoint, new, stale, CHAT_CASE.body())

    async with (
        open_limiter(kind, clock, key=10**6, user=1, upstream=10**6) as limiter,
        in_process(tmp_path, FakeUpstream(), clock=clock, limiter=limiter, engine=engine) as gateway,
    ):
        (account,) = await gateway.db.rows(schema.account)
        runs = 0
        async for run in cancelled_at_each_await(lambda: stale_call(gateway)):
            task = run
            runs += 1
            rows = await gateway.db.rows(schema.request)
            assert await gateway.pending() == 0
            assert await slots(limiter, clock, account["id"]) == (0, sum(row["dispatched"] for row in rows))
        assert runs > (8 if kind == "redis" else 5), "both starts: lookup, admission, reservation, and the undo"
        assert task.exception() is None
        assert (await gateway.db.ledger.audit()).ok


@pytest.mark.parametrize(("kind", "engine"), list(zip(KINDS, ENGINES, strict=True)))
async def test_a_verification_that_never_reached_the_upstream_holds_no_global_slot(
    tmp_path: Path, kind: str, engine: str
) -> None:
    clock = FakeClock()
    upstream = NotReached(NOT_REACHED)
    async with (
        open_limiter(kind, clock, upstream=10**6) as limiter,
        in_process(tmp_path, upstream, clock=clock, limiter=limiter, engine=engine) as gateway,
    ):
        verify_models = VerifyModels(
            endpoints=[case.endpoint for case in BILLED],
            models=gateway.db.models,
            upstreams={"fake": upstream},
            limiter=limiter,
            clock=clock,
            timeout_seconds=5,
        )

        def verification() -> Coroutine[Any, Any, Any]:
            return verify_models.verify(SERVING)

        with ignoring_aborted_connections():
            async for _ in cancelled_at_each_await(verification):
                assert (await slots(limiter, clock, ""))[1] == upstream.cancelled
        await verify_models.verify(SERVING)
        assert (await slots(limiter, clock, ""))[1] == upstream.cancelled


def update(tx: sa.Connection) -> None:
    tx.execute(sa.text("UPDATE alembic_version SET version_num = version_num"))


def select(tx: sa.Connection) -> None:
    tx.execute(sa.text("SELECT version_num FROM alembic_version"))


TRANSACTIONS: dict[str, Callable[[PostgresStore], Coroutine[Any, Any, None]]] = {
    "write": lambda store: store.write(update),
    "read": lambda store: store.read(select),
    "read without timeout": lambda store: store.read(select, no_timeout=True),
}


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("transaction", TRANSACTIONS.values(), ids=TRANSACTIONS)
async def test_a_transaction_that_is_cancelled_at_any_await_frees_its_connection(
    transaction: Callable[[PostgresStore], Coroutine[Any, Any, None]], times: int
) -> None:
    """With two times, the second one interrupts the rollback that the first one started."""
    async with postgres.database(f"t{secrets.token_hex(8)}") as url:
        store = PostgresStore(PostgresOptions(url=url, pool_size=1))
        try:
            with ignoring_aborted_connections():
                runs = 0
                async for _ in cancelled_at_each_await(lambda: transaction(store), times=times):
                    runs += 1
                    await store.probe()
                    await transaction(store)
            assert runs > 3, "BEGIN, the statement, COMMIT"
        finally:
            await store.aclose()
