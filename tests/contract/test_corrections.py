"""The operator's corrections: never below available, under any race, and every one says who made it and why."""

import asyncio
import json
from typing import Any

import pytest
import sqlalchemy as sa

from support.fakes import FakeClock
from support.ledgers import NOW_US, Opened, schema
from support.spending import reserve, spend
from tok0n.adapters.sql.repositories.corrections import SqlCorrections
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.adapters.sql.repositories.statement import SqlStatements
from tok0n.domain.errors import (
    AccountSuspended,
    InsufficientTokens,
    InvalidApiKey,
    InvalidRequest,
    NotFound,
    OperatorError,
)
from tok0n.domain.key_edits import OPERATOR
from tok0n.domain.ledger import STANDARD, Balance, EntryKind, Settlement
from tok0n.domain.orders import Payment
from tok0n.domain.packs import Pack
from tok0n.domain.token_classes import TokenClasses
from tok0n.domain.usage import TOKENS_MAX, Usage
from tok0n.services.caller_cache import require_usable
from tok0n.services.operate_accounts import OperateAccounts

pytestmark = pytest.mark.anyio

PREMIUM = "premium"
PACK = Pack(id="p", name="Pack", tokens=5, price_usd_cents=500)


@pytest.fixture
def operate(db: Opened) -> OperateAccounts:
    return OperateAccounts(
        db.accounts,
        FakeClock(),
        corrections=SqlCorrections(db.store),
        token_classes=TokenClasses({PREMIUM: "Premium tokens"}),
    )


@pytest.mark.parametrize("token_class", [STANDARD, PREMIUM])
async def test_an_adjustment_goes_up_and_down_with_its_reason_and_author(
    db: Opened, operate: OperateAccounts, token_class: str
) -> None:
    account = await operate.create(email="a@x", tokens=100)
    up = await operate.adjust(email=" A@X ", tokens=50, reason=" outage ", token_class=token_class)
    down = await operate.adjust(email="a@x", tokens=-20, reason="mistake", token_class=token_class)
    before = 100 if token_class == STANDARD else 0
    assert (up.wallets[token_class].posted, down.wallets[token_class].posted) == (before + 50, before + 30)
    entries = await SqlStatements(db.store).entries(account.id, rows_max=2)
    assert [(entry.kind, entry.amount, entry.reason, entry.author, entry.token_class) for entry in entries] == [
        (EntryKind.ADJUSTMENT, -20, "mistake", OPERATOR, token_class),
        (EntryKind.ADJUSTMENT, 50, "outage", OPERATOR, token_class),
    ]
    assert (await db.ledger.audit()).ok


async def test_an_adjustment_takes_everything_available_and_not_one_reserved_token(
    db: Opened, operate: OperateAccounts
) -> None:
    account, key = await db.key("a@x", tokens=100)
    await reserve(db, account_id=account.id, key_id=key.id, tokens=30)
    with pytest.raises(OperatorError, match=r"70 tokens of the class standard available.*30 are reserved"):
        await operate.adjust(email="a@x", tokens=-71, reason="x")
    assert (await operate.adjust(email="a@x", tokens=-70, reason="x")).balance == Balance(posted=30, pending=30)
    with pytest.raises(OperatorError):
        await operate.adjust(email="a@x", tokens=-1, reason="x")
    assert (await db.ledger.audit()).ok


@pytest.mark.parametrize(
    ("changed", "raised", "param"),
    [
        ({"tokens": 0}, InvalidRequest, "tokens"),
        ({"tokens": TOKENS_MAX + 1}, InvalidRequest, "tokens"),
        ({"tokens": -TOKENS_MAX - 1}, InvalidRequest, "tokens"),
        ({"tokens": TOKENS_MAX}, OperatorError, None),
        ({"reason": " "}, InvalidRequest, "reason"),
        ({"token_class": "old"}, InvalidRequest, "class"),
        ({"token_class": PREMIUM, "tokens": -1}, OperatorError, None),
        ({"email": "b@x"}, NotFound, None),
    ],
)
async def test_an_invalid_adjustment_changes_nothing(
    db: Opened, operate: OperateAccounts, changed: dict[str, Any], raised: type[Exception], param: str | None
) -> None:
    account = await operate.create(email="a@x", tokens=100)
    arguments: dict[str, Any] = {"email": "a@x", "tokens": -1, "reason": "x"}
    with pytest.raises(raised) as error:
        await operate.adjust(**arguments | changed)
    assert getattr(error.value, "param", None) == param
    assert await db.accounts.get("a@x") == account


async def test_a_correction_works_in_a_retired_class_and_a_grant_does_not(db: Opened, operate: OperateAccounts) -> None:
    await operate.create(email="a@x")
    await db.accounts.grant(email="a@x", tokens=9, reason="x", now_us=NOW_US, token_class="old")
    with pytest.raises(InvalidRequest, match="no token class 'old'"):
        await operate.grant(email="a@x", tokens=1, reason="x", token_class="old")
    account = await operate.adjust(email="a@x", tokens=-9, reason="moved", token_class="old")
    assert account.wallets["old"].posted == 0


