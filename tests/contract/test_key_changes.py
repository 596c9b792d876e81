"""A change of a key binds from the next request on in every process, and a request that meets one keeps nothing."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.api_keys import budget, create_key, edit_key, keys_of, rotate_key
from support.endpoint_cases import CHAT_CASE
from support.fakes import FakeClock, FakeUpstream
from support.gateways import EMAIL, InProcess, in_process
from support.ledgers import ENGINES, open_engine, schema
from support.limiters import KINDS, open_limiter, slots
from support.streaming import streaming_reader
from tok0n.adapters.sql.repositories.accounts import SqlAccounts
from tok0n.adapters.sql.sqlite.store import SqliteStore
from tok0n.domain.accounts import ApiKey, Caller, KeyLimits
from tok0n.domain.answers import Answer
from tok0n.domain.budgets import BudgetDraft, ResetPeriod
from tok0n.domain.endpoints.chat import CHAT
from tok0n.domain.errors import (
    InsufficientTokens,
    InvalidApiKey,
    KeyBudgetSpent,
    KeyNotAllowed,
    Overloaded,
    RateLimited,
    Tok0nError,
)
from tok0n.ports.accounts import Accounts
from tok0n.services.call import Call
from tok0n.services.catalogue import Catalogue
from tok0n.services.pipeline import KEY_CHANGES_MAX
from tok0n.services.relay import StreamedAnswer
from tok0n.services.request_reader import RequestReader

pytestmark = pytest.mark.anyio

BODY = msgspec.json.encode(
    {"model": "demo", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 50}
)
RESERVED = len("user") + len("Hello") + 16 + 512 + 50


@contextlib.asynccontextmanager
async def other_process(engine: str, folder: Path) -> AsyncIterator[Accounts]:
    """The accounts as another process has them. SQLite has one server, and the command line beside it."""
    if engine == "postgres":
        async with open_engine(engine, folder) as other:
            yield other.accounts
    else:
        store = SqliteStore(folder / "ledger.db", serving=False)
        yield SqlAccounts(store)
        await store.aclose()


@contextlib.asynccontextmanager
async def opened(
    folder: Path,
    *,
    engine: str = "sqlite",
    kind: str = "memory",
    key: int = 10,
    make_reader: Callable[[Catalogue], RequestReader] = RequestReader,
    upstream: FakeUpstream | None = None,
) -> AsyncIterator[tuple[InProcess, ApiKey, FakeClock]]:
    """A gateway that caches callers, and its key."""
    clock = FakeClock()
    async with (
        open_limiter(kind, clock, key=key, user=1, upstream=10) as limiter,
        in_process(
            folder, upstream or FakeUpstream(), clock=clock, limiter=limiter, engine=engine, make_reader=make_reader
        ) as gateway,
    ):
        await gateway.pipeline._caller_cache.refresh()
        yield gateway, (await keys_of(gateway.db.accounts, EMAIL))[0], clock


async def authenticated(gateway: InProcess, authorization: bytes | None = None) -> tuple[Call, Caller]:
    call = gateway.pipeline.new_call("chat")
    return call, await gateway.pipeline.authenticate(call, authorization or gateway.authorization)


async def serve(gateway: InProcess, call: Call, caller: Caller) -> Tok0nError | None:
    """The error of a request, or None. The client IP is 203.0.113.7."""
    call.find_client_ip = lambda: "203.0.113.7"
    try:
        answer = await gateway.pipeline.serve(CHAT, call, caller, BODY)
        assert isinstance(answer, Answer)
    except Tok0nError as error:
        return error
    return None


Change = Callable[[Accounts, ApiKey], Awaitable[object]]

NARROWER: dict[str, tuple[Change, type[Tok0nError], str | None]] = {
    "revoked": (
        lambda accounts, key: accounts.revoke_key(account_id=key.account_id, key_id=key.id, now_us=2),
        InvalidApiKey,
        None,
    ),
    "disabled": (lambda accounts, key: edit_key(accounts, key, is_enabled=False), InvalidApiKey, None),
    "rotated without overlap": (
        lambda accounts, key: rotate_key(accounts, key, now_us=2, ends_at_us=2),
        InvalidApiKey,
        None,
    ),
    "expired": (lambda accounts, key: edit_key(accounts, key, expires_at_us=5), InvalidApiKey, None),
    "model": (lambda accounts, key: edit_key(accounts, key, models=("other",)), KeyNotAllowed, "model"),
    "endpoint": (lambda accounts, key: edit_key(accounts, key, endpoints=("messages",)), KeyNotAllowed, "endpoint"),
    "network": (lambda accounts, key: edit_key(accounts, key, networks=("10.0.0.0/8",)), KeyNotAllowed, "network"),
    "budget": (
        lambda accounts, key: edit_key(accounts, key, budgets=(BudgetDraft(tokens=5, period=ResetPeriod.DAY),)),
        KeyBudgetSpent,
        "budget",
    ),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("change", NARROWER)
async def test_a_narrower_key_binds_the_next_request_in_another_process(
    tmp_path: Path, engine: str, change: str
) -> None:
    apply, expected, param = NARROWER[change]
    async with opened(tmp_path, engine=engine) as (gateway, key, clock), other_process(engine, tmp_path) as accounts:
        call, caller = await authenticated(gateway)
        assert gateway.pipeline.cached_caller(call, gateway.authorization) is caller
        await apply(accounts, key)
        stale = gateway.pipeline.cached_caller(call, gateway.authorization)
        assert stale is caller, "the cache has not been refreshed"
        error = await serve(gateway, call, stale)
        assert type(error) is expected
        assert getattr(error, "param", None) == param
        assert gateway.upstream.bodies == []
        assert await gateway.db.rows(schema.request) == []
        assert await slots(gateway.limiter, clock, key.account_id) == (0, 0)
        counted = 1 if expected is KeyBudgetSpent else 0  # The second start was admitted, and counts as any request.
        assert (await gateway.limiter.state(caller)).remaining == 10 - counted
        assert (await gateway.db.ledger.audit()).ok


@pytest.mark.parametrize("kind", KINDS)
async def test_a_request_that_still_may_is_served_once_and_counts_once(tmp_path: Path, kind: str) -> None:
    async with opened(tmp_path, kind=kind, key=2) as (gateway, key, clock):
        call, stale = await authenticated(gateway)
        await edit_key(gateway.db.accounts, key, networks=("203.0.113.0/24",), models=("demo",), endpoints=("chat",))
        assert await serve(gateway, call, stale) is None
        assert call.rate is not None
        assert (call.rate.limit, call.rate.remaining) == (2, 1)
        assert call.caller is not None
        assert call.caller.models == ("demo",)
        (row,) = await gateway.db.rows(schema.request)
        assert (row["id"], row["status"], row["charged"]) == (call.request_id, "SETTLED", 12)
        assert await slots(gateway.limiter, clock, key.account_id) == (0, 1)
        call, caller = await authenticated(gateway)
        assert await serve(gateway, call, caller) is None
        call, caller = await authenticated(gateway)
        assert isinstance(await serve(gateway, call, caller), RateLimited)


async def test_a_stream_starts_again_with_the_key_as_it_is_now(tmp_path: Path) -> None:
    async with opened(tmp_path, make_reader=streaming_reader) as (gateway, key, _):
        for models, expected in ((("demo",), None), (("other",), KeyNotAllowed)):
            call, stale = await authenticated(gateway)
            await edit_key(gateway.db.accounts, key, models=models)
            serving = asyncio.ensure_future(gateway.pipeline.serve(CHAT, call, stale, CHAT_CASE.body(is_stream=True)))
            if expected is not None:
                with pytest.raises(expected):
                    await serving
                continue
            upstream = await gateway.upstream.next_stream()
            upstream.send(CHAT_CASE.streaming.whole)
            upstream.end()
            answer = await serving
            assert isinstance(answer, StreamedAnswer)
            assert await answer.task is None
            answer.body.close()
        rows = [(row["status"], row["charged"]) for row in await gateway.db.rows(schema.request)]
        assert rows == [("SETTLED", CHAT_CASE.charged)]
        assert len(gateway.streams) == 0


async def test_a_key_that_changes_again_and_again_is_not_retried_forever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path) as (gateway, key, clock):
        call, caller = await authenticated(gateway)
        read_again = gateway.pipeline._caller_cache.read_again
        reads = 0

        async def change_after(stale: Caller) -> Caller:
            nonlocal reads
            reads += 1
            fresh = await read_again(stale)
            await edit_key(gateway.db.accounts, key, requests_per_minute=reads + 5)
            return fresh

        monkeypatch.setattr(gateway.pipeline._caller_cache, "read_again", change_after)
        await edit_key(gateway.db.accounts, key, requests_per_minute=5)
        assert isinstance(await serve(gateway, call, caller), Overloaded)
        assert reads == KEY_CHANGES_MAX + 1
        assert await slots(gateway.limiter, clock, key.account_id) == (0, 0)
        assert await gateway.db.rows(schema.request) == []


async def test_a_wider_key_is_served_after_a_refresh(tmp_path: Path) -> None:
    async with opened(tmp_path) as (gateway, key, _), other_process("sqlite", tmp_path) as accounts:
        await edit_key(accounts, key, models=("other",))
        call, caller = await authenticated(gateway)
        assert isinstance(await serve(gateway, call, caller), KeyNotAllowed)
        await edit_key(accounts, key, models=None)
        await gateway.pipeline._caller_cache.refresh()
        call, caller = await authenticated(gateway)
        assert await serve(gateway, call, caller) is None


async def test_both_secrets_of_a_rotated_key_work_until_the_old_one_ends(tmp_path: Path) -> None:
    async with opened(tmp_path) as (gateway, key, clock):
        ends_at_us = clock.now_us() + 60_000_000
        secret = await rotate_key(gateway.db.accounts, key, now_us=clock.now_us(), ends_at_us=ends_at_us)
        await gateway.pipeline._caller_cache.refresh()
        new = b"Bearer " + secret.encode()
        for authorization in (gateway.authorization, new):
            call, caller = await authenticated(gateway, authorization)
            assert caller.api_key_id == key.id
            assert await serve(gateway, call, caller) is None
            assert gateway.pipeline.cached_caller(call, authorization) is not None
        clock.advance(60)
        assert gateway.pipeline.cached_caller(call, gateway.authorization) is None
        with pytest.raises(InvalidApiKey):
            await authenticated(gateway)
        await authenticated(gateway, new)
        await edit_key(gateway.db.accounts, key, is_enabled=False)
        await gateway.pipeline._caller_cache.refresh()
        assert len(gateway.pipeline._caller_cache) == 0, "a change evicts every secret of the key"
        with pytest.raises(InvalidApiKey, match="disabled"):
            await authenticated(gateway, new)


@pytest.mark.parametrize("engine", ENGINES)
async def test_200_racing_requests_on_a_budget_for_one_serve_exactly_one(tmp_path: Path, engine: str) -> None:
    gate = asyncio.Event()
    async with in_process(tmp_path, FakeUpstream(gate=gate), engine=engine) as gateway:
        _, secret = await create_key(
            gateway.db.accounts, EMAIL, limits=KeyLimits(budgets=(budget(RESERVED, ResetPeriod.DAY), budget(10**6)))
        )
        racing = []
        for _ in range(200):
            call, caller = await authenticated(gateway, b"Bearer " + secret.encode())
            racing.append(asyncio.create_task(serve(gateway, call, caller)))
        rejected = 0
        while rejected < 199:
            done, _ = await asyncio.wait(racing, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                racing.remove(task)
                error = task.result()
                assert isinstance(error, KeyBudgetSpent)
                assert f"budget of {RESERVED} tokens per day" in error.message
                assert "It resets at" in error.message
                rejected += 1
        gate.set()
        assert await racing[0] is None
        assert len(gateway.upstream.bodies) == 1
        assert (await gateway.db.ledger.audit()).ok


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_budget_that_resets_while_a_reservation_is_open_counts_it_where_it_was_reserved(
    tmp_path: Path, engine: str
) -> None:
    gate = asyncio.Event()
    async with opened(tmp_path, engine=engine, upstream=FakeUpstream(gate=gate)) as (gateway, key, clock):
        daily = BudgetDraft(tokens=RESERVED + 12, period=ResetPeriod.DAY)
        await edit_key(gateway.db.accounts, key, budgets=(daily,))
        call, caller = await authenticated(gateway)
        first = asyncio.create_task(serve(gateway, call, caller))
        while not gateway.upstream.bodies:
            await asyncio.sleep(0)
        (period,) = await gateway.db.rows(schema.budget_period)
        assert (period["spent"], period["pending"]) == (0, RESERVED)
        clock.advance((period["ends_at_us"] - clock.now_us()) / 1_000_000)
        gate.set()
        assert await first is None
        call, caller = await authenticated(gateway)
        assert await serve(gateway, call, caller) is None
        periods = sorted(await gateway.db.rows(schema.budget_period), key=lambda row: row["starts_at_us"])
        assert [(row["spent"], row["pending"]) for row in periods] == [(12, 0), (12, 0)]
        assert periods[1]["starts_at_us"] == period["ends_at_us"]
        assert (await gateway.db.ledger.audit()).ok


@pytest.mark.parametrize("engine", ENGINES)
async def test_concurrent_edits_lose_no_change_and_each_is_logged(tmp_path: Path, engine: str) -> None:
    async with opened(tmp_path, engine=engine) as (gateway, key, _), other_process(engine, tmp_path) as accounts:
        edits: list[dict[str, Any]] = [
            {"name": "n"},
            {"note": "of both"},
            {"models": ("demo",)},
            {"endpoints": ("chat",)},
            {"networks": ("10.0.0.0/8",)},
            {"requests_per_minute": 7},
            {"expires_at_us": 2**50},
            {"budgets": (BudgetDraft(tokens=5),)},
        ]
        await asyncio.gather(
            *(
                edit_key(gateway.db.accounts if number % 2 else accounts, key, **edit)
                for number, edit in enumerate(edits)
            )
        )
        (edited,) = await keys_of(gateway.db.accounts, EMAIL)
        assert (edited.name, edited.note) == ("n", "of both")
        assert [budget.tokens for budget in edited.limits.budgets] == [5]
        assert msgspec.structs.replace(edited.limits, budgets=()) == KeyLimits(
            models=("demo",),
            endpoints=("chat",),
            networks=("10.0.0.0/8",),
            requests_per_minute=7,
            expires_at_us=2**50,
        )
        assert edited.version == key.version + len(edits) - 2, "a name or a note is no change of what the key may do"
        rows = [row for row in await gateway.db.rows(schema.activity) if row["action"] == "key_edited"]
        assert sorted(name for row in rows for name in msgspec.json.decode(row["after"])) == sorted(
            "expires_at" if name == "expires_at_us" else name for edit in edits for name in edit
        )


@pytest.mark.parametrize("engine", ENGINES)
async def test_requests_race_with_changes_of_their_key_and_nothing_is_lost(tmp_path: Path, engine: str) -> None:
    async with (
        in_process(tmp_path, FakeUpstream(), engine=engine) as gateway,
        other_process(engine, tmp_path) as accounts,
    ):
        await gateway.pipeline._caller_cache.refresh()
        (key,) = await keys_of(gateway.db.accounts, EMAIL)
        await edit_key(accounts, key, budgets=(BudgetDraft(tokens=10**6),))
        errors: list[type[Tok0nError]] = []

        async def request_often() -> None:
            for _ in range(15):
                call = gateway.pipeline.new_call("chat")
                caller = gateway.pipeline.cached_caller(call, gateway.authorization)
                try:
                    caller = caller or await gateway.pipeline.authenticate(call, gateway.authorization)
                    error = await serve(gateway, call, caller)
                except Tok0nError as raised:
                    error = raised
                if error is not None:
                    errors.append(type(error))

        async def change_often() -> None:
            for number in range(12):
                daily = BudgetDraft(tokens=10**6 + number, period=ResetPeriod.DAY)
                await edit_key(accounts, key, budgets=(BudgetDraft(tokens=10**6 - number), daily)[: 1 + number % 2])
                await edit_key(accounts, key, is_enabled=bool(number % 3))
            await edit_key(accounts, key, is_enabled=True)

        await asyncio.gather(change_often(), *(request_often() for _ in range(10)))
        assert set(errors) <= {InvalidApiKey, Overloaded}, "disabled, or changed too often at once"
        settled = [row for row in await gateway.db.rows(schema.request) if row["status"] == "SETTLED"]
        assert len(settled) == len(gateway.upstream.bodies) == 150 - len(errors)
        assert await gateway.posted() == 1_000_000 - 12 * len(settled)
        assert await gateway.pending() == 0
        assert (await gateway.db.ledger.audit()).ok


async def test_the_account_still_limits_a_key_with_a_budget(tmp_path: Path) -> None:
    async with in_process(tmp_path, FakeUpstream(), tokens=10) as gateway:
        key = (await keys_of(gateway.db.accounts, EMAIL))[0]
        await edit_key(gateway.db.accounts, key, budgets=(BudgetDraft(tokens=10**6),))
        call, caller = await authenticated(gateway)
        assert isinstance(await serve(gateway, call, caller), InsufficientTokens)
