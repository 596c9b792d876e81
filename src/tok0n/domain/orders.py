"""Orders, and the tokens that an order is worth, computed from the facts about its payment.

Facts about a payment only accumulate: it is paid, partly or fully refunded, disputed, and a dispute is decided. The
tokens due are a function of the facts, and the ledger gets entries for the difference between the tokens due and the
tokens already applied. So the result doesn't depend on whether facts arrive twice, late or out of order.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from tok0n.domain.billing import NO_DETAILS, BillingDetails
from tok0n.domain.ledger import MICROSECONDS_PER_DAY, MICROSECONDS_PER_HOUR, STANDARD, Balance, EntryKind
from tok0n.domain.packs import Pack

OPEN_CHECKOUTS_MAX = 5
"""The most open orders of an account. Opening another one expires the oldest first."""

STARTED_CHECKOUTS_MAX = 20
STARTED_CHECKOUTS_US = MICROSECONDS_PER_HOUR
"""An account may start `STARTED_CHECKOUTS_MAX` unpaid purchases in this time."""

CHECKOUT_LIFETIME_US = MICROSECONDS_PER_DAY
"""The time in which a buyer can pay a checkout (Stripe API reference, Checkout Sessions, `expires_at`)."""

QUANTITY_MAX = 100
"""The most packs of an order."""

PRICE_CENTS_MAX = 99_999_999
"""The highest price of an order (Stripe API reference, Checkout Sessions: amounts have at most eight digits)."""

LIVE_CHECKOUT = "cs_live_"
"""The start of the id of a checkout with real money (Stripe API reference, Checkout Sessions)."""

CENTS_MAX = 10**12
"""Far above a provider's largest payment (Stripe: 99,999,999), and far below a database's largest integer."""

Cents = Annotated[int, msgspec.Meta(ge=0, le=CENTS_MAX)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,255}\Z")]
"""An id of the provider's or ours, without control characters and short enough to store."""


def cents_without_tax(paid_cents: int, *, tax_cents: int | None, price_cents: int) -> int:
    """Return the part of a payment that bought tokens. Without a reported tax, it is at most the price."""
    return min(paid_cents, price_cents) if tax_cents is None else max(0, paid_cents - tax_cents)


