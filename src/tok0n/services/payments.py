"""Sell packs: once paid, once credited, whatever is delivered twice, late, out of order or never.

Webhooks, the page that a buyer comes back to, and reconciliation all tell facts of the same order; `Orders.record` adds
them up. What does not fit the order is credited to nobody, and the operator is alarmed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import msgspec
import structlog

from tok0n.domain.errors import (
    AlreadyExists,
    AlreadySubmitted,
    CheckoutGone,
    NotFound,
    OperatorError,
    PaymentFailed,
    Tok0nError,
)
from tok0n.domain.forms import Submission
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, US_AN_HOUR
from tok0n.domain.orders import Order, Outcome, Payment
from tok0n.domain.packs import Pack
from tok0n.domain.payments import Checkout, Disputed, Event, NotApplicable, Refunded, RefundFailed, StoredEvent
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Forms
from tok0n.ports.orders import Orders
from tok0n.ports.payments import Inbox, Payments
from tok0n.services.account_locks import AccountLocks
from tok0n.services.alarms import Alarms

log = structlog.get_logger()

CURRENCY = "usd"
HANDLED_AT_ONCE = 100
"""How many events one round handles."""

RETRY_FOR_US = 7 * MICROSECONDS_PER_DAY
"""How long an event is tried again: its order may become known yet, or the database may recover."""

PROMPT_ATTEMPTS = 12
"""An event that waits is tried in every round at first: calls that hold its tokens end within minutes."""

BACKOFF_US = 5_000_000
BACKOFF_US_MAX = US_AN_HOUR
ALARM_ATTEMPTS = 5
"""An event that failed so often raises an alarm, once: after about a minute."""

BUY_STEPS_MAX = 10
"""Checkouts that one purchase may find ended, or expire, before the buyer is asked to try again."""

LOOKED_BACK_US = US_AN_HOUR
LOOKED_BACK_FIRST_US = 30 * MICROSECONDS_PER_DAY
"""Reconciliation begins an hour before the last one that succeeded, or as early as the provider remembers."""


class Mismatch(Exception):
    """What was paid is not what was ordered. The message is for the operator."""


class Purchase(msgspec.Struct, frozen=True, kw_only=True):
    """An order, and the URL of the provider's page on which it is paid; None when it can't be paid any more."""

    order_id: str
    url: str | None


class SellPacks:
    """The use cases. `url_of` makes a path an address of this installation."""

    def __init__(
        self,
        *,
        packs: Mapping[str, Pack],
        orders: Orders,
        payments: Payments,
        inbox: Inbox,
        forms: Forms,
        clock: Clock,
        url_of: Callable[[str], str],
        handled_at_once: int = HANDLED_AT_ONCE,
    ) -> None:
        self._packs = packs
        self._orders = orders
        self._payments = payments
        self._inbox = inbox
        self._forms = forms
        self._clock = clock
        self._url_of = url_of
        self._handled_at_once = handled_at_once
        self._handling = asyncio.Lock()
        self._alarms = Alarms(clock)
        self._buying = AccountLocks()

    @property
    def page_origin(self) -> str:
        """Where buyers pay."""
        return self._payments.page_origin

    @property
    def packs(self) -> list[Pack]:
        """What is sold."""
        return list(self._packs.values())

    async def buy(self, *, account_id: str, email: str, pack_id: str, submission: Submission | None = None) -> Purchase:
        """Order a pack. The same form, or the same pack, leads to the order that is open already.

        A form leads to its order also once that is paid.

        An account has at most `OPEN_CHECKOUTS_MAX` open orders: one more expires the oldest first. No transaction spans
        a call to the provider, so each step reads the orders again. Raises `NotFound`, `LimitReached`, `PaymentFailed`.
        """
        pack = self._packs.get(pack_id)
        if pack is None:
            raise NotFound("This pack is no longer sold.")
        # One purchase of an account at a time: a burst asks the provider once, and then finds the open order.
        async with self._buying.of(account_id):
            for _ in range(BUY_STEPS_MAX):
                opened = await self._orders.open(
                    account_id=account_id,
                    pack=pack,
                    currency=CURRENCY,
                    now_us=self._clock.now_us(),
                    submission=submission,
                )
                if opened.must_expire is not None:
                    await self._expire(opened.must_expire)
                elif opened.order is not None:
                    url = await self._payment_url(opened.order, email=email)
                    if url is not None or opened.is_repetition:
                        await self._remember(submission, opened.order)
                        return Purchase(order_id=opened.order.id, url=url)
        raise PaymentFailed(detail=f"no open checkout after {BUY_STEPS_MAX} steps")

    async def _remember(self, submission: Submission | None, order: Order) -> None:
        """Store which order a form led to, if the form didn't open it."""
        if submission is not None:
            with contextlib.suppress(AlreadySubmitted):
                await self._forms.claim(submission, result=order.id, now_us=self._clock.now_us())

    async def refresh(self, order: Order) -> tuple[Order, Checkout | None]:
        """Ask the provider how far an order has come, for a buyer who is back. Raises `PaymentFailed`.

        Gives no checkout when there is none, or none that fits the order.
        """
        if order.checkout_id is None or order.payment.paid_cents is not None:
            return order, None
        try:
            checkout = await self._payments.checkout(order.checkout_id)
        except CheckoutGone:
            return await self._end(order), None
        try:
            await self._learn_checkout(checkout)
        except Mismatch as mismatch:
            self._alarms.raise_alarm(order=order.id, why=str(mismatch))
            return order, None
        return await self._orders.get(order.id), checkout

    async def _payment_url(self, order: Order, *, email: str) -> str | None:
        """The URL of the page on which an order is paid; None when it has ended, which is recorded."""
        if not order.is_open:
            return None
        if order.checkout_id is not None:
            order, checkout = await self.refresh(order)
            if checkout is None and order.is_open:
                await self._expire(order)  # it does not fit its order, so nobody may pay it
            return checkout.url if checkout is not None and checkout.is_open else None
        path = f"/dashboard/orders/{order.id}"
        checkout = await self._payments.open_checkout(
            order, email=email, success_url=self._url_of(f"{path}?paid=1"), cancel_url=self._url_of(f"{path}?paid=0")
        )
        if not await self._orders.attach_checkout(order.id, checkout_id=checkout.id):
            # Another process has abandoned the order, or attached a checkout, meanwhile.
            await self._payments.expire_checkout(checkout.id)
            return None
        if checkout.url is None:
            raise PaymentFailed(detail=f"the checkout of {order.id} has no URL")
        return checkout.url

    async def _expire(self, order: Order) -> None:
        """Expire an open order to make room for another one. One that was paid meanwhile is credited instead."""
        if order.checkout_id is None:
            await self._orders.abandon(order.id)
            return
        try:
            checkout = await self._payments.expire_checkout(order.checkout_id)
            await self._learn_checkout(checkout)
        except CheckoutGone:
            await self._end(order)
        except Mismatch as mismatch:
            self._alarms.raise_alarm(order=order.id, why=str(mismatch))
            await self._end(order)

    async def _end(self, order: Order) -> Order:
        """Record that an order can't be paid any more. A payment that becomes known later is credited all the same."""
        expired = Payment(outcome=Outcome.EXPIRED)
        return await self._orders.record(order.id, expired, payment_id=None, now_us=self._clock.now_us())

    async def refund(self, order_id: str, *, cents: int | None = None) -> int:
        """Refund an order, wholly or in part, and return how many cents. The provider's event takes the tokens back.

        Raises `NotFound` if the order is not paid, and `OperatorError` if less than that is left to refund.
        """
        order = await self._orders.get(order_id)
        if order.payment_id is None or order.payment.paid_cents is None:
            raise NotFound("This order is not paid.")
        refundable = order.payment.refundable_cents
        if cents is None:
            cents = refundable
        if not 0 < cents <= refundable:
            raise OperatorError(f"At most {refundable} cents of this order can be refunded.")
        key = f"{order.id}-refund-{order.payment.refunded_cents}-{cents}"
        await self._payments.refund(order.payment_id, cents=cents, key=key)
        return cents

    async def receive(self, payload: bytes, signature: str | None) -> bool:
        """Store a webhook, after which its sender may get a 2xx. False if it is already stored.

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
        """Act on every event that is due. One that cannot be acted on now is tried again later."""
        async with self._handling:
            for stored in await self._inbox.unhandled(now_us=self._clock.now_us(), rows_max=self._handled_at_once):
                await self._handle(stored)

    async def _handle(self, stored: StoredEvent) -> None:
        try:
            is_settled = await self._learn(stored.event)
        except (Mismatch, AlreadyExists) as error:
            await self._reject(stored, why=str(error))
        except NotFound as error:
            await self._try_again(stored, why=error.message, last="no order matches it")
        except Tok0nError as error:
            # With the database away, recording this fails too and ends the round.
            await self._try_again(stored, why=error.detail or error.message, is_failure=True)
        except Exception as error:
            if stored.attempts == 0:
                log.exception("payment_event_failed", payment_event=stored.event.id, type=stored.event.type)
            await self._try_again(stored, why=f"{type(error).__name__}: acting on it failed", is_failure=True)
        else:
            if is_settled:
                await self._inbox.mark_handled(stored.event.id, now_us=self._clock.now_us(), failure=None)
            else:
                await self._try_again(stored, why="the tokens to take back are reserved by requests in progress")

    async def _try_again(
        self, stored: StoredEvent, *, why: str, last: str | None = None, is_failure: bool = False
    ) -> None:
        """Back off, and give up after `RETRY_FOR_US`. What fails backs off at once; what waits, after a while."""
        event, attempts, now_us = stored.event, stored.attempts + 1, self._clock.now_us()
        if now_us - stored.received_at_us >= RETRY_FOR_US:
            await self._reject(stored, why=last or f"given up after {attempts} attempts: {why}")
            return
        steps = attempts if is_failure else attempts - PROMPT_ATTEMPTS
        delay_us = min(BACKOFF_US << min(steps, 32) - 1, BACKOFF_US_MAX) if steps > 0 else 0
        is_ours = await self._inbox.tried(event.id, attempts=attempts, due_at_us=now_us + delay_us, failure=why)
        if not is_ours or not is_failure:
            return
        if attempts == ALARM_ATTEMPTS:
            self._alarms.raise_alarm(payment_event=event.id, type=event.type, why=f"{attempts} attempts failed: {why}")
        elif attempts < ALARM_ATTEMPTS:
            log.warning("payment_event_retried", payment_event=event.id, type=event.type, attempts=attempts, why=why)

    async def _reject(self, stored: StoredEvent, *, why: str) -> None:
        """Record that an event can never be applied, and raise one alarm, whichever process comes first."""
        if await self._inbox.mark_handled(stored.event.id, now_us=self._clock.now_us(), failure=why):
            self._alarms.raise_alarm(payment_event=stored.event.id, type=stored.event.type, why=why)

    async def _learn(self, event: Event) -> bool:
        """False when it must be learnt again. Raises `Mismatch`; `NotFound` when the order is not known, or not yet."""
        match event.about:
            case Checkout() as checkout:
                return await self._learn_checkout(checkout)
            case Refunded() as refunded:
                order = await self._order_of(refunded.payment_id, refunded.order_id)
                self._check(order, currency=refunded.currency, livemode=refunded.livemode)
                facts = Payment(refunded_cents=refunded.cents)
                return await self._add(order, facts, payment_id=refunded.payment_id)
            case Disputed() as disputed:
                order = await self._order_of(disputed.payment_id, None)
                self._check(order, currency=disputed.currency, livemode=disputed.livemode)
                facts = Payment(disputes=(disputed.dispute,))
                return await self._add(order, facts, payment_id=disputed.payment_id)
            case RefundFailed() as failed:
                order = await self._order_of(failed.payment_id, None)
                raise Mismatch(f"the bank did not take a refund of {failed.cents} cents of {order.id}: see the docs")
            case NotApplicable() as garbage:
                raise Mismatch(f"it can never be applied: {garbage.why}")
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
            if not checkout.is_complete and not checkout.is_paid:
                return True  # created by a process that died before it could attach it: nobody was sent there
            raise Mismatch(f"{order.id} has another page")
        facts = Payment(
            is_complete=checkout.is_complete,
            paid_cents=checkout.total_cents if checkout.is_paid else None,
            outcome=checkout.outcome,
        )
        return await self._add(order, facts, payment_id=checkout.payment_id)

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

    async def _add(self, order: Order, facts: Payment, *, payment_id: str | None) -> bool:
        after = await self._orders.record(order.id, facts, payment_id=payment_id, now_us=self._clock.now_us())
        if after.applied != order.applied:
            log.info("order_applied", order=order.id, account=order.account_id, applied=str(after.applied))
        return after.is_settled
