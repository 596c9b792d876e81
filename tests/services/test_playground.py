"""The playground's rules: estimates are limited for each account; each form sends one request, with an active key."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.api_keys import keys_of
from support.fakes import FakeClock, FakeUpstream
from support.gateways import EMAIL, MODEL, InProcess, in_process
from support.ledgers import NOW_US
from support.log_lines import WrittenLines
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.errors import InvalidRequest, LimitReached, UpstreamFailed
from tok0n.domain.forms import Submission
from tok0n.services.api_keys import ApiKeys
from tok0n.services.caller_cache import CallerCache
from tok0n.services.catalogue import Catalogue
from tok0n.services.playground import READS_MAX, READS_SECONDS, Playground
from tok0n.services.request_log import RequestLog
from tok0n.services.requests_in_progress import RequestsInProgress

pytestmark = pytest.mark.anyio

BODY = msgspec.json.encode({"model": "demo", "messages": [{"role": "user", "content": "Hello"}]})


class World(msgspec.Struct, kw_only=True):
    gateway: InProcess
    upstream: FakeUpstream
    clock: FakeClock
    playground: Playground
    account_id: str
    key_id: str
    lines: list[dict[str, Any]]

    def form(self, form_id: str = "x" * 22) -> Submission:
        return Submission(account_id=self.account_id, form="playground", form_id=form_id)


@contextlib.asynccontextmanager
async def open_world(folder: Path, upstream: FakeUpstream) -> AsyncIterator[World]:
    clock = FakeClock(now_us=NOW_US)
    lines = WrittenLines()
    async with in_process(folder, upstream, clock=clock) as gateway:
        db, log = gateway.db, RequestLog(lines.add)
        playground = Playground(
            api_keys=ApiKeys(
                accounts=db.accounts,
                history=SqlHistory(db.store),
                catalogue=Catalogue({MODEL.id: MODEL}, db.models),
                clock=clock,
            ),
            pipeline=gateway.pipeline,
            caller_cache=CallerCache(db.callers, clock),
            forms=SqlForms(db.store),
            request_log=log,
            requests_in_progress=RequestsInProgress(),
            clock=clock,
            status_of=lambda _: 502,
        )
        (key,) = await keys_of(db.accounts, EMAIL)
        yield World(
            gateway=gateway,
            upstream=upstream,
            clock=clock,
            playground=playground,
            account_id=key.account_id,
            key_id=key.id,
            lines=lines,
        )
        await log.aclose()


async def test_estimates_are_limited_for_each_account_and_send_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path, FakeUpstream()) as world:
        for _ in range(READS_MAX):
            assert (await world.playground.estimate("a", CHAT, BODY)).bound > 0
        with pytest.raises(LimitReached, match="Try again in"):
            await world.playground.estimate("a", CHAT, BODY)
        await world.playground.estimate("b", CHAT, BODY)
        world.clock.advance(READS_SECONDS)
        await world.playground.estimate("a", CHAT, BODY)
        assert world.upstream.bodies == []


async def test_one_form_sends_one_request_whatever_comes_at_once_or_later(tmp_path: Path) -> None:
    async with open_world(tmp_path, FakeUpstream()) as world:
        form = world.form()
        results = await asyncio.gather(*(world.playground.send(form, CHAT, world.key_id, BODY) for _ in range(20)))
        assert all(result.answer is not None or result.repeated_id is not None for result in results)
        later = await world.playground.send(form, CHAT, world.key_id, BODY)
        sent = next(result.call for result in results if result.call is not None)
        assert (later.answer, later.repeated_id) == (None, sent.request_id)
        assert len(world.upstream.bodies) == 1
        await world.playground.send(world.form("y" * 22), CHAT, world.key_id, BODY)
        assert len(world.upstream.bodies) == 2
        assert await world.gateway.posted() == 1_000_000 - 2 * 12


async def test_a_request_needs_an_active_key_of_the_account(tmp_path: Path) -> None:
    async with open_world(tmp_path, FakeUpstream()) as world:
        accounts = world.gateway.db.accounts
        stranger = await accounts.create(email="b@x", tokens=0, now_us=1)
        form = Submission(account_id=stranger.id, form="playground", form_id="x" * 22)
        with pytest.raises(InvalidRequest, match="active key"):
            await world.playground.send(form, CHAT, world.key_id, BODY)
        await accounts.revoke_key(account_id=world.account_id, key_id=world.key_id, now_us=1)
        with pytest.raises(InvalidRequest, match="active key"):
            await world.playground.send(world.form(), CHAT, world.key_id, BODY)
        assert world.upstream.bodies == []


async def test_a_failed_request_is_logged_with_its_status_and_not_charged(tmp_path: Path) -> None:
    failure = UpstreamFailed("It failed.", detail="reset", outcome_unknown=True)
    async with open_world(tmp_path, FakeUpstream(failure)) as world:
        result = await world.playground.send(world.form(), CHAT, world.key_id, BODY)
        assert (result.status, result.answer, result.error) == (502, None, failure)
        assert await world.gateway.posted() == 1_000_000
    (line,) = world.lines
    assert (line["status"], line["code"], line["endpoint"]) == (502, "upstream_error", "playground")
