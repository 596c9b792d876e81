"""Several real servers on one PostgreSQL and one Redis: whatever holds for one holds for all of them together."""

import asyncio
import contextlib
import os
import random
import secrets
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support import postgres
from support.gateways import EMAIL, ServerProcess, tok0n, tok0n_json, write_settings
from support.http import USAGE_TOTAL, Answer, Connection, InstantUpstream, chat, chat_body, request
from support.redis_server import RedisServer
from tok0n.adapters.redis.refill import LEASE_US
from tok0n.adapters.sql import schema
from tok0n.adapters.sql.postgres.connection import PostgresOptions
from tok0n.adapters.sql.postgres.ledger import PostgresLedger
from tok0n.adapters.sql.postgres.store import PostgresStore
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.services.pipeline import SETTLE_SECONDS_MAX

pytestmark = pytest.mark.anyio
TOKENS = 100_000_000
UPSTREAM_TIMEOUT_SECONDS = 5


class Installation(msgspec.Struct, kw_only=True):
    """A folder with settings, an account with a key, and all that the servers share."""

    folder: Path
    redis: RedisServer
    upstream: InstantUpstream
    api_key: str
    key_id: str
    store: PostgresStore
    ledger: PostgresLedger

    def server(self, *arguments: str) -> ServerProcess:
        return ServerProcess(self.folder, *arguments)

    def account(self) -> dict[str, Any]:
        account: dict[str, Any] = tok0n_json("accounts", "show", EMAIL, cwd=self.folder)
        return account

    async def is_accounted_for(self) -> bool:
        return (await self.ledger.audit()).ok


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Any]:
    """Makes an installation; with the default limits, if wanted."""
    async with contextlib.AsyncExitStack() as stack:

        async def make(*, limits: int | None = 1_000_000) -> Installation:
            url = await stack.enter_async_context(postgres.database(f"t{secrets.token_hex(8)}"))
            redis = await stack.enter_async_context(RedisServer())
            upstream = await stack.enter_async_context(InstantUpstream())
            write_settings(
                tmp_path,
                upstream_url=upstream.base_url,
                limits=limits,
                backend=redis.url,
                more=f'[database]\nurl = "{url}"\n',
            )
            tok0n_json("accounts", "create", EMAIL, "--tokens", str(TOKENS), cwd=tmp_path)
            key = tok0n_json("keys", "create", EMAIL, cwd=tmp_path)
            store = PostgresStore(PostgresOptions(url=url))
            stack.push_async_callback(store.aclose)
            return Installation(
                folder=tmp_path,
                redis=redis,
                upstream=upstream,
                api_key=key["api_key"],
                key_id=key["id"],
                store=store,
                ledger=PostgresLedger(store, process_id=""),
            )

        yield make


async def listed(server: ServerProcess, *, is_listed: bool = True) -> None:
    """Wait until the model is in the list of this server, or not."""
    async with asyncio.timeout(30):
        while True:
            answer = await request(server.base_url, "GET", "/v1/models")
            if bool(answer.json["data"]) is is_listed:
                return
            await asyncio.sleep(0.02)


async def many(servers: list[ServerProcess], api_key: str, count: int) -> list[Answer]:
    """`count` calls at once, in turn to each server."""
    calls = [chat(servers[n % len(servers)].base_url, api_key, chat_body()) for n in range(count)]
    return list(await asyncio.gather(*calls))


async def test_the_limits_are_exact_over_two_servers(make: Any) -> None:
    """55 for everything, of which one was the verification; and not one refusal too many."""
    here: Installation = await make(limits=None)
    other = tok0n_json("keys", "create", EMAIL, cwd=here.folder)["api_key"]
    async with here.server() as one, here.server() as two:
        await asyncio.gather(listed(one), listed(two))
        verified = here.upstream.answered
        assert verified == 1, "one of the two verified the model"
        answers: list[Answer] = []
        for n in range(7):
            answers += await many([one, two], (here.api_key, other)[n % 2], 10)
        statuses = [answer.status for answer in answers]
        assert statuses.count(200) == 55 - verified
        refusals = [answer for answer in answers if answer.status != 200]
        assert {answer.error["code"] for answer in refusals} == {"rate_limit_error"}
        assert all("upstream" in answer.error["message"] for answer in refusals)
        assert here.upstream.answered == 55
    assert await here.is_accounted_for()


