"""The payment provider, and the inbox of its webhook events."""

from collections.abc import AsyncIterator
from typing import Protocol

from tok0n.domain.orders import Order
from tok0n.domain.payments import Checkout, PaymentEvent, StoredEvent


class Payments(Protocol):
    """The payment provider. All methods except `read_webhook` raise `PaymentFailed`."""

    @property
    def is_live(self) -> bool:
        """Whether the provider moves real money."""

    @property
    def page_origin(self) -> str:
        """The origin of the provider's payment pages, as https://HOST."""

    async def open_checkout(self, order: Order, *, email: str, success_url: str, cancel_url: str) -> Checkout:
        """Create the payment page of an order. A repetition returns the same page."""

    async def checkout(self, checkout_id: str) -> Checkout:
        """Return the current state of a checkout. Also raises `CheckoutGone`."""

    async def expire_checkout(self, checkout_id: str) -> Checkout:
        """Expire an open checkout, and return its state. A checkout that was paid meanwhile stays paid.

        Also raises `CheckoutGone`.
        """

    async def refund(self, payment_id: str, *, cents: int, key: str) -> None:
        """Refund an amount. Calls with the same idempotency `key` refund it once."""

    def read_webhook(self, payload: bytes, signature: str | None, *, now_us: int) -> PaymentEvent:
        """Verify and parse a webhook. Raises `SignatureInvalid` if its signature is wrong or too old.

        An authentic event with invalid contents is about `NotApplicable`.
        """

    def events(self, *, since_us: int) -> AsyncIterator[PaymentEvent]:
        """Yield the events since `since_us`, newest first."""


class Inbox(Protocol):
    """The inbox of the payment provider's events. Events are stored before the webhook responds, and handled later."""

    async def store(self, event: PaymentEvent, *, now_us: int) -> bool:
        """Store an event. Returns False if it is already stored."""

    async def unhandled(self, *, now_us: int, rows_max: int) -> list[StoredEvent]:
        """Return unhandled events that are due, those with the fewest attempts first, then the oldest."""

    async def mark_handled(self, event_id: str, *, now_us: int, failure: str | None) -> bool:
        """Mark an event as handled, or as not applicable because of `failure`. Returns False if it already is."""

    async def record_attempt(self, event_id: str, *, attempts: int, due_at_us: int, failure: str) -> bool:
        """Store that `attempts` attempts have failed, and the time of the next one.

        Returns False if the event is handled, or another process has stored as many attempts.
        """

    async def last_reconciled_us(self) -> int | None:
        """Return the time of the last complete reconciliation with the provider. None before the first one."""

    async def mark_reconciled(self, *, at_us: int) -> None:
        """Store that the inbox has all events until `at_us`."""
