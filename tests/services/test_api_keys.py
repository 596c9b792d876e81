"""The rules of API keys: names, limits, how many an account can have, and no access to the keys of other accounts."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from support.fakes import FakeClock
from support.gateways import MODEL
from support.ledgers import ENGINES, Opened, open_engine, schema
from tok0n.adapters.sql.repositories.history import SqlHistory
from tok0n.domain.accounts import ApiKey, KeyLimits
from tok0n.domain.budgets import BudgetDraft, ResetPeriod
from tok0n.domain.catalogue import EndpointCheck, Verification
from tok0n.domain.errors import AccountSuspended, InvalidRequest, LimitReached, NotFound
from tok0n.domain.key_edits import OPERATOR, KeyEdit
from tok0n.domain.ledger import MICROSECONDS_PER_DAY
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.usage import TOKENS_MAX
from tok0n.services.api_keys import DAYS_MAX, KEYS_MAX, SECRETS_MAX, ApiKeys, KeyDraft
from tok0n.services.catalogue import Catalogue
from tok0n.services.key_rules import NAME_CHARACTERS_MAX, NETWORKS_MAX, NOTE_CHARACTERS_MAX, OVERLAP_DAYS_MAX

pytestmark = pytest.mark.anyio

UNLISTED = msgspec.structs.replace(MODEL, id="unlisted", token_class="premium")
NINE_BUDGETS = (
    *(BudgetDraft(tokens=1, period=period) for period in ResetPeriod),
    *(BudgetDraft(tokens=1, period=period, token_class="premium") for period in ResetPeriod),
    BudgetDraft(tokens=1, token_class="standard"),
)


class World(msgspec.Struct, kw_only=True):
    db: Opened
    clock: FakeClock
    catalogue: Catalogue
    api_keys: ApiKeys

    async def account(self, email: str = "a@x") -> str:
        return (await self.db.accounts.create(email=email, tokens=0, now_us=1)).id


@pytest.fixture(params=ENGINES)
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    async with open_engine(request.param, tmp_path) as db:
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
        api_keys = ApiKeys(
            accounts=db.accounts,
            history=SqlHistory(db.store),
            catalogue=catalogue,
            clock=clock,
            token_classes=TokenClasses({"premium": "Premium tokens"}),
            requests_per_minute_max=60,
        )
        yield World(db=db, clock=clock, catalogue=catalogue, api_keys=api_keys)


async def test_a_key_has_the_name_and_the_limits_of_its_draft(world: World) -> None:
    account_id = await world.account()
    draft = KeyDraft(
        name=" laptop ",
        note=" mine ",
        days=2,
        budgets=(BudgetDraft(tokens=5), BudgetDraft(tokens=7, period=ResetPeriod.DAY, token_class="premium")),
        models=(MODEL.id, MODEL.id),
        endpoints=("chat",),
        networks=("203.0.113.7", "2001:db8::/48", "::ffff:198.51.100.0/120"),
        requests_per_minute=60,
    )
    issued = await world.api_keys.create(account_id, draft, actor="a@x", time_zone="Asia/Kolkata")
    assert issued.secret is not None
    limits = issued.key.limits
    assert (issued.key.name, issued.key.note) == ("laptop", "mine")
    assert (limits.total_budget, limits.models, limits.endpoints) == (5, (MODEL.id,), ("chat",))
    assert limits.networks == ("203.0.113.7/32", "2001:db8::/48", "198.51.100.0/24")
    assert limits.requests_per_minute == 60
    assert {(budget.tokens, budget.period, budget.token_class, budget.time_zone) for budget in limits.budgets} == {
        (5, "total", None, "Asia/Kolkata"),
        (7, "day", "premium", "Asia/Kolkata"),
    }
    assert limits.expires_at_us == world.clock.now_us() + 2 * MICROSECONDS_PER_DAY
    assert await world.api_keys.get(account_id=account_id, key_id=issued.key.id) == issued.key


async def test_a_key_without_limits_has_none(world: World) -> None:
    limits = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key.limits
    assert limits == KeyLimits()


@pytest.mark.parametrize(
    ("draft", "param"),
    [
        (KeyDraft(name=" "), "name"),
        (KeyDraft(name="a\tb"), "name"),
        (KeyDraft(name="n" * (NAME_CHARACTERS_MAX + 1)), "name"),
        (KeyDraft(name="k", days=0), "days"),
        (KeyDraft(name="k", days=DAYS_MAX + 1), "days"),
        (KeyDraft(name="k", note="n" * (NOTE_CHARACTERS_MAX + 1)), "note"),
        (KeyDraft(name="k", budgets=(BudgetDraft(tokens=0),)), "budget"),
        (KeyDraft(name="k", budgets=(BudgetDraft(tokens=TOKENS_MAX + 1),)), "budget"),
        (KeyDraft(name="k", budgets=(BudgetDraft(tokens=1), BudgetDraft(tokens=2))), "budget"),
        (KeyDraft(name="k", budgets=(BudgetDraft(tokens=1, token_class="gold"),)), "budget"),
        (KeyDraft(name="k", budgets=NINE_BUDGETS), "budget"),
        (KeyDraft(name="k", endpoints=("images",)), "endpoints"),
        (KeyDraft(name="k", networks=("10.0.0.1/8",)), "networks"),
        (KeyDraft(name="k", networks=("example.com",)), "networks"),
        (KeyDraft(name="k", networks=tuple(f"10.0.0.{n}" for n in range(NETWORKS_MAX + 1))), "networks"),
        (KeyDraft(name="k", requests_per_minute=0), "requests_per_minute"),
        (KeyDraft(name="k", requests_per_minute=61), "requests_per_minute"),
        (KeyDraft(name="k", models=(UNLISTED.id,)), "models"),
        (KeyDraft(name="k", models=("unknown",)), "models"),
    ],
)
async def test_an_invalid_draft_names_its_parameter_and_creates_nothing(
    world: World, draft: KeyDraft, param: str
) -> None:
    account_id = await world.account()
    with pytest.raises(InvalidRequest) as error:
        await world.api_keys.create(account_id, draft, actor="a@x")
    assert error.value.param == param
    assert await world.api_keys.list_for_account(account_id) == []


async def test_the_operator_may_allow_a_model_that_is_not_listed_yet(world: World) -> None:
    account_id = await world.account()
    issued = await world.api_keys.create(account_id, KeyDraft(name="k", models=(UNLISTED.id,)))
    assert issued.key.limits.models == (UNLISTED.id,)
    with pytest.raises(NotFound, match="declare no model"):
        await world.api_keys.create(account_id, KeyDraft(name="k", models=("unknown",)))


@pytest.mark.parametrize("actor", ["a@x", OPERATOR])
async def test_an_account_has_a_maximum_of_active_keys_and_revoking_one_leaves_room(world: World, actor: str) -> None:
    account_id = await world.account()
    first, *_ = [await world.api_keys.create(account_id, KeyDraft(name="k")) for _ in range(KEYS_MAX)]
    with pytest.raises(LimitReached, match="Revoke one first"):
        await world.api_keys.create(account_id, KeyDraft(name="k"), actor=actor)
    await world.api_keys.revoke(account_id=account_id, key_id=first.key.id)
    await world.api_keys.create(account_id, KeyDraft(name="k"), actor=actor)
    assert len(await world.api_keys.active(account_id)) == KEYS_MAX


async def test_expired_and_revoked_keys_are_not_active(world: World) -> None:
    account_id = await world.account()
    await world.api_keys.create(account_id, KeyDraft(name="expired", days=1))
    revoked = await world.api_keys.create(account_id, KeyDraft(name="revoked"))
    await world.api_keys.revoke(account_id=account_id, key_id=revoked.key.id)
    assert [key.name for key in await world.api_keys.active(account_id)] == ["expired"]
    world.clock.advance(24 * 3600)
    assert await world.api_keys.active(account_id) == []


async def edit(world: World, key: ApiKey, *, actor: str = "a@x", **changes: Any) -> ApiKey:
    return await world.api_keys.edit(
        account_id=key.account_id, key_id=key.id, edit=KeyEdit(**changes), actor=actor, time_zone="Asia/Kolkata"
    )


async def test_an_edit_changes_what_it_names_and_follows_the_rules_of_new_keys(world: World) -> None:
    account_id = await world.account()
    draft = KeyDraft(name="k", note="n", networks=("10.0.0.0/8",), requests_per_minute=5, models=(UNLISTED.id,))
    key = (await world.api_keys.create(account_id, draft)).key
    renamed = await edit(world, key, name=" production ")
    assert renamed == msgspec.structs.replace(key, name="production")
    limited = await edit(world, key, networks=("192.0.2.1",), endpoints=("chat",), models=(UNLISTED.id, MODEL.id))
    assert limited.version == key.version + 1
    assert (limited.limits.networks, limited.limits.endpoints) == (("192.0.2.1/32",), ("chat",))
    assert limited.limits.models == (UNLISTED.id, MODEL.id), "a model that the key has may stay"
    free = await edit(world, key, networks=None, endpoints=None, models=None, requests_per_minute=None)
    assert free.limits == KeyLimits()
    for changes in (
        {"name": ""},
        {"networks": ("x",)},
        {"models": (UNLISTED.id,)},
        {"endpoints": ("x",)},
        {"requests_per_minute": 61},
        {"budgets": NINE_BUDGETS},
    ):
        with pytest.raises(InvalidRequest):
            await edit(world, key, **changes)
    assert await world.api_keys.list_for_account(account_id) == [free]


async def test_a_budget_keeps_its_counters_when_its_tokens_change(world: World) -> None:
    key = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key
    day, total = BudgetDraft(tokens=5, period=ResetPeriod.DAY), BudgetDraft(tokens=9)
    first = (await edit(world, key, budgets=(day,))).limits.budgets
    assert [(budget.tokens, budget.time_zone) for budget in first] == [(5, "Asia/Kolkata")]
    more = await edit(world, key, budgets=(msgspec.structs.replace(day, tokens=6), total))
    assert {(budget.id == first[0].id, budget.tokens) for budget in more.limits.budgets} == {(True, 6), (False, 9)}
    again = await edit(world, key, budgets=(total,))
    assert again.limits.budgets == tuple(budget for budget in more.limits.budgets if budget.tokens == 9)
    readded = await edit(world, key, budgets=(total, day))
    assert first[0].id not in {budget.id for budget in readded.limits.budgets}, "a new budget counts from then on"


async def test_a_disabled_key_is_not_active_until_it_is_enabled(world: World) -> None:
    key = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key
    disabled = await edit(world, key, is_enabled=False)
    assert disabled.disabled_at_us == world.clock.now_us()
    assert await world.api_keys.active(key.account_id) == []
    world.clock.advance(1)
    assert await edit(world, key, is_enabled=False) == disabled, "the first time stays"
    assert (await edit(world, key, is_enabled=True)).disabled_at_us is None


async def test_an_expired_key_can_be_extended_if_the_account_has_room(world: World) -> None:
    account_id = await world.account()
    key = (await world.api_keys.create(account_id, KeyDraft(name="k", days=1))).key
    world.clock.advance(24 * 3600)
    others = [await world.api_keys.create(account_id, KeyDraft(name="k")) for _ in range(KEYS_MAX)]
    with pytest.raises(LimitReached):
        await edit(world, key, expires_at_us=None)
    await world.api_keys.revoke(account_id=account_id, key_id=others[0].key.id)
    assert (await edit(world, key, expires_at_us=None)).is_active(world.clock.now_us())


async def test_a_rotation_ends_the_old_secrets_after_the_overlap(world: World) -> None:
    created = await world.api_keys.create(await world.account(), KeyDraft(name="k"))
    key = created.key

    async def rotate(days: int) -> ApiKey:
        issued = await world.api_keys.rotate(account_id=key.account_id, key_id=key.id, overlap_days=days, actor="a@x")
        assert issued.secret is not None
        assert issued.secret.endswith(issued.key.last_four)
        assert issued.secret != created.secret
        return issued.key

    now_us = world.clock.now_us()
    rotated = await rotate(2)
    assert [secret.ends_at_us for secret in rotated.secrets] == [None, now_us + 2 * MICROSECONDS_PER_DAY]
    assert rotated.version == key.version + 1
    world.clock.advance(1)
    later_us = world.clock.now_us()
    ends = [secret.ends_at_us for secret in (await rotate(OVERLAP_DAYS_MAX)).secrets]
    assert ends == [None, later_us + OVERLAP_DAYS_MAX * MICROSECONDS_PER_DAY, now_us + 2 * MICROSECONDS_PER_DAY]
    for _ in range(SECRETS_MAX - 3):
        world.clock.advance(1)
        await rotate(1)
    with pytest.raises(LimitReached, match="overlap of 0 days"):
        await rotate(1)
    assert [secret.ends_at_us for secret in (await rotate(0)).secrets] == [None], "secrets that ended are deleted"
    for days in (-1, OVERLAP_DAYS_MAX + 1):
        with pytest.raises(InvalidRequest):
            await rotate(days)


async def test_a_revoked_key_can_neither_be_edited_nor_rotated(world: World) -> None:
    key = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key
    await world.api_keys.revoke(account_id=key.account_id, key_id=key.id)
    with pytest.raises(InvalidRequest, match="revoked"):
        await edit(world, key, name="n")
    with pytest.raises(InvalidRequest, match="revoked"):
        await world.api_keys.rotate(account_id=key.account_id, key_id=key.id, overlap_days=0, actor="a@x")


async def test_a_suspended_account_keeps_its_keys_as_they_are_and_the_operator_may_change_them(world: World) -> None:
    key = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key
    suspend = sa.update(schema.account).values(status="suspended")
    await world.db.store.write(lambda tx: tx.execute(suspend) and None)
    with pytest.raises(AccountSuspended):
        await edit(world, key, name="n")
    with pytest.raises(AccountSuspended):
        await world.api_keys.rotate(account_id=key.account_id, key_id=key.id, overlap_days=0, actor="a@x")
    assert (await edit(world, key, name="n", actor=OPERATOR)).name == "n"


async def test_every_change_is_one_row_of_the_activity_and_no_row_has_a_secret(world: World) -> None:
    history = SqlHistory(world.db.store)
    account_id = await world.account()
    created = await world.api_keys.create(account_id, KeyDraft(name="k", networks=("10.0.0.0/8",)), actor="a@x")
    key = created.key
    await edit(world, key, name="n", is_enabled=False)
    await edit(world, key, name="n", is_enabled=False)
    await edit(world, key, budgets=(BudgetDraft(tokens=5, period=ResetPeriod.WEEK),), actor=OPERATOR)
    rotated = await world.api_keys.rotate(account_id=account_id, key_id=key.id, overlap_days=1, actor="a@x")
    for _ in range(2):
        await world.api_keys.revoke(account_id=account_id, key_id=key.id, actor="a@x")
    rows = await history.activity(account_id, before=None, rows_max=10)
    assert [(row.action, row.actor) for row in rows] == [
        ("key_revoked", "a@x"),
        ("key_rotated", "a@x"),
        ("key_edited", OPERATOR),
        ("key_edited", "a@x"),
        ("key_created", "a@x"),
    ]
    assert {(row.api_key_id, row.key_name, row.created_at_us) for row in rows} == {(key.id, "n", world.clock.now_us())}
    assert (rows[3].before, rows[3].after) == ({"name": "k", "enabled": True}, {"name": "n", "enabled": False})
    assert (rows[2].before, rows[2].after["budgets"][0]["period"]) == ({"budgets": []}, "week")
    assert rows[4].after["networks"] == ["10.0.0.0/8"]
    assert await history.activity(account_id, before=rows[2].id, rows_max=1) == [rows[3]]
    assert await history.activity(await world.account("b@x"), before=None, rows_max=10) == []
    written = str(await world.db.rows(schema.activity))
    assert created.secret is not None
    assert rotated.secret is not None
    for secret in (created.secret, rotated.secret):
        assert secret[9:20] not in written


async def test_no_account_reads_edits_rotates_or_revokes_a_key_of_another(world: World) -> None:
    key = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key
    stranger = await world.account("b@x")
    assert await world.api_keys.list_for_account(stranger) == []
    for attempt in (
        world.api_keys.get(account_id=stranger, key_id=key.id),
        world.api_keys.edit(account_id=stranger, key_id=key.id, edit=KeyEdit(name="mine"), actor="b@x"),
        world.api_keys.rotate(account_id=stranger, key_id=key.id, overlap_days=0, actor="b@x"),
        world.api_keys.revoke(account_id=stranger, key_id=key.id, actor="b@x"),
    ):
        with pytest.raises(NotFound):
            await attempt
    assert await world.api_keys.list_for_account(key.account_id) == [key]


async def test_the_operator_finds_a_key_by_its_id_alone(world: World) -> None:
    key = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key
    assert await world.api_keys.get_any(key.id) == key
    with pytest.raises(NotFound, match="tok0n keys list"):
        await world.api_keys.get_any("key_x")


async def test_a_second_revocation_keeps_the_time_of_the_first(world: World) -> None:
    key = (await world.api_keys.create(await world.account(), KeyDraft(name="k"))).key
    first = await world.api_keys.revoke(account_id=key.account_id, key_id=key.id)
    world.clock.advance(1)
    second = await world.api_keys.revoke(account_id=key.account_id, key_id=key.id)
    assert second.revoked_at_us == first.revoked_at_us is not None
