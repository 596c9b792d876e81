"""A payment provider that delivers what a test tells it to, and a shop that sells packs through it."""

from collections.abc import AsyncIterator, Sequence

import msgspec

from support.fakes import FakeClock
from support.ledgers import NOW_US, Opened
from tok0n.adapters.sql.repositories.forms import SqlForms
from tok0n.adapters.sql.repositories.inbox import SqlInbox
from tok0n.adapters.sql.repositories.orders import SqlOrders
from tok0n.domain.documents import NO_ISSUER, Issuer
from tok0n.domain.errors import CheckoutGone, PaymentFailed
from tok0n.domain.orders import Dispute, DisputeStatus, Order, UnpaidReason
from tok0n.domain.packs import Pack
from tok0n.domain.payments import Checkout, Disputed, PaymentEvent, ProviderFact, Refunded
from tok0n.services.payments import SellPacks

FOREVER_US = 2**62

PACK = Pack(id="starter", name="Starter", tokens=1_000, price_usd_cents=500)


class FakePayments:
    """Answers with the checkouts and events that a test put into it."""

    is_live = False
    page_origin = "https://pay.example"

    def __init__(self) -> None:
        self.opened: dict[str, Checkout] = {}
        self.log: list[PaymentEvent] = []
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
            self.opened[order_id] = msgspec.structs.replace(checkout, outcome=UnpaidReason.EXPIRED, url=None)
        return self.opened[order_id]

    async def refund(self, payment_id: str, *, cents: int, key: str) -> None:
        self.refunds.append((payment_id, cents, key))

    def read_webhook(self, payload: bytes, signature: str | None, *, now_us: int) -> PaymentEvent:
        return msgspec.json.decode(payload, type=PaymentEvent)

    async def events(self, *, since_us: int) -> AsyncIterator[PaymentEvent]:
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


def event(name: str, fact: ProviderFact | None, kind: str = "checkout.session.completed") -> PaymentEvent:
    return PaymentEvent(id=f"evt_{name}", type=kind, created_at_us=NOW_US, fact=fact)


class Shop:
    """`SellPacks` on a real database, in front of a fake provider."""

    def __init__(self, db: Opened) -> None:
        self.db = db
        self.clock = FakeClock(now_us=NOW_US)
        self.orders = SqlOrders(db.store)
        self.inbox = SqlInbox(db.store)
        self.provider = FakePayments()
        self.sell = self.selling()

    def selling(
        self,
        *,
        packs: Sequence[Pack] = (PACK,),
        orders: SqlOrders | None = None,
        issuer: Issuer = NO_ISSUER,
        **limits: int,
    ) -> SellPacks:
        """The service, with other packs, orders, seller or limits than those of `sell`."""
        return SellPacks(
            packs={pack.id: pack for pack in packs},
            orders=orders or self.orders,
            payments=self.provider,
            inbox=self.inbox,
            forms=SqlForms(self.db.store),
            clock=self.clock,
            url_of=lambda path: f"https://tok0n.example{path}",
            issuer=issuer,
            **limits,
        )

    async def order(self, email: str = "a@x") -> Order:
        account = await self.db.accounts.create(email=email, tokens=0, now_us=NOW_US)
        await self.sell.buy(account_id=account.id, email=email, pack_id=PACK.id)
        return (await self.orders.list_for_account(account.id, before=None, rows_max=1))[0]

    async def deliver(self, *events: PaymentEvent) -> None:
        for one in events:
            await self.sell.receive(msgspec.json.encode(one), "signed")
            await self.sell.handle_all()

    async def posted(self, email: str = "a@x") -> int:
        return (await self.db.accounts.get(email)).balance.posted
