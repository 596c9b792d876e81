"""Sell packs: once paid, once credited, whatever is delivered twice, late, out of order or never.

Webhooks, the page that a buyer comes back to, and reconciliation all tell facts of the same order; `Orders.learn` adds
them up. What does not fit the order is credited to nobody, and the operator is alarmed.
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from tok0n.domain.errors import NotFound, PaymentFailed
from tok0n.domain.ledger import US_A_DAY, US_AN_HOUR
from tok0n.domain.orders import Order, Payment
from tok0n.domain.packs import Pack
from tok0n.domain.payments import Checkout, Disputed, Event, Refunded, RefundFailed, StoredEvent
from tok0n.ports import Clock, Inbox, Orders, Payments

log = structlog.get_logger()

CURRENCY = "usd"
HANDLED_AT_ONCE = 100
WAITS_US = 7 * US_A_DAY
"""How long an event waits for the order that it is about to become known."""

LOOKED_BACK_US = US_AN_HOUR
LOOKED_BACK_FIRST_US = 30 * US_A_DAY
"""Reconciliation begins an hour before the last one that succeeded, or as early as the provider remembers."""


class Mismatch(Exception):
    """What was paid is not what was ordered. The message is for the operator."""


class SellPacks:
    """The use cases. `url_of` makes a path an address of this installation."""

    def __init__(
        self,
        *,
        packs: Mapping[str, Pack],
        orders: Orders,
        payments: Payments,
        inbox: Inbox,
        clock: Clock,
        url_of: Callable[[str], str],
    ) -> None:
        self._packs = packs
        self._orders = orders
        self._payments = payments
        self._inbox = inbox
        self._clock = clock
        self._url_of = url_of
        self._handling = asyncio.Lock()

    @property
    def page_origin(self) -> str:
        """Where buyers pay."""
        return self._payments.page_origin

    @property
    def packs(self) -> list[Pack]:
        """What is sold."""
        return list(self._packs.values())

    async def buy(self, *, account_id: str, email: str, pack_id: str) -> str:
        """Order a pack; gives the address of the page on which it is paid. Raises `NotFound`, `PaymentFailed`."""
        pack = self._packs.get(pack_id)
        if pack is None:
            raise NotFound("This pack is not sold any more.")
        order = await self._orders.create(
            account_id=account_id, pack=pack, currency=CURRENCY, now_us=self._clock.now_us()
        )
        checkout = await self._payments.open_checkout(
            order,
            email=email,
            success_url=self._url_of(f"/dashboard/orders/{order.id}?paid=1"),
            cancel_url=self._url_of(f"/dashboard/orders/{order.id}?paid=0"),
        )
        await self._orders.attach_checkout(order.id, checkout_id=checkout.id)
        if checkout.url is None:
            raise PaymentFailed(detail=f"the checkout of {order.id} has no address")
        return checkout.url

    async def look(self, order: Order) -> tuple[Order, Checkout | None]:
        """Ask the provider how far an order has come, for a buyer who is back. Raises `PaymentFailed`."""
        if order.checkout_id is None or order.payment.paid_cents is not None:
            return order, None
        checkout = await self._payments.checkout(order.checkout_id)
        try:
            await self._learn_checkout(checkout)
        except Mismatch as mismatch:
            log.error("payment_alarm", order=order.id, why=str(mismatch))
        return await self._orders.get(order.id), checkout

    async def refund(self, order_id: str, *, cents: int) -> None:
        """Give money back. The tokens are taken back when the provider says that it is done. Raises `NotFound`."""
        order = await self._orders.get(order_id)
        if order.payment_id is None or order.payment.paid_cents is None:
            raise NotFound("This order is not paid.")
        key = f"{order.id}-refund-{order.payment.refunded_cents}-{cents}"
        await self._payments.refund(order.payment_id, cents=cents, key=key)

    async def receive(self, payload: bytes, signature: str | None) -> bool:
        """Keep a webhook; whoever called may be told 2xx then. False for one that is here already.

        Raises `SignatureInvalid`.
        """
        now_us = self._clock.now_us()
        return await self._inbox.store(self._payments.read(payload, signature, now_us=now_us), now_us=now_us)

    async def reconcile(self) -> int:
        """Ask the provider for every event lately, and act on those that never came; gives how many those were.

        Raises `PaymentFailed`.
        """
        now_us = self._clock.now_us()
        last_us = await self._inbox.reconciled_us()
        since_us = now_us - LOOKED_BACK_FIRST_US if last_us is None else last_us - LOOKED_BACK_US
        missed = 0
        async for event in self._payments.events(since_us=since_us):
            missed += await self._inbox.store(event, now_us=now_us)
        await self._inbox.reconciled(at_us=now_us)
        await self.handle_all()
        return missed

    async def handle_all(self) -> None:
        """Act on every event that waits. One that cannot be acted on now stays, and is tried again."""
        async with self._handling:
            for stored in await self._inbox.unhandled(rows_max=HANDLED_AT_ONCE):
                await self._handle(stored)

    async def _handle(self, stored: StoredEvent) -> None:
        event = stored.event
        now_us = self._clock.now_us()
        try:
            is_settled = await self._learn(event)
        except Mismatch as mismatch:
            log.error("payment_alarm", payment_event=event.id, type=event.type, why=str(mismatch))
            await self._inbox.handled(event.id, now_us=now_us, failure=str(mismatch))
        except NotFound as error:
            if now_us - stored.received_at_us < WAITS_US:
                await self._inbox.tried(event.id, failure=error.message)
                return
            log.error("payment_alarm", payment_event=event.id, type=event.type, why="it is about no order of ours")
            await self._inbox.handled(event.id, now_us=now_us, failure=error.message)
        except Exception as error:
            # Whatever it is, the next event is another; with the database away, `tried` ends the round.
            await self._inbox.tried(event.id, failure=type(error).__name__)
            log.exception("payment_alarm", payment_event=event.id, type=event.type, why="acting on it failed")
        else:
            if is_settled:
                await self._inbox.handled(event.id, now_us=now_us, failure=None)
            else:
                await self._inbox.tried(event.id, failure="calls in flight have reserved what is to be taken back")

    async def _learn(self, event: Event) -> bool:
        """False when it must be learnt again. Raises `Mismatch`; `NotFound` when the order is not known, or not yet."""
        match event.about:
            case Checkout() as checkout:
                return await self._learn_checkout(checkout)
            case Refunded() as refunded:
                order = await self._order_of(refunded.payment_id, refunded.order_id)
                self._check(order, currency=refunded.currency, livemode=refunded.livemode)
                more = Payment(refunded_cents=refunded.cents)
                return await self._add(order, more, payment_id=refunded.payment_id)
            case Disputed() as disputed:
                order = await self._order_of(disputed.payment_id, None)
                self._check(order, currency=disputed.currency, livemode=disputed.livemode)
                more = Payment(disputes=(disputed.dispute,))
                return await self._add(order, more, payment_id=disputed.payment_id)
            case RefundFailed() as failed:
                order = await self._order_of(failed.payment_id, None)
                raise Mismatch(f"the bank did not take a refund of {failed.cents} cents of {order.id}: see the docs")
            case None:
                return True

    async def _learn_checkout(self, checkout: Checkout) -> bool:
        if checkout.order_id is None:
            raise Mismatch("the page names no order: it was not made by Tok0n")
        try:
            order = await self._orders.get(checkout.order_id)
        except NotFound:
            raise Mismatch(f"there is no order {checkout.order_id}") from None
        self._check(order, currency=checkout.currency, livemode=checkout.livemode)
        if checkout.subtotal_cents != order.price_cents:
            raise Mismatch(f"{order.id} costs {order.price_cents} cents, and the page says {checkout.subtotal_cents}")
        if order.checkout_id not in {None, checkout.id}:
            raise Mismatch(f"{order.id} has another page")
        more = Payment(
            is_complete=checkout.is_complete,
            paid_cents=checkout.total_cents if checkout.is_paid else None,
            outcome=checkout.outcome,
        )
        return await self._add(order, more, payment_id=checkout.payment_id)

    def _check(self, order: Order, *, currency: str, livemode: bool) -> None:
        if currency != order.currency:
            raise Mismatch(f"{order.id} is in {order.currency}, and was paid in {currency}")
        if livemode != self._payments.is_live:
            raise Mismatch(f"{order.id} was paid with {'real' if livemode else 'test'} money")

    async def _order_of(self, payment_id: str, order_id: str | None) -> Order:
        order = await self._orders.find_by_payment(payment_id)
        if order is not None:
            return order
        if order_id is None:
            raise NotFound(f"No order is known to be paid by {payment_id}.")
        return await self._orders.get(order_id)

    async def _add(self, order: Order, more: Payment, *, payment_id: str | None) -> bool:
        after = await self._orders.learn(order.id, more, payment_id=payment_id, now_us=self._clock.now_us())
        if after.applied != order.applied:
            log.info("order_applied", order=order.id, account=order.account_id, applied=str(after.applied))
        return after.is_settled
