"""The payment provider's checkouts and events as provider-independent types. Amounts are cents."""

from typing import Annotated

import msgspec

from tok0n.domain.orders import Cents, Dispute, Name, UnpaidReason

EVENT_TIME_SECONDS_MAX = 2**33
"""The year 2242."""

Currency = Annotated[str, msgspec.Meta(pattern=r"^[a-z]{3}\Z")]
Url = Annotated[str, msgspec.Meta(pattern=r"^https?://[!-~]{1,8000}\Z")]


class Checkout(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The provider's payment page for an order, and its state.

    `subtotal_cents` excludes tax and discounts and must equal the order's price. `total_cents` is the amount that the
    buyer pays. `is_complete` means that the buyer has finished, and `is_paid` that the money has arrived. `order_id` is
    None if another application created the page. `tax_cents` is part of the total. `decline_code` is the bank's reason
    for declining the last attempt to pay, if the provider reports it.
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
    outcome: UnpaidReason | None
    tax_cents: Cents | None = None
    decline_code: Name | None = None

    @property
    def is_open(self) -> bool:
        """Whether the buyer may still pay."""
        return self.outcome is None and not self.is_complete and not self.is_paid


class Declined(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An attempt to pay that the buyer's bank declined. The buyer may try again."""

    order_id: Name
    payment_id: Name
    decline_code: Name
    currency: Currency
    livemode: bool


class Refunded(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The sum of a payment's refunds so far. `order_id` is None if the provider omits it."""

    order_id: Name | None
    payment_id: Name
    cents: Cents
    currency: Currency
    livemode: bool


class Disputed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A change of a payment's dispute."""

    payment_id: Name
    dispute: Dispute
    currency: Currency
    livemode: bool


class RefundFailed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A refund that the buyer's bank rejected, so the provider returned the money to the operator."""

    payment_id: Name
    cents: Cents


class NotApplicable(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An authentic event that can never be applied. `why` is for the operator."""

    why: str


ProviderFact = Checkout | Declined | Refunded | Disputed | RefundFailed | NotApplicable


class PaymentEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A verified webhook event. `fact` is None if it has no effect. Stored events call it `about`."""

    id: str
    type: str
    created_at_us: int
    fact: ProviderFact | None = msgspec.field(name="about")


class StoredEvent(msgspec.Struct, frozen=True, kw_only=True):
    """An event in the inbox, and the number of attempts to apply it."""

    event: PaymentEvent
    attempts: int
    received_at_us: int