async def test_ten_at_once_over_two_servers(make: Any) -> None:
    here: Installation = await make(limits=None)
    async with here.server() as one, here.server() as two:
        await asyncio.gather(listed(one), listed(two))
        here.upstream.gate.clear()
        calls = [asyncio.create_task(chat((one, two)[n % 2].base_url, here.api_key, chat_body())) for n in range(30)]
        refused = []
        async with asyncio.timeout(20):
            for call in asyncio.as_completed(calls):
                refused.append(await call)
                if len(refused) == 20:
                    break
        assert {answer.status for answer in refused} == {429}
        here.upstream.gate.set()
        answers = await asyncio.gather(*calls)
    assert [answer.status for answer in answers].count(200) == 10


async def test_a_change_holds_in_every_server(make: Any) -> None:
    here: Installation = await make()
    async with here.server() as one, here.server() as two:
        await asyncio.gather(listed(one), listed(two))
        for server in (one, two):
            assert (await chat(server.base_url, here.api_key, chat_body())).status == 200
        other = tok0n_json("keys", "create", EMAIL, cwd=here.folder)["api_key"]
        for server in (one, two):
            assert (await chat(server.base_url, other, chat_body())).status == 200
        tok0n_json("keys", "revoke", here.key_id, cwd=here.folder)
        for server in (one, two):
            assert (await chat(server.base_url, here.api_key, chat_body())).status == 401
        store = here.store
        await store.write(lambda tx: tx.execute(sa.update(schema.account).values(status="closed")) and None)
        for server in (one, two):
            assert (await chat(server.base_url, other, chat_body())).status == 401
        await store.write(lambda tx: tx.execute(sa.update(schema.account).values(status="open")) and None)
        tok0n_json("models", "disable", "demo", cwd=here.folder)
        for server in (one, two):
            await listed(server, is_listed=False)
            assert (await chat(server.base_url, other, chat_body())).status == 400


class Load:
    """Connections that send one request after another; an error ends them, and is counted unless it may be."""

    def __init__(self, server: ServerProcess, api_key: str) -> None:
        self.server = server
        self.api_key = api_key
        self.answers = 0
        self.answered = asyncio.Condition()
        self.stopping = False
        self.has_ended = False

    async def run(self, *, may_break: bool) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(self._connection(may_break=may_break))
        finally:
            self.has_ended = True
            async with self.answered:
                self.answered.notify_all()

    async def reach(self, answers: int) -> None:
        """Wait for so many answers, or until the load has ended, which its task then explains."""
        async with self.answered:
            await self.answered.wait_for(lambda: self.answers >= answers or self.has_ended)

    async def _connection(self, *, may_break: bool) -> None:
        try:
            async with Connection(self.server.base_url) as connection:
                while not self.stopping:
                    answer = await connection.chat(self.api_key, chat_body())
                    assert answer.status == 200, answer
                    async with self.answered:
                        self.answers += 1
                        self.answered.notify_all()
        except (ConnectionError, asyncio.IncompleteReadError):
            assert may_break


async def test_kill_nine_of_one_server_twenty_times_never_troubles_the_other(make: Any) -> None:
    here: Installation = await make()
    chance = random.Random(3)
    delivered = 0
    async with here.server() as living:
        await listed(living)
        steady = Load(living, here.api_key)
        running = asyncio.create_task(steady.run(may_break=False))
        for _ in range(20):
            async with here.server() as dying:
                await listed(dying)
                load = Load(dying, here.api_key)
                breaking = asyncio.create_task(load.run(may_break=True))
                await load.reach(chance.randrange(1, 100))
                await dying.kill()
                await breaking
                delivered += load.answers
            assert await here.is_accounted_for()
        before = steady.answers
        await steady.reach(before + 10)
        steady.stopping = True
        await running
        killed_us = time.time_ns() // 1000
        await _leases_end(here, by_us=killed_us + LEASE_US)
    delivered += steady.answers
    await _reservations_end(here, by_us=killed_us + (UPSTREAM_TIMEOUT_SECONDS + SETTLE_SECONDS_MAX) * 1_000_000)
    account = here.account()
    assert account["pending"] == 0
    answered = here.upstream.answered
    assert delivered * USAGE_TOTAL <= TOKENS - account["posted"] <= answered * USAGE_TOTAL
    assert await here.is_accounted_for()


async def _leases_end(here: Installation, *, by_us: int) -> None:
    for key in await here.redis.command("KEYS", "{tok0n}:leases:*"):
        newest = await here.redis.command("ZREVRANGE", key, 0, 0, "WITHSCORES")
        assert float(newest[1]) <= by_us


