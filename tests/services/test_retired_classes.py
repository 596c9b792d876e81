"""A class that the settings drop: earlier orders and codes are honored, and nothing new is sold or granted in it."""

import msgspec
import pytest

from support.fake_payments import PACK, Shop
from support.ledgers import NOW_US
from tok0n.adapters.sql.repositories.attempts import SqlAttempts
from tok0n.adapters.sql.repositories.corrections import SqlCorrections
from tok0n.domain.errors import InvalidRequest, NotFound
from tok0n.domain.orders import Payment, Redeemed
from tok0n.domain.token_classes import TokenClasses
from tok0n.services.operate_accounts import OperateAccounts
from tok0n.services.redeem_codes import RedeemCodes, create_code

pytestmark = pytest.mark.anyio

OLD = "old"


async def test_an_order_from_before_is_credited_and_refunded_in_its_class(shop: Shop) -> None:
    account = await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    before = shop.selling(packs=[msgspec.structs.replace(PACK, token_class=OLD)])
    await before.buy(account_id=account.id, email="a@x", pack_id=PACK.id)
    (order,) = await shop.orders.list_for_account(account.id, before=None, rows_max=1)
    after = shop.selling(packs=[])
    with pytest.raises(NotFound):
        await after.buy(account_id=account.id, email="a@x", pack_id=PACK.id)
    for facts, posted in (
        (Payment(paid_cents=PACK.price_usd_cents), PACK.tokens),
        (Payment(refunded_cents=PACK.price_usd_cents), 0),
    ):
        await shop.orders.record(order.id, facts, payment_id="pi_1", now_us=NOW_US)
        wallets = (await shop.db.accounts.get("a@x")).wallets
        assert (wallets[OLD].posted, wallets["standard"].posted) == (posted, 0)
    assert (await shop.db.ledger.audit()).ok


async def test_a_pack_that_changes_its_class_keeps_the_class_of_its_open_orders(shop: Shop) -> None:
    account = await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    for token_class in (OLD, "new"):
        selling = shop.selling(packs=[msgspec.structs.replace(PACK, token_class=token_class)])
        await selling.buy(account_id=account.id, email="a@x", pack_id=PACK.id)
    orders = await shop.orders.list_for_account(account.id, before=None, rows_max=9)
    assert sorted(order.token_class for order in orders) == ["new", OLD]


async def test_a_code_from_before_is_redeemed_and_no_new_one_is_created(shop: Shop) -> None:
    account = await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    declared = TokenClasses({OLD: "Old tokens"})
    code = await create_code(
        shop.orders,
        shop.clock,
        tokens=7,
        uses_max=1,
        days=None,
        reason="trial",
        token_class=OLD,
        token_classes=declared,
    )
    with pytest.raises(InvalidRequest) as error:
        await create_code(shop.orders, shop.clock, tokens=7, uses_max=1, days=None, reason="trial", token_class=OLD)
    assert error.value.param == "class"
    redeem_codes = RedeemCodes(shop.orders, SqlAttempts(shop.db.store), shop.clock)
    assert await redeem_codes.redeem(account_id=account.id, code=code) == Redeemed(tokens=7, token_class=OLD)


async def test_nothing_is_granted_in_a_retired_class(shop: Shop) -> None:
    operate = OperateAccounts(shop.db.accounts, shop.clock, corrections=SqlCorrections(shop.db.store))
    await operate.create(email="a@x")
    await shop.db.accounts.grant(email="a@x", tokens=5, reason="x", now_us=NOW_US, token_class=OLD)
    with pytest.raises(InvalidRequest):
        await operate.grant(email="a@x", tokens=5, reason="x", token_class=OLD)
    assert (await operate.get("a@x")).wallets[OLD].posted == 5
