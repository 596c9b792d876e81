"""Whatever the provider delivers twice, late, out of order or never: credited once, and only what fits the order."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import msgspec
import pytest
import structlog

from support.fakes import FakeClock
from support.ledgers import ENGINES, NOW_US, Opened, open_engine
from support.spending import reserve
from tok0n.adapters.sql.inbox import SqlInbox
from tok0n.adapters.sql.orders import SqlOrders
from tok0n.domain.errors import CheckoutGone, NotFound, PaymentFailed
from tok0n.domain.ledger import Release
from tok0n.domain.orders import Dispute, DisputeStatus, Order, Outcome
from tok0n.domain.packs import Pack
from tok0n.domain.payments import Checkout, Disputed, Event, News, Refunded, RefundFailed
from tok0n.services.payments import WAITS_US, SellPacks

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


def event(name: str, about: News | None, kind: str = "checkout.session.completed") -> Event:
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
    await asyncio.gather(*(shop.sell.handle_all() for _ in range(10)), *(shop.sell.look(order) for _ in range(10)))
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
                await shop.sell.look(await shop.orders.get(order.id))
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
    shop.clock.advance(WAITS_US / 1_000_000)
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
        email="a@x", name="test", digest=b"key", prefix="tk0n_", last_four="0000", now_us=NOW_US
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
