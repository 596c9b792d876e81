"""The tables of billing details, documents, and emails about purchases."""

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, text

from tok0n.adapters.sql.schema.columns import WITHOUT_ROWID, Big, metadata

billing_details = Table(
    "billing_details",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("details", Text, nullable=False),
    **WITHOUT_ROWID,
)
"""The buyer on the next orders of an account: `domain.billing.BillingDetails` as JSON."""

document_series = Table(
    "document_series",
    metadata,
    Column("is_live", Integer, primary_key=True, autoincrement=False),
    Column("prefix", Text, primary_key=True),
    Column("year", Big, primary_key=True),
    Column("last", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""The last number of each series. The row is locked until the transaction that uses the number ends."""

document = Table(
    "document",
    metadata,
    Column("is_live", Integer, primary_key=True, autoincrement=False),
    Column("number", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("order_id", Text, ForeignKey("pack_order.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("cents", Big, nullable=False),
    Column("issued_at_us", Big, nullable=False),
    Column("body", Text, nullable=False),
    Index("document_of_order", "order_id"),
    Index("document_of_sale", "order_id", unique=True, sqlite_where=text("kind <> 'credit_note'")),
    **WITHOUT_ROWID,
)
"""Invoices, receipts and credit notes: `domain.documents.Document` as JSON. Triggers reject every change."""

purchase_email = Table(
    "purchase_email",
    metadata,
    Column("order_id", Text, ForeignKey("pack_order.id"), primary_key=True),
    Column("claimed_at_us", Big),
    Index("purchase_email_due", "order_id", sqlite_where=text("claimed_at_us IS NULL")),
    **WITHOUT_ROWID,
)
"""The paid orders whose owners get an email. A row is claimed before its email is sent."""
