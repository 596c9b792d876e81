"""kill -9 of a real server under load, at two moments (tests/soak/ has twenty): every token is accounted for.

On PostgreSQL, another server releases what the killed one had reserved.
"""

import asyncio
import secrets
from pathlib import Path

import pytest
import sqlalchemy as sa

from support import postgres
from support.gateways import EMAIL, ServerProcess, prepared
from support.http import USAGE_TOTAL, InstantUpstream, chat, chat_body
from support.killed_servers import kill_under_load
from support.killed_streams import kill_streams
from support.leases import move_lease
from tok0n.adapters.sql import schema
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.bootstrap.resources import open_store

pytestmark = pytest.mark.anyio


async def test_kill_nine_under_load_loses_and_invents_no_token(tmp_path: Path) -> None:
    await kill_under_load(tmp_path, rounds=2)


async def test_kill_nine_in_the_middle_of_streams_charges_no_incomplete_answer(tmp_path: Path) -> None:
    await kill_streams(tmp_path, rounds=1)


async def test_another_gateway_expires_the_reservations_of_a_killed_one(tmp_path: Path) -> None:
    async with postgres.database(f"t{secrets.token_hex(8)}") as url, InstantUpstream() as upstream:
        store = PostgresStore(PostgresOptions(url=url))
        more = f'[database]\nurl = "{url}"\n'
        settings, api_key = await prepared(tmp_path, upstream_url=upstream.base_url, tokens=100_000, more=more)
        async with ServerProcess(tmp_path) as killed:
            (dead_id,) = await _process_ids(store)
            async with ServerProcess(tmp_path) as other:
                (live_id,) = await _process_ids(store) - {dead_id}
                upstream.gate.clear()
                calls = [asyncio.create_task(chat(server.base_url, api_key, chat_body())) for server in (killed, other)]
                while await _pending_processes(store) != {dead_id, live_id}:
                    await asyncio.sleep(0.01)
                await killed.kill()
                # The server may be renewing its lease now. Its renewal makes the lease last 15 s. If that were less
                # than ours, it would count as a gap, and the server would expire nothing for 30 s.
                await move_lease(store, live_id, ends_in=10, renewed_for=30)
                await move_lease(store, dead_id, ends_in=-10, renewed_for=30)
                async with asyncio.timeout(20):
                    while await _pending_processes(store) != {live_id}:
                        await asyncio.sleep(0.05)
                upstream.gate.set()
                _, answer = await asyncio.gather(*calls, return_exceptions=True)
                assert not isinstance(answer, BaseException)
                assert answer.status == 200
                assert await other.stop() == 0
        assert await _process_ids(store, is_alive=True) == set(), "an orderly stop ends the lease"
        async with open_store(settings) as reopened:
            balance = (await reopened.accounts.get(EMAIL)).balance
            assert (balance.posted, balance.pending) == (100_000 - USAGE_TOTAL, 0)
            assert (await reopened.ledger.audit()).ok
        async with ServerProcess(tmp_path):
            assert await _process_ids(store) > {live_id}, "an ended lease is no obstacle to a start"
        await store.aclose()


async def _process_ids(store: PostgresStore, *, is_alive: bool = False) -> set[str]:
    where = "WHERE lease_ends_at_us > extract(epoch FROM now()) * 1000000" if is_alive else ""
    return set(await store.read(lambda tx: tx.scalars(sa.text(f"SELECT id FROM process {where}")).all()))


async def _pending_processes(store: PostgresStore) -> set[str]:
    pending = sa.select(schema.request.c.process_id).where(schema.request.c.status == "PENDING")
    return set(await store.read(lambda tx: tx.scalars(pending).all()))
