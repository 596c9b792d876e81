"""The payment provider, and the inbox of its webhook events."""

from collections.abc import AsyncIterator
from typing import Protocol

from tok0n.domain.orders import Order
from tok0n.domain.payments import Checkout, Event, StoredEvent


class Payments(Protocol):
    """The payment provider. All but `read` raise `PaymentFailed`."""

    @property
    def is_live(self) -> bool:
        """Whether real money is moved."""

    @property
    def page_origin(self) -> str:
        """Where the pages are on which buyers pay, as https://HOST."""

    async def open_checkout(self, order: Order, *, email: str, success_url: str, cancel_url: str) -> Checkout:
        """Make the page on which an order is paid; repeated, it is the same one."""

    async def checkout(self, checkout_id: str) -> Checkout:
        """How far a checkout has come. Raises `CheckoutGone` too."""

    async def expire_checkout(self, checkout_id: str) -> Checkout:
        """Expire a checkout that is still open; gives how far it has come. One that was paid meanwhile stays paid.

        Raises `CheckoutGone` too.
        """

    async def refund(self, payment_id: str, *, cents: int, key: str) -> None:
        """Give money back; repeated with the same `key`, it is given back once."""

    def read(self, payload: bytes, signature: str | None, *, now_us: int) -> Event:
        """A webhook, proven to be the provider's and fresh. Raises `SignatureInvalid`.

        An event whose contents cannot be understood is about `NotApplicable`.
        """

    def events(self, *, since_us: int) -> AsyncIterator[Event]:
        """Every event since then, newest first."""


class Inbox(Protocol):
    """Events of the payment provider: kept before they are answered, until they were acted on."""

    async def store(self, event: Event, *, now_us: int) -> bool:
        """Keep an event. False when it is here already."""

    async def unhandled(self, *, now_us: int, rows_max: int) -> list[StoredEvent]:
        """Events that are due and were not acted on yet, the least tried first, and of those the oldest."""

    async def mark_handled(self, event_id: str, *, now_us: int, failure: str | None) -> bool:
        """It was acted on, or must not be, for a reason. False when another process said so first."""

    async def tried(self, event_id: str, *, attempts: int, due_at_us: int, failure: str) -> bool:
        """It could not be acted on, `attempts` times until now, and is due again then. False as above."""

    async def reconciled_us(self) -> int | None:
        """When the provider was last asked for everything that it had to tell, and answered."""

    async def reconciled(self, *, at_us: int) -> None:
        """All events until then are here."""
