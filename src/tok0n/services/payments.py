"""Sell packs. Each payment is credited exactly once, even if its events arrive twice, late, out of order or never.

Webhooks, the page that buyers return to, and reconciliation all report facts about an order. `Orders.record` merges
them. A payment that doesn't match its order is never credited, and raises an alarm for the operator.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import msgspec
import structlog

from tok0n.domain.billing import NO_DETAILS, BillingDetails
from tok0n.domain.documents import NO_ISSUER, Issuer
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
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR
from tok0n.domain.orders import PRICE_CENTS_MAX, QUANTITY_MAX, Order, Payment, UnpaidReason
from tok0n.domain.packs import Pack
from tok0n.domain.payments import (
    Checkout,
    Declined,
    Disputed,
    NotApplicable,
    PaymentEvent,
    Refunded,
    RefundFailed,
    StoredEvent,
)
from tok0n.ports.clock import Clock
from tok0n.ports.forms import Forms
from tok0n.ports.orders import Orders
from tok0n.ports.payments import Inbox, Payments
from tok0n.services.account_locks import AccountLocks
from tok0n.services.alarms import Alarms
from tok0n.services.checks import check_count

log = structlog.get_logger()

CURRENCY = "usd"
HANDLED_AT_ONCE = 100
"""The most events that one call of `handle_all` handles."""

RETRY_FOR_US = 7 * MICROSECONDS_PER_DAY
"""How long to retry an event. Its order may appear later, or the database may recover."""

IMMEDIATE_ATTEMPTS = 12
"""Retry a waiting event this often without backing off. Requests that reserve its tokens end within minutes."""

BACKOFF_US = 5_000_000
BACKOFF_US_MAX = MICROSECONDS_PER_HOUR
ALARM_ATTEMPTS = 5
"""Raise one alarm after this many failed attempts, which take about a minute."""

BUY_STEPS_MAX = 10
"""The most steps of one purchase. Each step reads the orders, and opens or expires a checkout."""

LOOKBACK_US = MICROSECONDS_PER_HOUR
FIRST_LOOKBACK_US = 30 * MICROSECONDS_PER_DAY
"""How far the first reconciliation looks back, which is as long as the provider keeps events.

Each later one begins `LOOKBACK_US` before the last one that succeeded.
"""


class Mismatch(Exception):
    """A payment doesn't match its order. The message is for the operator."""


class Purchase(msgspec.Struct, frozen=True, kw_only=True):
    """An order, and the URL of the provider's payment page. None if the order can no longer be paid."""

    order_id: str
    url: str | None


