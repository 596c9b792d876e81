"""What a payment provider says, in our words: the page on which an order is paid, and the events that follow."""

from typing import Annotated

import msgspec

from tok0n.domain.orders import Cents, Dispute, Name, Outcome

EVENT_TIME_SECONDS_MAX = 2**33
"""The year 2242."""

Currency = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{3}\Z")]
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[!-~]{1,8000}\Z")]


class Checkout(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The page on which one order is paid, and how far that has come. Amounts are cents.

    `subtotal_cents` is without tax and before discounts: it must be the price of the order. `total_cents` is what is
    really paid; `is_complete` says that the buyer has done everything, `is_paid` that the money is there. `order_id` is
    None when the page is not ours.
    """

    id: Name
    url: Url | None
    order_id: Name | None
    payment_id: Name | None
    subtotal_cents: Cents
    total_cents: Cents
    currency: Currency
    livemode: bool
    is_complete: bool
    is_paid: bool
    outcome: Outcome | None

    @property
    def is_open(self) -> bool:
        """Whether the buyer may still pay."""
        return self.outcome is None and not self.is_complete and not self.is_paid


class Refunded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """How much of a payment was refunded in all until now. `order_id` is None where the provider does not say it."""

    order_id: Name | None
    payment_id: Name
    cents: Cents
    currency: Currency
    livemode: bool


class Disputed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A dispute of a payment."""

    payment_id: Name
    dispute: Dispute
    currency: Currency
    livemode: bool


class RefundFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A refund that the buyer's bank did not take: the money is with the operator again."""

    payment_id: Name
    cents: Cents


class NotApplicable(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An event that is the provider's, and can never be applied. `why` is for the operator."""

    why: str


ProviderFact = Checkout | Refunded | Disputed | RefundFailed | NotApplicable


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """One event, verified. `about` is None for one without consequence."""

    id: str
    type: str
    created_at_us: int
    about: ProviderFact | None


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the inbox, and how often it was tried to act on it."""

    event: Event
    attempts: int
    received_at_us: int
