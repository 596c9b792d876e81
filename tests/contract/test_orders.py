"""What orders promise, whatever database is behind them: credited once, taken back exactly, never below zero."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from support.ledgers import ENGINES, NOW_US, Opened, open_engine, schema
from support.spending import reserve, spend
from tok0n.adapters.sql.orders import SqlOrders
from tok0n.domain.errors import AlreadyExists, NotFound
from tok0n.domain.ledger import Balance, Release
from tok0n.domain.orders import Dispute, DisputeStatus, Order, Outcome, Payment
from tok0n.domain.packs import Pack

pytestmark = pytest.mark.anyio

PACK = Pack(id="starter", name="Starter", tokens=1_000, price_usd_cents=500)
PAID = Payment(paid_cents=500)
_NUMBERS = itertools.count()


def dispute(status: DisputeStatus, *, name: str = "dp_1") -> Payment:
    return Payment(disputes=(Dispute(id=name, cents=500, status=status),))


@pytest.fixture(params=ENGINES)
async def db(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Opened]:
    async with open_engine(request.param, tmp_path) as opened:
        yield opened


@pytest.fixture
def orders(db: Opened) -> SqlOrders:
    return SqlOrders(db.store)


async def ordered(orders: SqlOrders, account_id: str) -> Order:
    """A new order of its own pack, as an account has only one open order of each."""
    pack = msgspec.structs.replace(PACK, id=f"starter{next(_NUMBERS)}")
    order = (await orders.open(account_id=account_id, pack=pack, currency="usd", now_us=NOW_US)).order
    assert order is not None
    return order


async def learn(orders: SqlOrders, order: Order, *facts: Payment) -> Order:
    for fact in facts:
        order = await orders.learn(order.id, fact, payment_id=f"pi_{order.id}", now_us=NOW_US)
    return order


async def balance(db: Opened) -> Balance:
    return (await db.accounts.get("a@x")).balance


async def entries(db: Opened) -> list[tuple[str, int]]:
    query = sa.select(schema.ledger_entry.c.kind, schema.ledger_entry.c.amount).order_by(schema.ledger_entry.c.id)
    return await db.store.read(lambda tx: [(kind, amount) for kind, amount in tx.execute(query)])


async def test_an_order_keeps_what_was_agreed(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    order = await ordered(orders, account.id)
    await orders.attach_checkout(order.id, checkout_id="cs_1")
    kept = await orders.get(order.id)
    assert (kept.tokens, kept.price_cents, kept.currency, kept.checkout_id) == (1_000, 500, "usd", "cs_1")
    assert [one.id for one in await orders.of(account.id, before=None, rows_max=5)] == [order.id]
    assert await orders.of("acct_other", before=None, rows_max=5) == []
    with pytest.raises(NotFound):
        await orders.get("ord_none")


async def test_a_hundred_at_once_credit_once(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    order = await ordered(orders, account.id)
    await asyncio.gather(*(learn(orders, order, PAID) for _ in range(100)))
    assert await entries(db) == [("purchase", 1_000)]
    assert (await balance(db)).posted == 1_000
    found = await orders.find_by_payment(f"pi_{order.id}")
    assert found is not None
    assert (found.id, found.paid_at_us) == (order.id, NOW_US)
    assert (await db.ledger.audit()).ok


async def test_every_order_of_events_ends_alike(orders: SqlOrders, db: Opened) -> None:
    ends = set()
    for number, places in enumerate(itertools.islice(itertools.permutations(range(6)), 0, 720, 17)):
        told = (
            PAID,
            Payment(refunded_cents=100),
            Payment(refunded_cents=250),
            dispute(DisputeStatus.OPEN, name=f"dp_{number}"),
            dispute(DisputeStatus.WON, name=f"dp_{number}"),
            Payment(outcome=Outcome.EXPIRED),
        )
        events = [told[place] for place in places]
        email = f"{number}@x"
        account = await db.accounts.create(email=email, tokens=0, now_us=NOW_US)
        order = await learn(orders, await ordered(orders, account.id), *events)
        ends.add(((await db.accounts.get(email)).balance.posted, await orders.debt(account.id), order.applied.refund))
    assert ends == {(500, 0, 500)}
    assert (await db.ledger.audit()).ok


async def test_a_dispute_freezes_then_gives_back_or_takes(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    order = await learn(orders, await ordered(orders, account.id), PAID, dispute(DisputeStatus.OPEN))
    assert (await balance(db)).posted == 0
    await learn(orders, order, dispute(DisputeStatus.WON))
    assert (await balance(db)).posted == 1_000
    assert await entries(db) == [("purchase", 1_000), ("dispute", -1_000), ("dispute", 1_000)]
    assert (await db.ledger.audit()).ok


async def test_what_is_spent_becomes_a_debt_and_the_balance_stays_above_zero(orders: SqlOrders, db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1)
    order = await learn(orders, await ordered(orders, account.id), PAID)
    await spend(db, account_id=account.id, key_id=key.id, tokens=700)
    held = await reserve(db, account_id=account.id, key_id=key.id, tokens=101, model="demo", at_us=NOW_US)
    await learn(orders, order, Payment(refunded_cents=500))
    assert await balance(db) == Balance(posted=101, pending=101), "what a call in flight has reserved is not taken"
    assert await orders.debt(account.id) == 699
    assert not (await orders.get(order.id)).is_settled
    assert (await db.ledger.audit()).ok
    await db.ledger.release(Release(request_id=held, code="upstream_error", dispatched=True, resolved_at_us=NOW_US))
    assert (await learn(orders, order, Payment())).is_settled
    assert (await balance(db), await orders.debt(account.id)) == (Balance(posted=0, pending=0), 699)
    await learn(orders, await ordered(orders, account.id), PAID)
    assert (await balance(db), await orders.debt(account.id)) == (Balance(posted=301, pending=0), 0)
    assert (await entries(db))[-2:] == [("purchase", 1_000), ("adjustment", -699)]
    assert (await db.ledger.audit()).ok


async def test_the_audit_finds_an_order_that_was_changed(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    await learn(orders, await ordered(orders, account.id), PAID)
    await db.store.write(lambda tx: tx.execute(sa.update(schema.pack_order).values(refund_applied=1)) and None)
    report = await db.ledger.audit()
    assert [difference.subject for difference in report.differences] == [account.id]


async def test_refunds_and_calls_at_once_neither_lose_nor_deadlock(orders: SqlOrders, db: Opened) -> None:
    account, key = await db.key("a@x", tokens=100_000)
    made = [await ordered(orders, account.id) for _ in range(5)]

    async def bought_and_refunded(order: Order) -> None:
        for cents in (0, 100, 200, 500):
            await learn(orders, order, PAID, Payment(refunded_cents=cents))

    async def calls() -> None:
        for _ in range(20):
            await spend(db, account_id=account.id, key_id=key.id, tokens=7)

    await asyncio.gather(*(bought_and_refunded(order) for order in made), *(calls() for _ in range(8)))
    assert await balance(db) == Balance(posted=100_000 - 8 * 20 * 7, pending=0)
    assert (await db.ledger.audit()).ok


async def test_a_code_is_redeemed_once_by_each_and_no_more_than_allowed(orders: SqlOrders, db: Opened) -> None:
    accounts = [await db.accounts.create(email=f"{n}@x", tokens=0, now_us=NOW_US) for n in range(5)]
    for digest, expires in ((b"code", None), (b"old", NOW_US)):
        await orders.create_code(
            digest=digest, shown="TRY", tokens=50, uses_max=3, expires_at_us=expires, reason="trial", now_us=NOW_US
        )
    tries = [orders.redeem(account_id=account.id, digest=b"code", now_us=NOW_US) for account in accounts for _ in "xyz"]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert results.count(50) == 3
    assert {type(result) for result in results if result != 50} == {NotFound, AlreadyExists}
    balances = [(await db.accounts.get(account.email)).balance.posted for account in accounts]
    assert sorted(balances) == [0, 0, 50, 50, 50]
    for digest in (b"old", b"none"):
        with pytest.raises(NotFound):
            await orders.redeem(account_id=accounts[0].id, digest=digest, now_us=NOW_US)
    assert (await db.ledger.audit()).ok