async def test_corrections_that_race_with_reservations_never_take_a_reserved_token(
    db: Opened, operate: OperateAccounts
) -> None:
    account, key = await db.key("a@x", tokens=1_000)

    async def attempt(number: int) -> int:
        """Return by how many available tokens this attempt reduced the wallet."""
        try:
            if number % 2:
                await operate.adjust(email="a@x", tokens=-20, reason="x")
                return 20
            await reserve(db, account_id=account.id, key_id=key.id, tokens=15)
        except (InsufficientTokens, OperatorError):
            return 0
        return 15

    taken = await asyncio.gather(*(attempt(number) for number in range(200)))
    balance = (await db.accounts.get("a@x")).balance
    adjusted, reserved = sum(n for n in taken if n == 20), sum(n for n in taken if n == 15)
    assert balance == Balance(posted=1_000 - adjusted, pending=reserved)
    assert balance.available == 1_000 - adjusted - reserved < 20
    assert (await db.ledger.audit()).ok


async def test_adjustments_that_race_with_each_other_stop_at_zero(db: Opened, operate: OperateAccounts) -> None:
    await operate.create(email="a@x", tokens=100)
    tries = [operate.adjust(email="a@x", tokens=-7, reason="x") for _ in range(40)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert sum(isinstance(result, OperatorError) for result in results) == 40 - 14
    assert (await db.accounts.get("a@x")).balance.posted == 2
    assert (await db.ledger.audit()).ok


async def test_a_suspended_account_settles_what_it_reserved_and_reserves_nothing_more(
    db: Opened, operate: OperateAccounts
) -> None:
    account, key = await db.key("a@x", tokens=100)
    running = await reserve(db, account_id=account.id, key_id=key.id, tokens=30)
    assert (await operate.suspend("a@x", reason=" fraud ")).status == "suspended"
    with pytest.raises(InvalidApiKey):
        await spend(db, account_id=account.id, key_id=key.id, tokens=1)
    caller = await db.callers.find(b"a@x", now_us=NOW_US)
    assert caller is not None
    with pytest.raises(AccountSuspended):
        require_usable(caller)
    usage = Usage(prompt_tokens=12, completion_tokens=0, total_tokens=12, details={})
    await db.ledger.settle(Settlement(request_id=running, usage=usage, resolved_at_us=NOW_US, upstream_ms=1))
    assert (await db.accounts.get("a@x")).balance == Balance(posted=88, pending=0)
    assert (await operate.reopen("a@x", reason="cleared")).status == "open"
    caller = await db.callers.find(b"a@x", now_us=NOW_US)
    assert caller is not None
    require_usable(caller)
    assert (await db.ledger.audit()).ok


async def test_suspending_and_reopening_is_recorded_with_actor_and_reason(db: Opened, operate: OperateAccounts) -> None:
    account = await operate.create(email="a@x")
    await operate.suspend("a@x", reason="fraud")
    await operate.reopen("a@x", reason="cleared")
    rows = await db.rows(schema.activity)
    assert [(row["account_id"], row["action"], row["actor"], row["api_key_id"]) for row in rows] == [
        (account.id, "account_suspended", OPERATOR, None),
        (account.id, "account_reopened", OPERATOR, None),
    ]
    assert [(json.loads(row["before"]), json.loads(row["after"])) for row in rows] == [
        ({"status": "open"}, {"status": "suspended", "reason": "fraud"}),
        ({"status": "suspended"}, {"status": "open", "reason": "cleared"}),
    ]


async def test_a_status_changes_only_to_another_one_and_never_from_closed(db: Opened, operate: OperateAccounts) -> None:
    await operate.create(email="a@x")
    with pytest.raises(OperatorError, match="already open"):
        await operate.reopen("a@x", reason="x")
    results = await asyncio.gather(*(operate.suspend("a@x", reason="x") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, OperatorError) for result in results) == 4
    await db.store.write(lambda tx: tx.execute(sa.update(schema.account).values(status="closed")))
    for change in (operate.suspend, operate.reopen):
        with pytest.raises(OperatorError, match="closed"):
            await change("a@x", reason="x")
        with pytest.raises(NotFound):
            await change("b@x", reason="x")
        with pytest.raises(InvalidRequest):
            await change("a@x", reason=" ")
    assert len(await db.rows(schema.activity)) == 1


async def test_a_suspended_account_starts_no_purchase_and_redeems_nothing_but_its_payments_are_credited(
    db: Opened, operate: OperateAccounts
) -> None:
    orders = SqlOrders(db.store)
    account = await operate.create(email="a@x")
    opened = await orders.open(account_id=account.id, pack=PACK, currency="usd", now_us=NOW_US)
    assert opened.order is not None
    await operate.suspend("a@x", reason="x")
    with pytest.raises(AccountSuspended):
        await orders.open(account_id=account.id, pack=PACK, currency="usd", now_us=NOW_US)
    await orders.create_code(
        digest=b"code", masked="TRY", tokens=50, uses_max=9, expires_at_us=None, reason="x", now_us=NOW_US
    )
    with pytest.raises(AccountSuspended):
        await orders.redeem(account_id=account.id, digest=b"code", now_us=NOW_US)
    with pytest.raises(AccountSuspended):
        await db.accounts.create_key(
            account_id=account.id, name="k", digest=b"k", prefix="tk0n_", last_four="0000", now_us=NOW_US
        )
    await orders.record(opened.order.id, Payment(paid_cents=500), payment_id="pi_1", now_us=NOW_US)
    assert (await db.accounts.get("a@x")).balance.posted == PACK.tokens
    assert (await operate.adjust(email="a@x", tokens=-5, reason="x")).balance.posted == 0
