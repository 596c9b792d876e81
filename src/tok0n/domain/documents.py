"""Invoices, receipts and credit notes: what a document says, frozen when an order is paid or refunded.

A document is an invoice if the seller has a name, an address and a tax ID, and a receipt otherwise. Numbers have no
gaps in each series: the mode of the payment provider (test or live), the kind, and the UTC year of issue.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum

import msgspec

from tok0n.domain.billing import BillingDetails
from tok0n.domain.orders import Order


class DocumentKind(StrEnum):
    """The kinds of documents. Each has numbers of its own."""

    INVOICE = "invoice"
    RECEIPT = "receipt"
    CREDIT_NOTE = "credit_note"


PREFIXES = {DocumentKind.INVOICE: "INV", DocumentKind.RECEIPT: "REC", DocumentKind.CREDIT_NOTE: "CN"}


class Seller(msgspec.Struct, frozen=True, kw_only=True):
    """The seller on documents. Fields may be empty."""

    name: str = ""
    address: str = ""
    email: str = ""
    tax_id: str = ""

    @property
    def can_issue_invoices(self) -> bool:
        """Whether the seller has all that an invoice must say about it."""
        return bool(self.name and self.address and self.tax_id)


class Issuer(msgspec.Struct, frozen=True, kw_only=True):
    """What documents take from the settings: the seller, and the titles of token classes if there are several."""

    seller: Seller = Seller()
    class_titles: Mapping[str, str] = {}


NO_ISSUER = Issuer()


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """What was sold. `tokens` are those of all packs."""

    name: str
    class_title: str | None
    quantity: int
    tokens: int
    unit_cents: int
    cents: int


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """A labeled amount below the lines, such as a tax or a discount."""

    label: str
    cents: int


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """All that a document says. It is stored as JSON, and never changes.

    `corrects` is the number of the document that a credit note corrects. The total of a credit note is the refund.
    """

    number: str
    kind: DocumentKind
    is_live: bool
    issued_at_us: int
    paid_at_us: int
    order_id: str
    payment_id: str | None
    currency: str
    seller: Seller
    email: str
    buyer: BillingDetails
    lines: tuple[Line, ...]
    amounts: tuple[Amount, ...]
    total_cents: int
    corrects: str | None = None


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """A series of numbers without gaps."""

    is_live: bool
    prefix: str
    year: int

    @classmethod
    def current(cls, kind: DocumentKind, *, is_live: bool, now_us: int) -> "Series":
        """Return the series of a document that is issued now."""
        year = datetime.fromtimestamp(now_us / 1_000_000, UTC).year
        return cls(is_live=is_live, prefix=PREFIXES[kind], year=year)

    def number(self, index: int) -> str:
        """Return the document number, such as INV-2026-000123."""
        return f"{self.prefix}-{self.year}-{index:06}"


def sale_kind(seller: Seller) -> DocumentKind:
    """Return the kind of the document for a sale."""
    return DocumentKind.INVOICE if seller.can_issue_invoices else DocumentKind.RECEIPT


def sale_document(order: Order, *, number: str, email: str, issuer: Issuer, now_us: int) -> Document:
    """Return the document of a paid order."""
    paid_cents, paid_at_us = order.payment.paid_cents, order.paid_at_us
    assert paid_cents is not None
    assert paid_at_us is not None
    line = Line(
        name=order.pack_name,
        class_title=issuer.class_titles.get(order.token_class),
        quantity=order.quantity,
        tokens=order.tokens,
        unit_cents=order.price_cents // order.quantity,
        cents=order.price_cents,
    )
    return Document(
        number=number,
        kind=sale_kind(issuer.seller),
        is_live=order.is_live,
        issued_at_us=now_us,
        paid_at_us=paid_at_us,
        order_id=order.id,
        payment_id=order.payment_id,
        currency=order.currency,
        seller=issuer.seller,
        email=email,
        buyer=order.billing,
        lines=(line,),
        amounts=_amounts(order, paid_cents),
        total_cents=paid_cents,
    )


def _amounts(order: Order, paid_cents: int) -> tuple[Amount, ...]:
    tax_cents = order.payment.tax_cents
    if tax_cents is None:
        difference = paid_cents - order.price_cents
        return (Amount(label="Taxes and discounts", cents=difference),) if difference else ()
    amounts = []
    if discount_cents := paid_cents - tax_cents - order.price_cents:
        amounts.append(Amount(label="Discount", cents=discount_cents))
    if tax_cents:
        amounts.append(Amount(label="Tax", cents=tax_cents))
    return tuple(amounts)


def credit_note(sale: Document, order: Order, *, number: str, cents: int, already_cents: int, now_us: int) -> Document:
    """Return the credit note for a refund of `cents`, after earlier ones of `already_cents`. Buyer and seller stay."""
    tax_cents = order.payment.tax_cents
    amounts: tuple[Amount, ...] = ()
    if tax_cents and sale.total_cents:
        until, before = (tax_cents * part // sale.total_cents for part in (already_cents + cents, already_cents))
        amounts = (Amount(label="Includes tax", cents=until - before),)
    return msgspec.structs.replace(
        sale,
        number=number,
        kind=DocumentKind.CREDIT_NOTE,
        issued_at_us=now_us,
        lines=(),
        amounts=amounts,
        total_cents=cents,
        corrects=sale.number,
    )
