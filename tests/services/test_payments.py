"""Whatever the provider delivers twice, late, out of order or never: credited once, and only what fits the order."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import msgspec
import pytest
import sqlalchemy as sa
import structlog

from support.fakes import FakeClock
from support.ledgers import ENGINES, NOW_US, Opened, open_engine, schema
from support.spending import reserve
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.inbox import SqlInbox
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.domain.errors import AccountingFailed, CheckoutGone, NotFound, PaymentFailed
from tok0n.domain.forms import Submission
from tok0n.domain.ledger import Release
from tok0n.domain.orders import Dispute, DisputeStatus, Order, Outcome, Payment
from tok0n.domain.packs import Pack
from tok0n.domain.payments import Checkout, Disputed, Event, NotApplicable, ProviderFact, Refunded, RefundFailed
from tok0n.services.alarms import ALARMS_MAX
from tok0n.services.payments import RETRY_FOR_US, Purchase, SellPacks

pytestmark = pytest.mark.anyio

FOREVER_US = 2**62
LIVES = 40
"""Of the 40,320 orders that 8 things can happen in."""

PACK = Pack(id="starter", name="Starter", tokens=1_000, price_usd_cents=500)


class FakePayments:
    """A provider that says what a test has put into it."""

    is_live = False
    page_origin = "https://pay.example"

    def __init__(self) -> None:
        self.opened: dict[str, Checkout] = {}
        self.log: list[Event] = []
        self.refunds: list[tuple[str, int, str]] = []
        self.is_away = False

    async def open_checkout(self, order: Order, *, email: str, success_url: str, cancel_url: str) -> Checkout:
        if self.is_away:
            raise PaymentFailed(detail="away")
        assert order.id in success_url
        return self.opened.setdefault(order.id, page(order))

    async def checkout(self, checkout_id: str) -> Checkout:
        for checkout in self.opened.values():
            if checkout.id == checkout_id:
                return checkout
        raise CheckoutGone(detail=checkout_id)

    async def expire_checkout(self, checkout_id: str) -> Checkout:
        checkout = await self.checkout(checkout_id)
        order_id = checkout.order_id
        assert order_id is not None, "every checkout of this provider belongs to an order"
        if checkout.is_open:
            self.opened[order_id] = msgspec.structs.replace(checkout, outcome=Outcome.EXPIRED, url=None)
        return self.opened[order_id]

    async def refund(self, payment_id: str, *, cents: int, key: str) -> None:
        self.refunds.append((payment_id, cents, key))

    def read(self, payload: bytes, signature: str | None, *, now_us: int) -> Event:
        return msgspec.json.decode(payload, type=Event)

    async def events(self, *, since_us: int) -> AsyncIterator[Event]:
        if self.is_away:
            raise PaymentFailed(detail="away")
        for event in self.log:
            if event.created_at_us >= since_us:
                yield event


def page(order: Order, **more: object) -> Checkout:
    checkout = Checkout(
        id=f"cs_{order.id}",
        url="https://pay.example",
        order_id=order.id,
        payment_id=f"pi_{order.id}",
        subtotal_cents=order.price_cents,
        total_cents=order.price_cents,
        currency="usd",
        livemode=False,
        is_complete=False,
        is_paid=False,
        outcome=None,
    )
    return msgspec.structs.replace(checkout, **more)


def refunded(order: Order, cents: int) -> Refunded:
    return Refunded(order_id=order.id, payment_id=f"pi_{order.id}", cents=cents, currency="usd", livemode=False)


def disputed(order: Order, status: DisputeStatus) -> Disputed:
    dispute = Dispute(id=f"dp_{order.id}", cents=500, status=status)
    return Disputed(payment_id=f"pi_{order.id}", dispute=dispute, currency="usd", livemode=False)


def event(name: str, about: ProviderFact | None, kind: str = "checkout.session.completed") -> Event:
    return Event(id=f"evt_{name}", type=kind, created_at_us=NOW_US, about=about)


class Shop:
    def __init__(self, db: Opened) -> None:
        self.db = db
        self.clock = FakeClock(now_us=NOW_US)
        self.orders = SqlOrders(db.store)
        self.inbox = SqlInbox(db.store)
        self.provider = FakePayments()
        self.sell = SellPacks(
            packs={PACK.id: PACK},
            orders=self.orders,
            payments=self.provider,
            inbox=self.inbox,
            forms=SqlForms(db.store),
            clock=self.clock,
            url_of=lambda path: f"https://tok0n.example{path}",
        )

    async def order(self, email: str = "a@x") -> Order:
        account = await self.db.accounts.create(email=email, tokens=0, now_us=NOW_US)
        await self.sell.buy(account_id=account.id, email=email, pack_id=PACK.id)
        return (await self.orders.of(account.id, before=None, rows_max=1))[0]

    async def deliver(self, *events: Event) -> None:
        for one in events:
            await self.sell.receive(msgspec.json.encode(one), "signed")
            await self.sell.handle_all()

    async def posted(self, email: str = "a@x") -> int:
        return (await self.db.accounts.get(email)).balance.posted


@pytest.fixture(params=ENGINES)
async def shop(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Shop]:
    async with open_engine(request.param, tmp_path) as db:
        yield Shop(db)


async def test_a_paid_order_is_credited_once_however_often_it_is_told(shop: Shop) -> None:
    order = await shop.order()
    paid = page(order, is_paid=True)
    shop.provider.opened[order.id] = paid
    payload = msgspec.json.encode(event("1", paid))
    stored = await asyncio.gather(*(shop.sell.receive(payload, "signed") for _ in range(100)))
    assert sum(stored) == 1
    await asyncio.gather(*(shop.sell.handle_all() for _ in range(10)), *(shop.sell.refresh(order) for _ in range(10)))
    await shop.deliver(event("2", paid, "checkout.session.async_payment_succeeded"))
    assert await shop.posted() == 1_000
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []
    assert (await shop.db.ledger.audit()).ok


@pytest.mark.parametrize("decision", [DisputeStatus.WON, DisputeStatus.LOST])
async def test_every_order_of_the_events_of_a_life_ends_alike(shop: Shop, decision: DisputeStatus) -> None:
    ends = set()
    lives = list(itertools.permutations(range(8)))
    for number, places in enumerate(Random(1).sample(lives, LIVES)):
        email = f"{number}@x"
        order = await shop.order(email)
        paid = page(order, is_paid=True, is_complete=True)
        shop.provider.opened[order.id] = paid
        told = [
            event(f"{number}-1", page(order, is_complete=True)),
            event(f"{number}-2", paid, "checkout.session.async_payment_succeeded"),
            event(f"{number}-3", refunded(order, 100), "charge.refunded"),
            event(f"{number}-4", refunded(order, 300), "charge.refunded"),
            event(f"{number}-5", disputed(order, DisputeStatus.OPEN), "charge.dispute.created"),
            event(f"{number}-6", disputed(order, decision), "charge.dispute.closed"),
        ]
        shop.provider.log = told
        for place in places:
            if place < len(told):
                await shop.deliver(told[place])
            elif place == len(told):
                await shop.sell.refresh(await shop.orders.get(order.id))
            else:
                await shop.sell.reconcile()
            assert (await shop.db.accounts.get(email)).balance.posted in range(1_001)
        await shop.sell.handle_all()
        ends.add(await shop.posted(email))
    assert ends == {400 if decision is DisputeStatus.WON else 0}
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []
    assert (await shop.db.ledger.audit()).ok


@pytest.mark.parametrize(
    "wrong",
    [
        {"subtotal_cents": 499},
        {"subtotal_cents": 5_000},
        {"currency": "eur"},
        {"livemode": True},
        {"order_id": None},
        {"order_id": "ord_unknown"},
        {"id": "cs_another"},
    ],
    ids=str,
)
async def test_what_does_not_fit_the_order_is_credited_to_nobody(shop: Shop, wrong: dict[str, object]) -> None:
    order = await shop.order()
    with structlog.testing.capture_logs() as lines:
        await shop.deliver(event("1", page(order, is_paid=True, **wrong)))
    assert [line["log_level"] for line in lines if line["event"] == "payment_alarm"] == ["error"]
    assert await shop.posted() == 0
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == [], "it is not tried again"


async def test_tax_and_discounts_change_what_is_paid_and_not_what_is_bought(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(event("1", page(order, is_paid=True, total_cents=595)))
    assert await shop.posted() == 1_000
    await shop.deliver(event("2", refunded(order, 595), "charge.refunded"))
    assert await shop.posted() == 0


async def test_what_is_not_paid_gives_nothing(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(
        event("1", page(order)), event("2", page(order, outcome=Outcome.FAILED)), event("3", None, "customer.created")
    )
    assert await shop.posted() == 0
    assert (await shop.orders.get(order.id)).payment.outcome == "failed"


async def test_a_dispute_of_a_payment_that_is_not_known_yet_waits_for_it(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(event("1", disputed(order, DisputeStatus.LOST), "charge.dispute.closed"))
    assert len(await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10)) == 1
    await shop.deliver(event("2", page(order, is_paid=True)))
    await shop.sell.handle_all()
    assert await shop.posted() == 0
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []
    stray = Disputed(
        payment_id="pi_other",
        dispute=Dispute(id="dp_other", cents=5, status=DisputeStatus.OPEN),
        currency="usd",
        livemode=False,
    )
    await shop.deliver(event("3", stray, "charge.dispute.created"))
    shop.clock.advance(RETRY_FOR_US / 1_000_000)
    await shop.sell.handle_all()
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == [], "not for ever"


async def test_an_outage_of_three_days_loses_nothing(shop: Shop) -> None:
    assert await shop.sell.reconcile() == 0
    order = await shop.order()
    other = await shop.order("b@x")
    paid_at = msgspec.structs.replace(event("1", page(order, is_paid=True)), created_at_us=shop.clock.now_us())
    shop.provider.log = [event("2", refunded(order, 250), "charge.refunded"), paid_at]
    shop.clock.advance(3 * 86_400)
    await shop.deliver(
        msgspec.structs.replace(event("3", page(other, is_paid=True)), created_at_us=shop.clock.now_us())
    )
    assert await shop.sell.reconcile() == 2, "a webhook that came first does not hide what was missed before it"
    assert (await shop.posted(), await shop.posted("b@x")) == (500, 1_000)
    assert await shop.sell.reconcile() == 0


async def test_reconciliation_that_failed_begins_where_the_last_one_did(shop: Shop) -> None:
    order = await shop.order()
    shop.provider.log = [event("1", page(order, is_paid=True))]
    shop.provider.is_away = True
    with pytest.raises(PaymentFailed):
        await shop.sell.reconcile()
    shop.provider.is_away = False
    assert await shop.sell.reconcile() == 1


async def test_an_event_that_cannot_be_acted_on_holds_up_no_other(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tok0n.services.payments.HANDLED_AT_ONCE", 2)
    order = await shop.order()
    other = await shop.order("b@x")
    await shop.deliver(event("1", page(other, is_paid=True)))
    for number in range(3):
        stray = msgspec.structs.replace(disputed(order, DisputeStatus.OPEN), payment_id=f"pi_{number}")
        await shop.deliver(event(f"2{number}", stray, "charge.dispute.created"))
    await shop.deliver(event("3", disputed(other, DisputeStatus.OPEN), "charge.dispute.created"))
    same_id = Disputed(
        payment_id=f"pi_{order.id}",
        dispute=disputed(other, DisputeStatus.OPEN).dispute,
        currency="usd",
        livemode=False,
    )
    await shop.deliver(event("4", page(order)), event("5", same_id, "charge.dispute.created"))
    await shop.deliver(event("6", page(order, is_paid=True)))
    assert await shop.posted() == 1_000
    waiting = [stored.event.id for stored in await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10)]
    assert sorted(waiting) == ["evt_20", "evt_21", "evt_22"], "a dispute of another order can never be applied"


async def test_what_calls_in_flight_have_reserved_is_taken_back_when_they_have_ended(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(event("1", page(order, is_paid=True)))
    key = await shop.db.accounts.create_key(
        account_id=order.account_id, name="test", digest=b"key", prefix="tk0n_", last_four="0000", now_us=NOW_US
    )
    held = await reserve(shop.db, account_id=order.account_id, key_id=key.id, tokens=600, model="demo", at_us=NOW_US)
    await shop.deliver(event("2", refunded(order, 500), "charge.refunded"))
    assert await shop.posted() == 600
    await shop.db.ledger.release(
        Release(request_id=held, code="upstream_error", dispatched=True, resolved_at_us=NOW_US)
    )
    await shop.sell.handle_all()
    assert (await shop.posted(), await shop.orders.debt(order.account_id)) == (0, 0)
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []


async def test_a_refund_that_the_bank_did_not_take_is_the_operators_to_mend(shop: Shop) -> None:
    order = await shop.order()
    failed = RefundFailed(payment_id=f"pi_{order.id}", cents=500)
    with structlog.testing.capture_logs() as lines:
        await shop.deliver(
            event("1", page(order, is_paid=True)),
            event("2", refunded(order, 500), "charge.refunded"),
            event("3", failed, "refund.failed"),
        )
    assert [line["payment_event"] for line in lines if line["event"] == "payment_alarm"] == ["evt_3"]
    assert await shop.posted() == 0


async def test_a_provider_that_is_away_takes_no_order(shop: Shop) -> None:
    shop.provider.is_away = True
    with pytest.raises(PaymentFailed):
        await shop.order()
    shop.provider.is_away = False
    account = await shop.db.accounts.get("a@x")
    with pytest.raises(NotFound):
        await shop.sell.buy(account_id=account.id, email="a@x", pack_id="gone")


async def test_a_refund_of_the_operator_names_itself_so_that_it_is_made_once(shop: Shop) -> None:
    order = await shop.order()
    with pytest.raises(NotFound):
        await shop.sell.refund(order.id, cents=100)
    await shop.deliver(event("1", page(order, is_paid=True)))
    for _ in range(2):
        await shop.sell.refund(order.id, cents=100)
    assert len(set(shop.provider.refunds)) == 1
    await shop.deliver(event("2", refunded(order, 100), "charge.refunded"))
    await shop.sell.refund(order.id, cents=100)
    assert len(set(shop.provider.refunds)) == 2, "another hundred is another refund"


async def buy(shop: Shop, pack_id: str, *, email: str = "a@x") -> Order:
    account = await shop.db.accounts.get(email)
    purchase = await shop.sell.buy(account_id=account.id, email=email, pack_id=pack_id)
    assert purchase.url is not None
    return await shop.orders.get(purchase.order_id)


async def six_packs(shop: Shop) -> list[Order]:
    """An account with five open orders, oldest first, in a shop that sells a sixth pack."""
    packs = {f"p{number}": msgspec.structs.replace(PACK, id=f"p{number}") for number in range(6)}
    shop.sell = SellPacks(
        packs=packs,
        orders=shop.orders,
        payments=shop.provider,
        inbox=shop.inbox,
        forms=SqlForms(shop.db.store),
        clock=shop.clock,
        url_of=lambda path: f"https://tok0n.example{path}",
    )
    await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    orders = []
    for number in range(5):
        shop.clock.advance(1)
        orders.append(await buy(shop, f"p{number}"))
    return orders


async def test_a_sixth_checkout_expires_the_oldest_at_the_provider_first(shop: Shop) -> None:
    oldest, *others = await six_packs(shop)
    newest = await buy(shop, "p5")
    assert shop.provider.opened[oldest.id].outcome is Outcome.EXPIRED
    assert (await shop.orders.get(oldest.id)).payment.outcome is Outcome.EXPIRED
    for order in (*others, newest):
        assert shop.provider.opened[order.id].is_open
        assert (await shop.orders.get(order.id)).is_open


async def test_the_same_pack_leads_to_its_open_checkout(shop: Shop) -> None:
    orders = await six_packs(shop)
    assert [(await buy(shop, f"p{number}")).id for number in range(5)] == [order.id for order in orders]
    assert len(shop.provider.opened) == 5


async def test_a_checkout_that_was_paid_just_before_it_is_expired_is_credited(shop: Shop) -> None:
    oldest, *_ = await six_packs(shop)
    shop.provider.opened[oldest.id] = page(oldest, is_paid=True, is_complete=True, url=None)
    await buy(shop, "p5")
    assert await shop.posted() == PACK.tokens
    assert (await shop.orders.get(oldest.id)).payment.paid_cents == 500
    assert (await shop.db.ledger.audit()).ok


async def test_a_checkout_whose_money_is_on_its_way_is_credited_when_it_arrives(shop: Shop) -> None:
    oldest, *_ = await six_packs(shop)
    shop.provider.opened[oldest.id] = page(oldest, is_complete=True, url=None)
    await buy(shop, "p5")
    kept = await shop.orders.get(oldest.id)
    assert (kept.payment.is_complete, kept.payment.outcome) == (True, None)
    await shop.deliver(event("1", page(oldest, is_complete=True, is_paid=True)))
    assert await shop.posted() == PACK.tokens


async def test_a_checkout_that_the_provider_does_not_know_makes_room(shop: Shop) -> None:
    oldest, *_ = await six_packs(shop)
    del shop.provider.opened[oldest.id]
    await buy(shop, "p5")
    assert (await shop.orders.get(oldest.id)).payment.outcome is Outcome.EXPIRED
    await shop.deliver(event("1", page(oldest, is_complete=True, is_paid=True)))
    assert await shop.posted() == PACK.tokens, "if it was paid all the same, it is credited"


async def test_a_checkout_that_does_not_fit_its_order_makes_room_and_raises_one_alarm(shop: Shop) -> None:
    oldest, *_ = await six_packs(shop)
    shop.provider.opened[oldest.id] = page(oldest, currency="eur", url=None, outcome=Outcome.EXPIRED)
    with structlog.testing.capture_logs() as lines:
        await buy(shop, "p5")
        for _ in range(3):
            await shop.sell.refresh(oldest)
    assert [line["order"] for line in lines if line["event"] == "payment_alarm"] == [oldest.id]


async def test_nobody_is_led_to_a_checkout_that_does_not_fit_its_order(shop: Shop) -> None:
    first, *_ = await six_packs(shop)
    shop.provider.opened[first.id] = page(first, subtotal_cents=1)
    with structlog.testing.capture_logs() as lines:
        assert (await buy(shop, "p0")).id != first.id
    assert shop.provider.opened[first.id].outcome is Outcome.EXPIRED
    assert [line["order"] for line in lines if line["event"] == "payment_alarm"] == [first.id]


async def test_the_pack_of_an_ended_checkout_is_sold_anew(shop: Shop) -> None:
    first, second, *_ = await six_packs(shop)
    shop.provider.opened[first.id] = page(first, outcome=Outcome.EXPIRED, url=None)
    shop.provider.opened[second.id] = page(second, is_paid=True, is_complete=True, url=None)
    assert (await buy(shop, "p0")).id != first.id
    assert (await buy(shop, "p1")).id != second.id
    assert await shop.posted() == PACK.tokens


async def test_orders_that_died_before_they_had_a_checkout_are_used_or_make_room(shop: Shop) -> None:
    account = await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    shop.provider.is_away = True
    with pytest.raises(PaymentFailed):
        await buy(shop, PACK.id)
    (orphan,) = await shop.orders.of(account.id, before=None, rows_max=10)
    shop.provider.is_away = False
    assert (await buy(shop, PACK.id)).id == orphan.id
    for number in range(5):
        other = msgspec.structs.replace(PACK, id=f"q{number}")
        await shop.orders.open(account_id=account.id, pack=other, currency="usd", now_us=NOW_US)
    packs = {"last": msgspec.structs.replace(PACK, id="last"), PACK.id: PACK}
    shop.sell._packs = packs
    await buy(shop, "last")
    open_orders = [order for order in await shop.orders.of(account.id, before=None, rows_max=10) if order.is_open]
    assert len(open_orders) == 5


async def test_an_order_that_is_abandoned_while_its_checkout_is_created_sends_nobody_there(shop: Shop) -> None:
    account = await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    open_checkout = shop.provider.open_checkout

    async def abandoned(order: Order, **options: str) -> Checkout:
        await shop.orders.abandon(order.id)
        shop.provider.open_checkout = open_checkout  # type: ignore[method-assign]
        return await open_checkout(order, **options)

    shop.provider.open_checkout = abandoned  # type: ignore[method-assign]
    bought = await buy(shop, PACK.id)
    first = next(order for order in await shop.orders.of(account.id, before=None, rows_max=9) if order.id != bought.id)
    assert shop.provider.opened[first.id].outcome is Outcome.EXPIRED
    assert shop.provider.opened[bought.id].is_open


async def test_a_form_that_led_to_an_open_order_leads_there_again_once_it_is_paid(shop: Shop) -> None:
    order = await shop.order()
    form = Submission(account_id=order.account_id, form="order", form_id="x" * 22)

    async def submit() -> Purchase:
        return await shop.sell.buy(account_id=order.account_id, email="a@x", pack_id=PACK.id, submission=form)

    assert (await submit()).order_id == order.id
    shop.provider.opened[order.id] = page(order, is_paid=True, is_complete=True, url=None)
    await shop.sell.refresh(order)
    again = await submit()
    assert (again.order_id, again.url) == (order.id, None)
    assert len(shop.provider.opened) == 1


async def test_a_burst_of_purchases_asks_the_provider_for_one_checkout(shop: Shop) -> None:
    await shop.db.accounts.create(email="a@x", tokens=0, now_us=NOW_US)
    created = []
    open_checkout = shop.provider.open_checkout

    async def counted(order: Order, **options: str) -> Checkout:
        created.append(order.id)
        await asyncio.sleep(0)
        return await open_checkout(order, **options)

    shop.provider.open_checkout = counted  # type: ignore[method-assign]
    bought = await asyncio.gather(*(buy(shop, PACK.id) for _ in range(50)))
    assert created == [bought[0].id]
    assert {order.id for order in bought} == {bought[0].id}


class FailingOrders(SqlOrders):
    """Orders in a database that refuses to learn, as often as it is told."""

    failures = 0
    error: Exception = AccountingFailed(upstream_called=False, detail="deadlock detected")

    async def record(self, order_id: str, facts: Payment, *, payment_id: str | None, now_us: int) -> Order:
        if self.failures:
            self.failures -= 1
            raise self.error
        return await super().record(order_id, facts, payment_id=payment_id, now_us=now_us)


async def rounds(shop: Shop, *, seconds: float) -> None:
    """Act on events every 5 seconds, as a server does."""
    for _ in range(round(seconds / 5)):
        shop.clock.advance(5)
        await shop.sell.handle_all()


def failing(shop: Shop, *, failures: int, error: Exception | None = None) -> FailingOrders:
    orders = FailingOrders(shop.db.store)
    orders.failures = failures
    orders.error = error or orders.error
    shop.sell._orders = orders
    return orders


@pytest.mark.parametrize("error", [None, ZeroDivisionError("a bug")], ids=["database", "bug"])
async def test_an_event_that_fails_backs_off_and_is_applied_when_it_can_be(shop: Shop, error: Exception | None) -> None:
    order = await shop.order()
    orders = failing(shop, failures=4, error=error)
    with structlog.testing.capture_logs() as lines:
        await shop.deliver(event("1", page(order, is_paid=True)))
        await rounds(shop, seconds=5)
        assert orders.failures == 2, "after 0 and 5 seconds"
        await rounds(shop, seconds=10)
        assert orders.failures == 1, "after 15 seconds"
        await rounds(shop, seconds=60)
    assert await shop.posted() == PACK.tokens
    assert [line["attempts"] for line in lines if line["event"] == "payment_event_retried"] == [1, 2, 3, 4]
    assert [line for line in lines if line["event"] == "payment_alarm"] == []
    assert len([line for line in lines if line.get("exc_info")]) == (0 if error is None else 1)


async def test_an_event_that_always_fails_is_alarmed_twice_and_given_up_after_a_week(shop: Shop) -> None:
    order = await shop.order()
    orders = failing(shop, failures=10**6)
    with structlog.testing.capture_logs() as lines:
        await shop.deliver(event("1", page(order, is_paid=True)))
        for _ in range(24 * 8):
            await rounds(shop, seconds=5)
            shop.clock.advance(3_600)
    attempts = 10**6 - orders.failures
    assert attempts < 200
    alarms = [line["why"] for line in lines if line["event"] == "payment_alarm"]
    assert len(alarms) == 2
    assert "5 attempts failed: deadlock detected" in alarms[0]
    assert "given up" in alarms[1]
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []


async def test_events_that_wait_for_their_order_are_tried_less_and_less_often(shop: Shop) -> None:
    order = await shop.order()
    await shop.deliver(event("1", disputed(order, DisputeStatus.OPEN), "charge.dispute.created"))
    await rounds(shop, seconds=3_600)
    (waiting,) = await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10)
    assert waiting.attempts < 30, "720 rounds were made"


async def test_many_events_that_fit_nothing_raise_a_bounded_number_of_alarms(shop: Shop) -> None:
    with structlog.testing.capture_logs() as lines:
        for number in range(100):
            await shop.deliver(event(str(number), NotApplicable(why="it makes no sense")))
        shop.clock.advance(60)
        await shop.deliver(event("last", NotApplicable(why="it makes no sense")))
    alarms = [line for line in lines if line["event"] == "payment_alarm"]
    assert len(alarms) == ALARMS_MAX + 1
    assert alarms[-1]["suppressed"] == 100 - ALARMS_MAX
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=200) == []


async def test_two_processes_that_act_on_one_event_raise_one_alarm(shop: Shop) -> None:
    other = Shop(shop.db)
    await shop.sell.receive(msgspec.json.encode(event("1", NotApplicable(why="no sense"))), "signed")
    with structlog.testing.capture_logs() as lines:
        await asyncio.gather(shop.sell.handle_all(), other.sell.handle_all())
    assert len([line for line in lines if line["event"] == "payment_alarm"]) == 1


async def test_an_event_that_an_earlier_version_kept_and_that_makes_no_sense_holds_up_no_other(shop: Shop) -> None:
    order = await shop.order()
    text = msgspec.json.encode(event("1", page(order, total_cents=-500))).decode()
    row = {"id": "evt_1", "type": "x", "event": text, "created_at_us": NOW_US, "received_at_us": NOW_US}
    await shop.db.store.write(lambda tx: tx.execute(sa.insert(schema.payment_event), row) and None)
    await shop.deliver(event("2", page(order, is_paid=True)))
    assert await shop.posted() == PACK.tokens
    assert await shop.inbox.unhandled(now_us=FOREVER_US, rows_max=10) == []
