"""The rules of API keys: names, limits, how many an account can have, and no access to the keys of other accounts."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from support.fakes import FakeClock
from support.gateways import MODEL
from support.ledgers import Opened, open_engine
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.domain.catalogue import EndpointCheck, Verification
from tok0n.domain.errors import InvalidRequest, LimitReached, NotFound
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.usage import TOKENS_MAX
from tok0n.services.api_keys import DAYS_MAX, KEYS_MAX, NAME_CHARACTERS_MAX, ApiKeys, KeyDraft
from tok0n.services.catalogue import Catalogue

pytestmark = pytest.mark.anyio

UNLISTED = msgspec.structs.replace(MODEL, id="unlisted")


class World(msgspec.Struct, kw_only=True):
    db: Opened
    clock: FakeClock
    catalogue: Catalogue
    api_keys: ApiKeys

    async def account(self, email: str = "a@x") -> str:
        return (await self.db.accounts.create(email=email, tokens=0, now_us=1)).id


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with open_engine("sqlite", tmp_path) as db:
        clock = FakeClock()
        await db.models.record(
            Verification(
                model=MODEL.id,
                fingerprint=MODEL.fingerprint,
                checked_at_us=1,
                endpoints={"chat": EndpointCheck(checks={"ok": True}, latency_ms=1)},
            )
        )
        catalogue = Catalogue({MODEL.id: MODEL, UNLISTED.id: UNLISTED}, db.models)
        await catalogue.refresh()
        api_keys = ApiKeys(accounts=db.accounts, history=SqlHistory(db.store), catalogue=catalogue, clock=clock)
        yield World(db=db, clock=clock, catalogue=catalogue, api_keys=api_keys)


async def test_a_key_has_the_name_and_the_limits_of_its_draft(world: World) -> None:
    account_id = await world.account()
    draft = KeyDraft(name=" laptop ", days=2, budget=5, models=(MODEL.id, MODEL.id))
    issued = await world.api_keys.create(account_id, draft)
    assert issued.secret is not None
    assert (issued.key.name, issued.key.limits.total_budget, issued.key.limits.models) == ("laptop", 5, (MODEL.id,))
    assert issued.key.limits.expires_at_us == world.clock.now_us() + 2 * MICROSECONDS_PER_DAY
    assert await world.api_keys.get(account_id=account_id, key_id=issued.key.id) == issued.key


async def test_a_key_without_limits_has_none(world: World) -> None:
    limits = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key.limits
    assert (limits.expires_at_us, limits.total_budget, limits.models) == (None, None, None)


@pytest.mark.parametrize(
    ("draft", "param"),
    [
        (KeyDraft(name=" "), "name"),
        (KeyDraft(name="a\tb"), "name"),
        (KeyDraft(name="n" * (NAME_CHARACTERS_MAX + 1)), "name"),
        (KeyDraft(name="k", days=0), "days"),
        (KeyDraft(name="k", days=DAYS_MAX + 1), "days"),
        (KeyDraft(name="k", budget=0), "budget"),
        (KeyDraft(name="k", budget=TOKENS_MAX + 1), "budget"),
        (KeyDraft(name="k", models=(UNLISTED.id,)), "models"),
        (KeyDraft(name="k", models=("unknown",)), "models"),
    ],
)
async def test_an_invalid_draft_names_its_parameter_and_creates_nothing(
    world: World, draft: KeyDraft, param: str
) -> None:
    account_id = await world.account()
    with pytest.raises(InvalidRequest) as error:
        await world.api_keys.create(account_id, draft)
    assert error.value.param == param
    assert await world.api_keys.of(account_id) == []


async def test_the_operator_may_allow_a_model_that_is_not_listed_yet(world: World) -> None:
    account_id = await world.account()
    issued = await world.api_keys.create(account_id, KeyDraft(name="k", models=(UNLISTED.id,)), is_operator=True)
    assert issued.key.limits.models == (UNLISTED.id,)
    with pytest.raises(NotFound, match="declare no model"):
        await world.api_keys.create(account_id, KeyDraft(name="k", models=("unknown",)), is_operator=True)


@pytest.mark.parametrize("is_operator", [False, True])
async def test_an_account_has_a_maximum_of_active_keys_and_revoking_one_leaves_room(
    world: World, *, is_operator: bool
) -> None:
    account_id = await world.account()
    first, *_ = [await world.api_keys.create(account_id, KeyDraft(name="k")) for _ in range(KEYS_MAX)]
    with pytest.raises(LimitReached, match="Revoke one first"):
        await world.api_keys.create(account_id, KeyDraft(name="k"), is_operator=is_operator)
    await world.api_keys.revoke(account_id=account_id, key_id=first.key.id)
    await world.api_keys.create(account_id, KeyDraft(name="k"), is_operator=is_operator)
    assert len(await world.api_keys.active(account_id)) == KEYS_MAX


async def test_expired_and_revoked_keys_are_not_active(world: World) -> None:
    account_id = await world.account()
    await world.api_keys.create(account_id, KeyDraft(name="expired", days=1))
    revoked = await world.api_keys.create(account_id, KeyDraft(name="revoked"))
    await world.api_keys.revoke(account_id=account_id, key_id=revoked.key.id)
    assert [key.name for key in await world.api_keys.active(account_id)] == ["expired"]
    world.clock.advance(24 * 3600)
    assert await world.api_keys.active(account_id) == []


async def test_renaming_follows_the_rule_of_names(world: World) -> None:
    account_id = await world.account()
    key = (await world.api_keys.create(account_id, KeyDraft(name="k"))).key
    await world.api_keys.rename(account_id=account_id, key_id=key.id, name=" production ")
    with pytest.raises(InvalidRequest):
        await world.api_keys.rename(account_id=account_id, key_id=key.id, name="")
    assert [key.name for key in await world.api_keys.of(account_id)] == ["production"]


async def test_no_account_reads_renames_or_revokes_a_key_of_another(world: World) -> None:
    key = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key
    stranger = await world.account("b@x")
    assert await world.api_keys.of(stranger) == []
    for attempt in (
        world.api_keys.get(account_id=stranger, key_id=key.id),
        world.api_keys.rename(account_id=stranger, key_id=key.id, name="mine"),
        world.api_keys.revoke(account_id=stranger, key_id=key.id),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await world.api_keys.of(key.account_id) == [key]


async def test_the_operator_revokes_a_key_by_its_id_alone(world: World) -> None:
    key = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key
    first = await world.api_keys.revoke_any(key.id)
    world.clock.advance(1)
    assert (await world.api_keys.revoke_any(key.id)).revoked_at_us == first.revoked_at_us is not None
    with pytest.raises(NotFound, match="tok0n keys list"):
        await world.api_keys.revoke_any("key_x")