class SellPacks:
    """Sells, refunds and reconciles packs. `url_of` turns a path into a full URL."""

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
        issuer: Issuer = NO_ISSUER,
        handled_at_once: int = HANDLED_AT_ONCE,
    ) -> None:
        self._packs = packs
        self._orders = orders
        self._payments = payments
        self._inbox = inbox
        self._forms = forms
        self._clock = clock
        self._url_of = url_of
        self._issuer = issuer
        self._handled_at_once = handled_at_once
        self._handling = asyncio.Lock()
        self._alarms = Alarms(clock)
        self._locks = AccountLocks()

    @property
    def page_origin(self) -> str:
        """The origin of the provider's payment pages."""
        return self._payments.page_origin

    @property
    def packs(self) -> list[Pack]:
        """The packs for sale."""
        return list(self._packs.values())

    async def buy(
        self,
        *,
        account_id: str,
        email: str,
        pack_id: str,
        quantity: int = 1,
        billing: BillingDetails = NO_DETAILS,
        submission: Submission | None = None,
    ) -> Purchase:
        """Order packs. If the account has an open order of the same pack and quantity, return that order.

        A repeated `submission` returns the order of the first one, even if it is paid. An account has at most
        `OPEN_CHECKOUTS_MAX` open orders; a further order first expires the oldest one. No transaction spans a call to
        the provider, so each step reads the orders again.

        Raises `NotFound`, `InvalidRequest`, `LimitReached` and `PaymentFailed`.
        """
        pack = self._packs.get(pack_id)
        if pack is None:
            raise NotFound("This pack is no longer sold.")
        check_count(quantity, most=min(QUANTITY_MAX, PRICE_CENTS_MAX // pack.price_usd_cents), param="quantity")
        billing = billing.checked()
        # The lock lets a burst of submissions open one checkout: the others then find the open order.
        async with self._locks.lock_for(account_id):
            for _ in range(BUY_STEPS_MAX):
                opened = await self._orders.open(
                    account_id=account_id,
                    pack=pack,
                    currency=CURRENCY,
                    now_us=self._clock.now_us(),
                    quantity=quantity,
                    billing=billing,
                    submission=submission,
                )
                if opened.must_expire is not None:
                    await self._expire(opened.must_expire)
                elif opened.order is not None:
                    url = await self._payment_url(opened.order, email=email)
                    if url is not None or opened.is_repetition:
                        await self._link_form(submission, opened.order)
                        return Purchase(order_id=opened.order.id, url=url)
        raise PaymentFailed(detail=f"no open checkout after {BUY_STEPS_MAX} steps")

    async def _link_form(self, submission: Submission | None, order: Order) -> None:
        """Record the order of a form whose submission returned an order that was already open."""
        if submission is not None:
            with contextlib.suppress(AlreadySubmitted):
                await self._forms.claim(submission, result=order.id, now_us=self._clock.now_us())

    async def refresh(self, order: Order) -> tuple[Order, Checkout | None]:
        """Update an order from its checkout at the provider, and return both. Raises `PaymentFailed`.

        The checkout is None if the order has none, or if it doesn't match the order.
        """
        if order.checkout_id is None or order.payment.paid_cents is not None:
            return order, None
        try:
            checkout = await self._payments.checkout(order.checkout_id)
        except CheckoutGone:
            return await self._record_expired(order), None
        try:
            await self._apply_checkout(checkout)
        except Mismatch as mismatch:
            self._alarms.raise_alarm(order=order.id, why=str(mismatch))
            return order, None
        return await self._orders.get(order.id), checkout

    async def _payment_url(self, order: Order, *, email: str) -> str | None:
        """Return the URL of an order's payment page, opening a checkout if needed. None if it can no longer be paid."""
        if not order.is_open:
            return None
        if order.checkout_id is not None:
            order, checkout = await self.refresh(order)
            if checkout is None and order.is_open:
                await self._expire(order)  # its checkout does not match, so nobody may pay it
            return checkout.url if checkout is not None and checkout.is_open else None
        path = f"/dashboard/orders/{order.id}"
        checkout = await self._payments.open_checkout(
            order, email=email, success_url=self._url_of(f"{path}?paid=1"), cancel_url=self._url_of(f"{path}?paid=0")
        )
        if not await self._orders.attach_checkout(order.id, checkout_id=checkout.id):
            # In the meantime another process abandoned the order or attached a checkout.
            await self._payments.expire_checkout(checkout.id)
            return None
        if checkout.url is None:
            raise PaymentFailed(detail=f"the checkout of {order.id} has no URL")
        return checkout.url

    async def _expire(self, order: Order) -> None:
        """Expire an open order. If it was paid in the meantime, credit it instead."""
        if order.checkout_id is None:
            await self._orders.abandon(order.id)
            return
        try:
            checkout = await self._payments.expire_checkout(order.checkout_id)
            await self._apply_checkout(checkout)
        except CheckoutGone:
            await self._record_expired(order)
        except Mismatch as mismatch:
            self._alarms.raise_alarm(order=order.id, why=str(mismatch))
            await self._record_expired(order)

    async def _record_expired(self, order: Order) -> Order:
        """Record that an order has expired. A payment that is reported later is still credited."""
        expired = Payment(outcome=UnpaidReason.EXPIRED)
        return await self._record(order, expired, payment_id=None)

    async def refund(self, order_id: str, *, cents: int | None = None) -> int:
        """Refund `cents` of an order, or the rest of it, and return the cents. The provider's event removes the tokens.

        Raises `NotFound` if the order is not paid, and `OperatorError` if `cents` exceeds the refundable amount.
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
        """Store a webhook, so that its sender can get a 2xx. Return False if it was stored before.

        Raises `SignatureInvalid`.
        """
        now_us = self._clock.now_us()
        return await self._inbox.store(self._payments.read_webhook(payload, signature, now_us=now_us), now_us=now_us)

    async def reconcile(self) -> int:
        """Fetch recent events from the provider, handle the missing ones, and return their number.

        Raises `PaymentFailed`.
        """
        now_us = self._clock.now_us()
        last_us = await self._inbox.last_reconciled_us()
        since_us = now_us - FIRST_LOOKBACK_US if last_us is None else last_us - LOOKBACK_US
        missed = 0
        async for event in self._payments.events(since_us=since_us):
            missed += await self._inbox.store(event, now_us=now_us)
        await self._inbox.mark_reconciled(at_us=now_us)
        await self.handle_all()
        return missed

    async def handle_all(self) -> None:
        """Handle the events that are due, and schedule a retry of each one that can't be applied yet."""
        async with self._handling:
            for stored in await self._inbox.unhandled(now_us=self._clock.now_us(), rows_max=self._handled_at_once):
                await self._handle(stored)

    async def _handle(self, stored: StoredEvent) -> None:
        try:
            is_fully_applied = await self._apply(stored.event)
        except (Mismatch, AlreadyExists) as error:
            await self._reject(stored, why=str(error))
        except NotFound as error:
            await self._retry(stored, why=error.message, rejection_why="no order matches it")
        except Tok0nError as error:
            # If the database is unavailable, recording this fails too and ends `handle_all`.
            await self._retry(stored, why=error.detail or error.message, is_failure=True)
        except Exception as error:
            if stored.attempts == 0:
                log.exception("payment_event_failed", payment_event=stored.event.id, type=stored.event.type)
            await self._retry(stored, why=f"{type(error).__name__}: handling it failed", is_failure=True)
        else:
            if is_fully_applied:
                await self._inbox.mark_handled(stored.event.id, now_us=self._clock.now_us(), failure=None)
            else:
                await self._retry(stored, why="the tokens to take back are reserved by requests in progress")

    async def _retry(
        self, stored: StoredEvent, *, why: str, rejection_why: str | None = None, is_failure: bool = False
    ) -> None:
        """Schedule another attempt, or reject the event after `RETRY_FOR_US`.

        The delay grows with each failure. For a waiting event, it starts after `IMMEDIATE_ATTEMPTS` attempts.
        """
        event, attempts, now_us = stored.event, stored.attempts + 1, self._clock.now_us()
        if now_us - stored.received_at_us >= RETRY_FOR_US:
            await self._reject(stored, why=rejection_why or f"gave up after {attempts} attempts: {why}")
            return
        backoffs = attempts if is_failure else attempts - IMMEDIATE_ATTEMPTS
        delay_us = min(BACKOFF_US << min(backoffs, 32) - 1, BACKOFF_US_MAX) if backoffs > 0 else 0
        is_new = await self._inbox.record_attempt(event.id, attempts=attempts, due_at_us=now_us + delay_us, failure=why)
        if not is_new or not is_failure:
            return
        if attempts == ALARM_ATTEMPTS:
            self._alarms.raise_alarm(payment_event=event.id, type=event.type, why=f"{attempts} attempts failed: {why}")
        elif attempts < ALARM_ATTEMPTS:
            log.warning("payment_event_retried", payment_event=event.id, type=event.type, attempts=attempts, why=why)

    async def _reject(self, stored: StoredEvent, *, why: str) -> None:
        """Record that an event can never be applied. Only the process that records it raises the alarm."""
        if await self._inbox.mark_handled(stored.event.id, now_us=self._clock.now_us(), failure=why):
            self._alarms.raise_alarm(payment_event=stored.event.id, type=stored.event.type, why=why)

    async def _apply(self, event: PaymentEvent) -> bool:
        """Apply an event to its order. Return False if it must be applied again later.

        Raises `Mismatch`, and `NotFound` if there is no such order or not yet.
        """
        match event.fact:
            case Checkout() as checkout:
                return await self._apply_checkout(checkout)
            case Declined() as declined:
                order = await self._orders.get(declined.order_id)
                self._check(order, currency=declined.currency, livemode=declined.livemode)
                facts = Payment(decline_code=declined.decline_code)
                return (await self._record(order, facts, payment_id=declined.payment_id)).is_fully_applied
            case Refunded() as refunded:
                order = await self._order_of(refunded.payment_id, refunded.order_id)
                self._check(order, currency=refunded.currency, livemode=refunded.livemode)
                facts = Payment(refunded_cents=refunded.cents)
                return (await self._record(order, facts, payment_id=refunded.payment_id)).is_fully_applied
            case Disputed() as disputed:
                order = await self._order_of(disputed.payment_id, None)
                self._check(order, currency=disputed.currency, livemode=disputed.livemode)
                facts = Payment(disputes=(disputed.dispute,))
                return (await self._record(order, facts, payment_id=disputed.payment_id)).is_fully_applied
            case RefundFailed() as failed:
                order = await self._order_of(failed.payment_id, None)
                raise Mismatch(
                    f"the bank rejected a refund of {failed.cents} cents of {order.id}: see docs/payments.md"
                )
            case NotApplicable() as invalid:
                raise Mismatch(f"the event is invalid: {invalid.why}")
            case None:
                return True

    async def _apply_checkout(self, checkout: Checkout) -> bool:
        if checkout.order_id is None:
            raise Mismatch("the checkout names no order, so Tok0n did not create it")
        try:
            order = await self._orders.get(checkout.order_id)
        except NotFound:
            raise Mismatch(f"there is no order {checkout.order_id}") from None
        self._check(order, currency=checkout.currency, livemode=checkout.livemode)
        if checkout.subtotal_cents != order.price_cents:
            raise Mismatch(f"{order.id} costs {order.price_cents} cents, but its checkout {checkout.subtotal_cents}")
        if order.checkout_id not in {None, checkout.id}:
            if not checkout.is_complete and not checkout.is_paid:
                return True  # its process died before attaching it, so no buyer has its URL
            raise Mismatch(f"{order.id} has a different checkout")
        facts = Payment(
            is_complete=checkout.is_complete,
            paid_cents=checkout.total_cents if checkout.is_paid else None,
            tax_cents=checkout.tax_cents if checkout.is_paid else None,
            decline_code=checkout.decline_code,
            outcome=checkout.outcome,
        )
        return (await self._record(order, facts, payment_id=checkout.payment_id)).is_fully_applied

    def _check(self, order: Order, *, currency: str, livemode: bool) -> None:
        if currency != order.currency:
            raise Mismatch(f"{order.id} is in {order.currency}, but the payment is in {currency}")
        if livemode != self._payments.is_live:
            raise Mismatch(f"{order.id} was paid with {'real' if livemode else 'test'} money")

    async def _order_of(self, payment_id: str, order_id: str | None) -> Order:
        order = await self._orders.find_by_payment(payment_id)
        if order is not None:
            return order
        if order_id is None:
            raise NotFound(f"No order has the payment {payment_id}.")
        return await self._orders.get(order_id)

    async def _record(self, order: Order, facts: Payment, *, payment_id: str | None) -> Order:
        now_us = self._clock.now_us()
        after = await self._orders.record(order.id, facts, payment_id=payment_id, now_us=now_us, issuer=self._issuer)
        if after.applied != order.applied:
            log.info("order_applied", order=order.id, account=order.account_id, applied=str(after.applied))
        return after
