"""What orders promise, whatever database is behind them: credited once, taken back exactly, never below zero."""

import asyncio
import itertools

import msgspec
import pytest
import sqlalchemy as sa

from support.ledgers import NOW_US, Opened, balance, outcome, schema
from support.spending import reserve, spend
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.domain.errors import AlreadyExists, AlreadySubmitted, LimitReached, NotFound
from tok0n.domain.forms import Submission
from tok0n.domain.ledger import STANDARD, Balance, Release
from tok0n.domain.orders import (
    CHECKOUT_LIFETIME_US,
    OPEN_CHECKOUTS_MAX,
    STARTED_CHECKOUTS_MAX,
    STARTED_CHECKOUTS_US,
    Dispute,
    DisputeStatus,
    OpenedOrder,
    Order,
    Payment,
    Redeemed,
    UnpaidReason,
)
from tok0n.domain.packs import Pack

pytestmark = pytest.mark.anyio

PACK = Pack(id="starter", name="Starter", tokens=1_000, price_usd_cents=500)
PAID = Payment(paid_cents=500)
_NUMBERS = itertools.count()


def dispute(status: DisputeStatus, *, name: str = "dp_1") -> Payment:
    return Payment(disputes=(Dispute(id=name, cents=500, status=status),))


@pytest.fixture
def orders(db: Opened) -> SqlOrders:
    return SqlOrders(db.store)


async def ordered(orders: SqlOrders, account_id: str) -> Order:
    """A new order of its own pack, as an account has only one open order of each."""
    pack = msgspec.structs.replace(PACK, id=f"starter{next(_NUMBERS)}")
    order = (await orders.open(account_id=account_id, pack=pack, currency="usd", now_us=NOW_US)).order
    assert order is not None
    return order


async def record(orders: SqlOrders, order: Order, *facts: Payment) -> Order:
    for fact in facts:
        order = await orders.record(order.id, fact, payment_id=f"pi_{order.id}", now_us=NOW_US)
    return order


async def entries(db: Opened) -> list[tuple[str, int]]:
    query = sa.select(schema.ledger_entry.c.kind, schema.ledger_entry.c.amount).order_by(schema.ledger_entry.c.id)
    return await db.store.read(lambda tx: [(kind, amount) for kind, amount in tx.execute(query)])


