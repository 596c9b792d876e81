"""What a purchase is worth in tokens, whatever is known of its payment, in whatever order that became known.

The facts of a payment only ever grow: it is paid, more of it is refunded, a dispute is opened and then decided. So the
tokens that are due follow from the facts alone, and the ledger is moved by the difference between what is due and what
was applied before. Whether a fact comes twice, late or early makes no difference to where that ends.
"""

from enum import StrEnum
from typing import Annotated

import msgspec

from tok0n.domain.ledger import MICROSECONDS_PER_DAY, US_AN_HOUR, Balance, EntryKind
from tok0n.domain.packs import Pack

OPEN_CHECKOUTS_MAX = 5
"""Orders of one account that a buyer can still pay. Opening another one expires the oldest first."""

STARTED_CHECKOUTS_MAX = 20
STARTED_CHECKOUTS_US = US_AN_HOUR
"""Purchases that an account may start in this time without paying."""

CHECKOUT_LIFE_US = MICROSECONDS_PER_DAY
"""How long a checkout can be paid (Stripe API reference, Checkout Sessions, `expires_at`)."""

CENTS_MAX = 10**12
"""Far above what a provider takes in one payment (Stripe: 99,999,999), far below what a database cannot store."""

Cents = Annotated[int, msgspec.Meta(ge=0, le=CENTS_MAX)]
Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:-]{1,255}\Z")]
"""A provider's name for a thing, or ours: no control characters, and short enough to store."""


class DisputeStatus(StrEnum):
    """Where a dispute stands. A decided one does not open again."""

    OPEN = "open"
    WON = "won"
    LOST = "lost"


_RANK = {DisputeStatus.OPEN: 0, DisputeStatus.WON: 1, DisputeStatus.LOST: 2}
"""Of two statuses that came in any order, the higher one counts: a lost dispute outweighs a won one, for safety."""


class Outcome(StrEnum):
    """How an order ended that was not paid."""

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
    """A buyer's complaint to the bank about so many cents of a payment."""

    id: Name
    cents: Cents
    status: DisputeStatus

    @property
    def withholds(self) -> bool:
        """Whether the tokens of its money are out of reach."""
        return self.status is not DisputeStatus.WON


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """The facts about an order's payment. `paid_cents` includes tax, and is None for an unpaid order.

    `is_complete` means that the buyer has finished the checkout; the money may still be on its way. `refunded_cents` is
    the sum of all refunds so far.
    """

    is_complete: bool = False
    paid_cents: int | None = None
    refunded_cents: int = 0
    disputes: tuple[Dispute, ...] = ()
    outcome: Outcome | None = None

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
        return Payment(
            is_complete=self.is_complete or facts.is_complete,
            paid_cents=max(paid_cents, default=None),
            refunded_cents=max(self.refunded_cents, facts.refunded_cents),
            disputes=tuple(sorted(disputes.values(), key=lambda dispute: dispute.id)),
            outcome=max(filter(None, (self.outcome, facts.outcome)), default=None),
        )

    def tokens_due(self, tokens: int) -> "Applied":
        """The tokens that an order of `tokens` tokens must add and take back. Rounds in the customer's favor."""
        if self.paid_cents is None:
            return Applied()
        if self.paid_cents == 0:
            return Applied(purchase=tokens)
        refund = tokens * min(self.refunded_cents, self.paid_cents) // self.paid_cents
        disputed_cents = sum(dispute.cents for dispute in self.disputes if dispute.withholds)
        dispute = tokens * min(disputed_cents, self.paid_cents) // self.paid_cents
        return Applied(purchase=tokens, refund=refund, dispute=min(dispute, tokens - refund))


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens that the ledger holds for an order: bought, and taken back by refunds and disputes."""

    purchase: int = 0
    refund: int = 0
    dispute: int = 0

    def __post_init__(self) -> None:
        assert 0 <= self.refund + self.dispute <= self.purchase


class EntryDraft(msgspec.Struct, frozen=True, kw_only=True):
    """One entry to append."""

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
    """One purchase of a pack, frozen as it was when it was made. `price_cents` is without tax and before discounts.

    `checkout_id` and `payment_id` are the provider's names for the page and the payment.
    """

    id: str
    account_id: str
    pack_id: str
    pack_name: str
    tokens: int
    price_cents: int
    currency: str
    created_at_us: int
    checkout_id: str | None = None
    payment_id: str | None = None
    paid_at_us: int | None = None
    payment: Payment = Payment()
    applied: Applied = Applied()

    @property
    def is_open(self) -> bool:
        """Whether the buyer may still pay."""
        return self.payment.paid_cents is None and self.payment.outcome is None and not self.payment.is_complete

    def is_for(self, pack: Pack, *, currency: str) -> bool:
        """Whether it sells this pack as it is sold now."""
        agreed = (self.pack_id, self.tokens, self.price_cents, self.currency)
        return agreed == (pack.id, pack.tokens, pack.price_usd_cents, currency)

    @property
    def is_settled(self) -> bool:
        """Whether the ledger holds all that is due. If not, calls in flight have reserved what is to be taken back."""
        return self.applied == self.payment.tokens_due(self.tokens)


class OpenedOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What opening an order led to: `order`, or else `must_expire`, whose checkout must be expired first.

    `is_repetition` says that the order is the result of the same form, submitted before.
    """

    order: Order | None = None
    must_expire: Order | None = None
    is_repetition: bool = False