async def _reservations_end(here: Installation, *, by_us: int) -> None:
    """Reservations of killed servers stay PENDING until they expire. Then any running server ends them."""
    store = here.store
    assert (await SqlAccounts(store).get(EMAIL)).balance.pending > 0, "twenty crashes under load left something"
    latest = sa.select(sa.func.max(schema.request.c.expires_at_us)).where(schema.request.c.status == "PENDING")
    assert (await store.read(lambda tx: tx.scalar(latest)) or 0) <= by_us
    sweepers = [here.ledger.expire(now_us=by_us + 1, rows_max=1_000) for _ in range(4)]
    expired = await asyncio.gather(*sweepers)
    assert sorted(expired)[:3] == [0, 0, 0], "whoever came first ended them, and nobody after it"


async def test_without_redis_it_is_a_503_within_a_second_and_mends_itself(make: Any) -> None:
    here: Installation = await make()
    async with here.server() as server:
        await listed(server)
        assert (await chat(server.base_url, here.api_key, chat_body())).status == 200
        await here.redis.stop()
        async with asyncio.timeout(1):
            answer = await chat(server.base_url, here.api_key, chat_body())
        assert (answer.status, answer.error["code"]) == (503, "rate_limit_unavailable")
        ready = await request(server.base_url, "GET", "/readyz")
        assert (ready.status, ready.json["components"]) == (503, {"database": "ok", "limiter": "failed"})
        assert answer.error["type"] == "service_unavailable_error"
        assert answer.headers["retry-after"] == "1"
        await here.redis.start()
        async with asyncio.timeout(5):
            while (answer := await chat(server.base_url, here.api_key, chat_body())).status == 503:
                await asyncio.sleep(0.02)
        assert answer.status == 200


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_workers_share_a_port_are_replaced_and_end_together(make: Any) -> None:
    here: Installation = await make()
    async with here.server("--workers", "2") as server:
        await listed(server)
        workers = _children(server.process.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        async with asyncio.timeout(30):
            while len(now := _children(server.process.pid)) < 2 or workers[0] in now:
                await asyncio.sleep(0.02)
        answers = await many([server], here.api_key, 40)
        assert {answer.status for answer in answers} == {200}
        assert await server.stop() == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in (*workers, *now))


async def test_workers_end_when_whoever_started_them_is_killed(make: Any) -> None:
    here: Installation = await make()
    async with here.server("--workers", "2") as server:
        workers = _children(server.process.pid)
        await server.kill()
        async with asyncio.timeout(30):
            while any(Path(f"/proc/{pid}").exists() for pid in workers):
                await asyncio.sleep(0.02)


async def test_an_older_schema_is_refused_until_it_is_migrated(tmp_path: Path) -> None:
    cluster = await asyncio.to_thread(postgres.shared_cluster)
    name = f"t{secrets.token_hex(8)}"
    url = await postgres.make_database(cluster, name, template="template0")
    write_settings(tmp_path, upstream_url="http://127.0.0.1:9/v1", more=f'[database]\nurl = "{url}"\n')
    done = tok0n("serve", "--port", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert "Run tok0n migrate." in done.stderr
    assert tok0n_json("migrate", cwd=tmp_path)["applied"] == [schema.HEAD]
    assert tok0n_json("migrate", cwd=tmp_path)["applied"] == []
    await postgres.drop_database(cluster, name)


async def test_an_embedded_installation_moves_with_one_command(tmp_path: Path) -> None:
    async with InstantUpstream() as upstream:
        write_settings(tmp_path, upstream_url=upstream.base_url)
        tok0n_json("accounts", "create", EMAIL, "--tokens", "5000", cwd=tmp_path)
        api_key = tok0n_json("keys", "create", EMAIL, cwd=tmp_path)["api_key"]
        cluster = await asyncio.to_thread(postgres.shared_cluster)
        name = f"t{secrets.token_hex(8)}"
        url = await postgres.make_database(cluster, name, template="template0")
        async with ServerProcess(tmp_path) as server:
            await listed(server)
            assert (await chat(server.base_url, api_key, chat_body())).status == 200
            busy = tok0n("copy", "--to", url, cwd=tmp_path)
            assert (busy.returncode, "Another server is using" in busy.stderr) == (1, True)
        copied = tok0n_json("copy", "--to", url, cwd=tmp_path)
        assert copied["rows"]["request"] == 1
        assert copied["source"] == copied["target"]
        write_settings(tmp_path, upstream_url=upstream.base_url, more=f'[database]\nurl = "{url}"\n')
        async with ServerProcess(tmp_path) as server:
            await listed(server)
            answer = await chat(server.base_url, api_key, chat_body())
            assert (answer.status, answer.headers["x-tok0n-available"]) == (200, str(5000 - 2 * USAGE_TOTAL))
        assert tok0n_json("ledger", "audit", cwd=tmp_path)["ok"]
        await postgres.drop_database(cluster, name)