class DisputeStatus(StrEnum):
    """The status of a dispute. A decided dispute never reopens."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


_RANK = {DisputeStatus.OPEN: 0, DisputeStatus.WON: 1, DisputeStatus.LOST: 2}
"""The order in which statuses override each other, independent of arrival. A lost dispute overrides a won one."""


class UnpaidReason(StrEnum):
    """Why an order ended unpaid."""

    EXPIRED = "expired"
    FAILED = "failed"


class OrderStatus(StrEnum):
    """How far an order has come. The tokens of a disputed one are frozen."""

    AWAITING_PAYMENT = "awaiting_payment"
    PROCESSING = "processing"
    EXPIRED = "expired"
    FAILED = "failed"
    PAID = "paid"
    DISPUTED = "disputed"
    DISPUTE_LOST = "dispute_lost"
    PARTIALLY_REFUNDED = "partially_refunded"
    REFUNDED = "refunded"

    @property
    def is_pending(self) -> bool:
        """Whether the order is neither paid nor over."""
        return self in {OrderStatus.AWAITING_PAYMENT, OrderStatus.PROCESSING}


class Dispute(msgspec.Struct, frozen=True, kw_only=True):
    """A dispute of a payment, which the buyer opened at the bank. `cents` is the disputed amount."""

    id: Name
    cents: Cents
    status: DisputeStatus

    @property
    def withholds(self) -> bool:
        """Whether the disputed tokens are taken from the account."""
        return self.status is not DisputeStatus.WON


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about an order's payment. `paid_cents` includes tax, and is None for an unpaid order.

    `tax_cents` is the tax that the provider computed, or None if it reported none. `decline_code` is the bank's reason
    for declining an attempt to pay, which the buyer may repeat.

    `is_complete` means that the buyer has finished the checkout. The money may arrive later. `refunded_cents` is the
    sum of all refunds so far.
    """

    is_complete: bool = False
    paid_cents: int | None = None
    tax_cents: int | None = None
    decline_code: str | None = None
    refunded_cents: int = 0
    disputes: tuple[Dispute, ...] = ()
    outcome: UnpaidReason | None = None

    @property
    def status(self) -> OrderStatus:
        """How far the order has come. A dispute outweighs a refund."""
        if self.paid_cents is None:
            if self.outcome is not None:
                return OrderStatus(self.outcome)
            return OrderStatus.PROCESSING if self.is_complete else OrderStatus.AWAITING_PAYMENT
        statuses = {dispute.status for dispute in self.disputes}
        if DisputeStatus.OPEN in statuses:
            return OrderStatus.DISPUTED
        if DisputeStatus.LOST in statuses:
            return OrderStatus.DISPUTE_LOST
        if self.refunded_cents:
            is_whole = self.refunded_cents >= self.paid_cents
            return OrderStatus.REFUNDED if is_whole else OrderStatus.PARTIALLY_REFUNDED
        return OrderStatus.PAID

    @property
    def refundable_cents(self) -> int:
        """The most that can still be refunded; 0 for an unpaid order."""
        return max(0, (self.paid_cents or 0) - self.refunded_cents)

    def merge(self, facts: "Payment") -> "Payment":
        """Combine two sets of facts. The result doesn't depend on the order in which facts arrive."""
        disputes = {dispute.id: dispute for dispute in self.disputes}
        for dispute in facts.disputes:
            existing = disputes.get(dispute.id, dispute)
            disputes[dispute.id] = Dispute(
                id=dispute.id,
                cents=max(existing.cents, dispute.cents),
                status=max(existing.status, dispute.status, key=_RANK.__getitem__),
            )
        paid_cents = [cents for cents in (self.paid_cents, facts.paid_cents) if cents is not None]
        tax_cents = [cents for cents in (self.tax_cents, facts.tax_cents) if cents is not None]
        return Payment(
            is_complete=self.is_complete or facts.is_complete,
            paid_cents=max(paid_cents, default=None),
            tax_cents=max(tax_cents, default=None),
            decline_code=max(filter(None, (self.decline_code, facts.decline_code)), default=None),
            refunded_cents=max(self.refunded_cents, facts.refunded_cents),
            disputes=tuple(sorted(disputes.values(), key=lambda dispute: dispute.id)),
            outcome=max(filter(None, (self.outcome, facts.outcome)), default=None),
        )

    def tokens_due(self, tokens: int) -> "Applied":
        """Return the tokens that an order of `tokens` tokens must add and remove. Rounds in the customer's favor."""
        if self.paid_cents is None:
            return Applied()
        if self.paid_cents == 0:
            return Applied(purchase=tokens)
        refund = tokens * min(self.refunded_cents, self.paid_cents) // self.paid_cents
        disputed_cents = sum(dispute.cents for dispute in self.disputes if dispute.withholds)
        dispute = tokens * min(disputed_cents, self.paid_cents) // self.paid_cents
        return Applied(purchase=tokens, refund=refund, dispute=min(dispute, tokens - refund))


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens added for an order (`purchase`) and removed for refunds and disputes: those applied, or those due."""

    purchase: int = 0
    refund: int = 0
    dispute: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.refund + self.dispute <= self.purchase


class EntryDraft(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger entry to append."""

    kind: EntryKind
    amount: int


class EntryPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The entries to append for an order, the order's tokens in the ledger after them, and the account's debt."""

    entries: tuple[EntryDraft, ...]
    applied: Applied
    debt: int


def plan_entries(before: Applied, due: Applied, *, balance: Balance, debt: int) -> EntryPlan:
    """Plan the entries that bring the ledger from `before` to `due`. No balance goes below 0.

    Added tokens pay off the account's debt first. Removed tokens that the account has already spent become debt. Tokens
    that requests in progress have reserved can't be removed yet, so `applied` falls short of `due` until those end.
    """
    entries: list[EntryDraft] = []
    available, reserved = balance.available, balance.pending
    additions = (
        (EntryKind.PURCHASE, due.purchase - before.purchase),
        (EntryKind.DISPUTE, before.dispute - due.dispute),
    )
    removals = ((EntryKind.REFUND, due.refund - before.refund), (EntryKind.DISPUTE, due.dispute - before.dispute))
    blocked = dict.fromkeys(EntryKind, 0)
    for kind, tokens in additions:
        if tokens > 0:
            entries.append(EntryDraft(kind=kind, amount=tokens))
            covered = min(tokens, debt)
            if covered:
                entries.append(EntryDraft(kind=EntryKind.ADJUSTMENT, amount=-covered))
            debt -= covered
            available += tokens - covered
    for kind, tokens in removals:
        if tokens > 0:
            removed = min(tokens, available)
            if removed:
                entries.append(EntryDraft(kind=kind, amount=-removed))
            available -= removed
            blocked[kind] = min(tokens - removed, reserved)
            reserved -= blocked[kind]
            debt += tokens - removed - blocked[kind]
    applied = Applied(
        purchase=due.purchase,
        refund=due.refund - blocked[EntryKind.REFUND],
        dispute=due.dispute - blocked[EntryKind.DISPUTE],
    )
    return EntryPlan(entries=tuple(entries), applied=applied, debt=debt)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """A purchase of packs, with their terms at that time. `price_cents` excludes tax and discounts.

    `tokens` and `price_cents` are those of all `quantity` packs. `billing` are the buyer's details at that time.

    `checkout_id` and `payment_id` are the provider's ids.
    """

    id: str
    account_id: str
    pack_id: str
    pack_name: str
    token_class: str = STANDARD
    tokens: int
    price_cents: int
    currency: str
    created_at_us: int
    quantity: int = 1
    billing: BillingDetails = NO_DETAILS
    checkout_id: str | None = None
    payment_id: str | None = None
    paid_at_us: int | None = None
    payment: Payment = Payment()
    applied: Applied = Applied()

    @property
    def is_open(self) -> bool:
        """Whether the buyer may still pay."""
        return self.payment.paid_cents is None and self.payment.outcome is None and not self.payment.is_complete

    @property
    def is_live(self) -> bool:
        """Whether the payment moves real money."""
        return (self.checkout_id or "").startswith(LIVE_CHECKOUT)

    def is_for(self, pack: Pack, *, quantity: int, currency: str) -> bool:
        """Whether the order has the current terms of `quantity` packs."""
        terms = (self.pack_id, self.token_class, self.tokens, self.price_cents, self.currency)
        return self.quantity == quantity and terms == (
            *(pack.id, pack.token_class, pack.tokens * quantity, pack.price_usd_cents * quantity, currency),
        )

    @property
    def is_fully_applied(self) -> bool:
        """Whether the ledger has all entries due. If not, requests in progress have reserved tokens to remove."""
        return self.applied == self.payment.tokens_due(self.tokens)


class Redeemed(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens that a redeem code granted, and their class."""

    tokens: int
    token_class: str = STANDARD

    @property
    def result(self) -> str:
        """The text to store with the submission of the form."""
        return f"{self.tokens} {self.token_class}"

    @classmethod
    def from_result(cls, result: str) -> "Redeemed":
        """Read a stored `result`. Older ones have no class."""
        tokens, _, token_class = result.partition(" ")
        return cls(tokens=int(tokens or 0), token_class=token_class or STANDARD)


class OpenedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """The result of opening an order: either `order`, or `must_expire`, the order to expire first.

    If `is_repetition`, an earlier submission of the same form opened the order.
    """

    order: Order | None = None
    must_expire: Order | None = None
    is_repetition: bool = False