async def test_an_order_keeps_what_was_agreed(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    order = await ordered(orders, account.id)
    await orders.attach_checkout(order.id, checkout_id="cs_1")
    kept = await orders.get(order.id)
    assert (kept.tokens, kept.price_cents, kept.currency, kept.checkout_id) == (1_000, 500, "usd", "cs_1")
    assert [one.id for one in await orders.list_for_account(account.id, before=None, rows_max=5)] == [order.id]
    assert await orders.list_for_account("acct_other", before=None, rows_max=5) == []
    with pytest.raises(NotFound):
        await orders.get("ord_none")


async def test_no_account_reads_an_order_of_another(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    order = await record(orders, await ordered(orders, account.id), PAID)
    assert await orders.get_in_account(account_id=account.id, order_id=order.id) == order
    assert [entry.amount for entry in await orders.entries(account_id=account.id, order_id=order.id)] == [1_000]
    with pytest.raises(NotFound):
        await orders.get_in_account(account_id="acct_other", order_id=order.id)
    assert await orders.entries(account_id="acct_other", order_id=order.id) == []


async def test_a_hundred_at_once_credit_once(orders: SqlOrders, db: Opened) -> None:
    await db.open_connections()
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    order = await ordered(orders, account.id)
    await asyncio.gather(*(record(orders, order, PAID) for _ in range(100)))
    assert await entries(db) == [("purchase", 1_000)]
    assert (await balance(db)).posted == 1_000
    found = await orders.find_by_payment(f"pi_{order.id}")
    assert found is not None
    assert (found.id, found.paid_at_us) == (order.id, NOW_US)
    assert (await db.ledger.audit()).ok


async def test_every_order_of_events_ends_alike(orders: SqlOrders, db: Opened) -> None:
    ends = set()
    for number, places in enumerate(itertools.islice(itertools.permutations(range(6)), 0, 720, 37)):
        told = (
            PAID,
            Payment(refunded_cents=100),
            Payment(refunded_cents=250),
            dispute(DisputeStatus.OPEN, name=f"dp_{number}"),
            dispute(DisputeStatus.WON, name=f"dp_{number}"),
            Payment(outcome=UnpaidReason.EXPIRED),
        )
        events = [told[place] for place in places]
        email = f"{number}@x"
        account = await db.accounts.create(email=email, tokens=0, now_us=NOW_US)
        order = await record(orders, await ordered(orders, account.id), *events)
        ends.add(
            ((await db.accounts.get(email)).balance.posted, await orders.debts(account.id) == {}, order.applied.refund)
        )
    assert ends == {(500, True, 500)}
    assert (await db.ledger.audit()).ok


async def test_a_dispute_freezes_then_gives_back_or_takes(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    order = await record(orders, await ordered(orders, account.id), PAID, dispute(DisputeStatus.OPEN))
    assert (await balance(db)).posted == 0
    await record(orders, order, dispute(DisputeStatus.WON))
    assert (await balance(db)).posted == 1_000
    assert await entries(db) == [("purchase", 1_000), ("dispute", -1_000), ("dispute", 1_000)]
    assert (await db.ledger.audit()).ok


async def test_what_is_spent_becomes_a_debt_and_the_balance_stays_above_zero(orders: SqlOrders, db: Opened) -> None:
    account, key = await db.key("a@x", tokens=1)
    order = await record(orders, await ordered(orders, account.id), PAID)
    await spend(db, account_id=account.id, key_id=key.id, tokens=700)
    held = await reserve(db, account_id=account.id, key_id=key.id, tokens=101, model="demo", at_us=NOW_US)
    await record(orders, order, Payment(refunded_cents=500))
    assert await balance(db) == Balance(posted=101, pending=101), "what a call in flight has reserved is not taken"
    assert await orders.debts(account.id) == {STANDARD: 699}
    assert not (await orders.get(order.id)).is_fully_applied
    assert (await db.ledger.audit()).ok
    await db.ledger.release(Release(request_id=held, code="upstream_error", dispatched=True, resolved_at_us=NOW_US))
    assert (await record(orders, order, Payment())).is_fully_applied
    assert (await balance(db), await orders.debts(account.id)) == (Balance(posted=0, pending=0), {STANDARD: 699})
    await record(orders, await ordered(orders, account.id), PAID)
    assert (await balance(db), await orders.debts(account.id)) == (Balance(posted=301, pending=0), {})
    assert (await entries(db))[-2:] == [("purchase", 1_000), ("adjustment", -699)]
    assert (await db.ledger.audit()).ok


async def test_the_audit_finds_an_order_that_was_changed(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    await record(orders, await ordered(orders, account.id), PAID)
    await db.store.write(lambda tx: tx.execute(sa.update(schema.pack_order).values(refund_applied=1)) and None)
    report = await db.ledger.audit()
    assert [difference.subject for difference in report.differences] == [account.id]


async def test_refunds_and_calls_at_once_neither_lose_nor_deadlock(orders: SqlOrders, db: Opened) -> None:
    await db.open_connections()
    account, key = await db.key("a@x", tokens=100_000)
    made = [await ordered(orders, account.id) for _ in range(5)]

    async def bought_and_refunded(order: Order) -> None:
        for cents in (0, 100, 200, 500):
            await record(orders, order, PAID, Payment(refunded_cents=cents))

    async def calls() -> None:
        for _ in range(20):
            await spend(db, account_id=account.id, key_id=key.id, tokens=7)

    await asyncio.gather(*(bought_and_refunded(order) for order in made), *(calls() for _ in range(8)))
    assert await balance(db) == Balance(posted=100_000 - 8 * 20 * 7, pending=0)
    assert (await db.ledger.audit()).ok


def packs(many: int) -> list[Pack]:
    return [msgspec.structs.replace(PACK, id=f"pack{number}") for number in range(many)]


async def test_an_account_never_has_more_than_five_open_orders(orders: SqlOrders, db: Opened) -> None:
    await db.open_connections()
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    opening = [orders.open(account_id=account.id, pack=pack, currency="usd", now_us=NOW_US) for pack in packs(7) * 10]
    opened = await asyncio.gather(*opening)
    rows = await orders.list_for_account(account.id, before=None, rows_max=100)
    assert len(rows) == OPEN_CHECKOUTS_MAX
    assert {one.order.id for one in opened if one.order} == {order.id for order in rows}
    oldest = min(order.id for order in rows)
    assert {one.must_expire.id for one in opened if one.must_expire} == {oldest}


async def test_the_same_pack_leads_to_its_open_order_until_its_price_changes(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    ids = set()
    for pack in (PACK, PACK, msgspec.structs.replace(PACK, price_usd_cents=600)):
        opened = await orders.open(account_id=account.id, pack=pack, currency="usd", now_us=NOW_US)
        assert opened.order is not None
        ids.add(opened.order.id)
    assert len(ids) == 2
    later = await orders.open(account_id=account.id, pack=PACK, currency="usd", now_us=NOW_US + CHECKOUT_LIFETIME_US)
    assert later.order is not None
    assert later.order.id not in ids, "a checkout that has expired at the provider leads nowhere"


@pytest.mark.parametrize(
    "fact", [Payment(paid_cents=500), Payment(is_complete=True), Payment(outcome=UnpaidReason.EXPIRED)]
)
async def test_an_order_that_can_no_longer_be_paid_is_not_open(orders: SqlOrders, db: Opened, fact: Payment) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    for pack in packs(OPEN_CHECKOUTS_MAX + 3):
        opened = await orders.open(account_id=account.id, pack=pack, currency="usd", now_us=NOW_US)
        assert opened.order is not None
        await record(orders, opened.order, fact)


async def test_an_account_starts_a_limited_number_of_purchases_an_hour(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    for pack in packs(STARTED_CHECKOUTS_MAX):
        opened = await orders.open(account_id=account.id, pack=pack, currency="usd", now_us=NOW_US)
        assert opened.order is not None
        await record(orders, opened.order, Payment(outcome=UnpaidReason.EXPIRED))
    more = msgspec.structs.replace(PACK, id="more")
    with pytest.raises(LimitReached, match="20 purchases in the last hour"):
        await orders.open(account_id=account.id, pack=more, currency="usd", now_us=NOW_US)
    later_us = NOW_US + STARTED_CHECKOUTS_US
    assert (await orders.open(account_id=account.id, pack=more, currency="usd", now_us=later_us)).order is not None


async def test_a_form_that_is_submitted_many_times_at_once_opens_one_order(orders: SqlOrders, db: Opened) -> None:
    await db.open_connections()
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    submission = Submission(account_id=account.id, form="order", form_id="A" * 22)

    async def opened() -> OpenedOrder:
        return await orders.open(account_id=account.id, pack=PACK, currency="usd", now_us=NOW_US, submission=submission)

    results = await asyncio.gather(*(opened() for _ in range(30)))
    assert len({one.order.id for one in results if one.order}) == 1
    assert sum(one.is_repetition for one in results) == 29
    assert results[0].order is not None
    await record(orders, results[0].order, PAID)
    again = await opened()
    assert (again.order and again.order.id, again.is_repetition) == (results[0].order.id, True), "paid, and no new one"


async def test_a_checkout_is_attached_only_to_an_order_that_still_wants_it(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    abandoned, attached, paid = [await ordered(orders, account.id) for _ in range(3)]
    await orders.abandon(abandoned.id)
    assert not await orders.attach_checkout(abandoned.id, checkout_id="cs_1")
    assert await orders.attach_checkout(attached.id, checkout_id="cs_2")
    assert await orders.attach_checkout(attached.id, checkout_id="cs_2")
    assert not await orders.attach_checkout(attached.id, checkout_id="cs_3")
    await orders.abandon(attached.id)
    assert (await orders.get(attached.id)).is_open, "only an order without a checkout is abandoned"
    await record(orders, paid, PAID)
    assert await orders.attach_checkout(paid.id, checkout_id="cs_4"), "its webhook came before the answer"


async def test_a_closed_account_opens_no_order_and_redeems_no_code(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    closed = sa.update(schema.account).values(status="closed")
    await db.store.write(lambda tx: tx.execute(closed) and None)
    with pytest.raises(NotFound, match="closed"):
        await orders.open(account_id=account.id, pack=PACK, currency="usd", now_us=NOW_US)
    with pytest.raises(NotFound, match="closed"):
        await orders.redeem(account_id=account.id, digest=b"code", now_us=NOW_US)


async def test_a_payment_or_a_dispute_of_another_order_is_refused(orders: SqlOrders, db: Opened) -> None:
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    first, second = await ordered(orders, account.id), await ordered(orders, account.id)
    await record(orders, first, PAID, dispute(DisputeStatus.OPEN))
    with pytest.raises(AlreadyExists, match="payment"):
        await orders.record(second.id, PAID, payment_id=f"pi_{first.id}", now_us=NOW_US)
    with pytest.raises(AlreadyExists, match="dispute"):
        await record(orders, second, dispute(DisputeStatus.OPEN))
    assert (await db.ledger.audit()).ok


async def test_a_code_form_that_is_submitted_many_times_at_once_grants_once_and_says_so(
    orders: SqlOrders, db: Opened
) -> None:
    await db.open_connections()
    account = await db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    await orders.create_code(
        digest=b"code", masked="TRY", tokens=50, uses_max=9, expires_at_us=None, reason="trial", now_us=NOW_US
    )
    submission = Submission(account_id=account.id, form="redemption", form_id="A" * 22)
    tries = [
        outcome(orders.redeem(account_id=account.id, digest=b"code", now_us=NOW_US, submission=submission))
        for _ in range(20)
    ]
    results = await asyncio.gather(*tries)
    assert results.count(Redeemed(tokens=50)) == 1
    assert {one.result for one in results if isinstance(one, AlreadySubmitted)} == {"50 standard"}
    assert (await balance(db)).posted == 50


async def test_a_code_is_redeemed_once_by_each_and_no_more_than_allowed(orders: SqlOrders, db: Opened) -> None:
    await db.open_connections()
    accounts = [await db.accounts.create(email=f"{n}@x", tokens=0, now_us=NOW_US) for n in range(5)]
    for digest, expires in ((b"code", None), (b"old", NOW_US)):
        await orders.create_code(
            digest=digest, masked="TRY", tokens=50, uses_max=3, expires_at_us=expires, reason="trial", now_us=NOW_US
        )
    tries = [orders.redeem(account_id=account.id, digest=b"code", now_us=NOW_US) for account in accounts for _ in "xyz"]
    results = await asyncio.gather(*tries, return_exceptions=True)
    assert results.count(Redeemed(tokens=50)) == 3
    assert {type(result) for result in results if result != Redeemed(tokens=50)} == {NotFound, AlreadyExists}
    balances = [(await db.accounts.get(account.email)).balance.posted for account in accounts]
    assert sorted(balances) == [0, 0, 50, 50, 50]
    for digest in (b"old", b"none"):
        with pytest.raises(NotFound):
            await orders.redeem(account_id=accounts[0].id, digest=digest, now_us=NOW_US)
    assert (await db.ledger.audit()).ok
