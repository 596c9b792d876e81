"""Limits of an account hold however many requests arrive at once: nothing is counted outside the account's lock."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from support.api_keys import keys_of
from support.fakes import FakeClock
from support.ledgers import ENGINES, NOW_US, Opened, open_engine, outcome, schema
from tok0n.adapters.sql.repositories.balance_alerts import SqlBalanceAlerts
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.adapters.sql.repositories.users import SqlUsers
from tok0n.domain.accounts import Account, ApiKey, KeyLimits
from tok0n.domain.errors import AlreadyExists, LimitReached, NotFound
from tok0n.domain.forms import Submission
from tok0n.domain.notices import BalanceAlert
from tok0n.domain.users import LinkPurpose
from tok0n.services.api_keys import ApiKeys, IssuedKey, KeyDraft
from tok0n.services.catalogue import Catalogue
from tok0n.services.forms import new_form_id

pytestmark = pytest.mark.anyio

KEYS_MAX = 25
"""No multiple of the pool's 10 connections, which would race in step and stop at the limit by chance."""
NO_LIMITS = KeyLimits()


@pytest.fixture(params=ENGINES)
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    async with open_engine(request.param, tmp_path) as opened:
        await opened.open_connections()
        yield opened


async def create_key(db: Opened, number: int, *, limits: KeyLimits = NO_LIMITS) -> ApiKey:
    return await db.accounts.create_key(
        account_id=(await db.accounts.get("a@x")).id,
        name=str(number),
        digest=str(number).encode(),
        prefix="p",
        last_four="0",
        now_us=NOW_US,
        limits=limits,
        keys_max=KEYS_MAX,
    )


async def test_an_account_never_has_more_keys_than_allowed(db: Opened) -> None:
    await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    results = await asyncio.gather(*(outcome(create_key(db, number)) for number in range(3 * KEYS_MAX)))
    assert Counter(map(type, results)) == {ApiKey: KEYS_MAX, LimitReached: 2 * KEYS_MAX}
    assert len(await keys_of(db.accounts, "a@x")) == KEYS_MAX


async def test_keys_that_were_revoked_or_have_expired_leave_room(db: Opened) -> None:
    await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    revoked = await create_key(db, 0)
    await db.accounts.revoke_key(account_id=revoked.account_id, key_id=revoked.id, now_us=NOW_US)
    await create_key(db, 1, limits=KeyLimits(expires_at_us=NOW_US))
    for number in range(KEYS_MAX):
        await create_key(db, 2 + number)
    with pytest.raises(LimitReached, match="25 active API keys"):
        await create_key(db, 2 + KEYS_MAX)


async def test_an_account_that_is_being_closed_keeps_no_key_that_works(db: Opened) -> None:
    users = SqlUsers(db.store)
    user = await users.register(email="a@x", password_hash="x", now_us=NOW_US)
    await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    await users.create_link(
        user_id=user.id, purpose=LinkPurpose.VERIFY, digest=b"l", expires_at_us=NOW_US + 1, email=None
    )
    await users.verify(b"l", now_us=NOW_US, may_open=True)
    results = await asyncio.gather(
        *(outcome(create_key(db, number)) for number in range(10)),
        users.close_account(user_id=user.id, now_us=NOW_US),
        *(outcome(create_key(db, number)) for number in range(10, 20)),
    )
    assert {type(result) for result in results} <= {ApiKey, NotFound, type(None)}
    assert not [key for key in await keys_of(db.accounts, "a@x") if key.is_active(NOW_US)]


async def test_a_form_that_is_submitted_many_times_at_once_creates_one_key_and_shows_its_secret(db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    submission = Submission(account_id=account.id, form="api_key", form_id=new_form_id())
    clock = FakeClock(now_us=NOW_US)

    async def submit() -> IssuedKey:
        api_keys = ApiKeys(
            accounts=db.accounts, history=SqlHistory(db.store), catalogue=Catalogue({}, db.models), clock=clock
        )
        return await api_keys.create(account.id, KeyDraft(name="k"), submission=submission)

    issued = await asyncio.gather(*(submit() for _ in range(50)))
    assert len({new.secret for new in issued}) == len({new.key.id for new in issued}) == 1
    assert Counter(new.is_repetition for new in issued) == {False: 1, True: 49}
    assert len(await keys_of(db.accounts, "a@x")) == 1
    clock.advance(600)
    later = await submit()
    assert (later.key.id, later.secret) == (issued[0].key.id, None)


async def test_one_account_of_an_address_is_opened_once(db: Opened) -> None:
    tries = [outcome(db.accounts.create(email="a@x", tokens=5, now_us=NOW_US)) for _ in range(20)]
    results = await asyncio.gather(*tries)
    assert sum(isinstance(result, AlreadyExists) for result in results) == 19
    assert (await db.accounts.get("a@x")).balance.posted == 5


async def test_an_account_that_is_opened_while_its_address_is_confirmed_is_opened_once(db: Opened) -> None:
    users = SqlUsers(db.store)
    for number in range(20):
        email, link = f"{number}@x", str(number).encode()
        user = await users.register(email=email, password_hash="x", now_us=NOW_US)
        await users.create_link(
            user_id=user.id, purpose=LinkPurpose.VERIFY, digest=link, expires_at_us=NOW_US + 1, email=None
        )
        created, verified = await asyncio.gather(
            outcome(db.accounts.create(email=email, tokens=0, now_us=NOW_US)),
            outcome(users.verify(link, now_us=NOW_US, may_open=True)),
        )
        assert isinstance(created, Account | AlreadyExists), created
        assert verified.account_id == (await db.accounts.get(email)).id


async def test_alerts_that_are_replaced_many_times_at_once_are_replaced_whole(db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=100, now_us=NOW_US)
    alerts = SqlBalanceAlerts(db.store)
    results = await asyncio.gather(
        *(outcome(alerts.replace(account.id, [BalanceAlert(threshold_tokens=n)])) for n in range(1, 31))
    )
    assert set(results) == {None}
    assert len(await db.rows(schema.balance_alert)) == 1


async def test_a_model_that_is_enabled_and_disabled_at_once_loses_no_change_of_another(db: Opened) -> None:
    await asyncio.gather(
        *(db.models.set_enabled(model=f"m{number % 3}", enabled=bool(number % 2)) for number in range(30))
    )
    assert set(await db.models.states()) == {"m0", "m1", "m2"}
