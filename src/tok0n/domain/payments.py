"""What a payment provider says, in our words: the page on which an order is paid, and the events that follow."""

import msgspec

from tok0n.domain.orders import Dispute, Outcome


class Checkout(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The page on which one order is paid, and how far that has come. Amounts are cents.

    `subtotal_cents` is without tax and before discounts: it must be the price of the order. `total_cents` is what is
    really paid; `is_complete` says that the buyer has done everything, `is_paid` that the money is there. `order_id` is
    None when the page is not ours.
    """

    id: str
    url: str | None
    order_id: str | None
    payment_id: str | None
    subtotal_cents: int
    total_cents: int
    currency: str
    livemode: bool
    is_complete: bool
    is_paid: bool
    outcome: Outcome | None


class Refunded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How much of a payment was refunded in all until now. `order_id` is None where the provider does not say it."""

    order_id: str | None
    payment_id: str
    cents: int
    currency: str
    livemode: bool


class Disputed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A dispute of a payment."""

    payment_id: str
    dispute: Dispute
    currency: str
    livemode: bool


class RefundFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A refund that the buyer's bank did not take: the money is with the operator again."""

    payment_id: str
    cents: int


News = Checkout | Refunded | Disputed | RefundFailed


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event, verified. `about` is None for one without consequence."""

    id: str
    type: str
    created_at_us: int
    about: News | None


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the inbox, and how often it was tried to act on it."""

    event: Event
    attempts: int
    received_at_us: int
