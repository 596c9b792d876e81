"""The tables of orders, payments, debts and codes."""

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from tok0n.adapters.sql.schema.columns import WITHOUT_ROWID, Big, metadata

pack_order = Table(
    "pack_order",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("pack_id", Text, nullable=False),
    Column("pack_name", Text, nullable=False),
    Column("token_class", Text, nullable=False, server_default="standard"),
    Column("tokens", Big, nullable=False),
    Column("price_cents", Big, nullable=False),
    Column("currency", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    Column("checkout_id", Text, unique=True),
    Column("payment_id", Text, unique=True),
    Column("is_complete", Integer, nullable=False, server_default=text("0")),
    Column("paid_cents", Big),
    Column("paid_at_us", Big),
    Column("refunded_cents", Big, nullable=False, server_default=text("0")),
    Column("outcome", Text),
    Column("purchase_applied", Big, nullable=False, server_default=text("0")),
    Column("refund_applied", Big, nullable=False, server_default=text("0")),
    Column("dispute_applied", Big, nullable=False, server_default=text("0")),
    Column("quantity", Big, nullable=False, server_default=text("1")),
    Column("billing", Text),
    Column("tax_cents", Big),
    Column("decline_code", Text),
    Index("pack_order_account", "account_id", "id"),
    **WITHOUT_ROWID,
)
"""`*_applied` are the tokens that the ledger has for the order (`domain.orders.Applied`).

`tokens` and `price_cents` are those of all `quantity` packs. `billing` is the buyer's `BillingDetails` as JSON.
"""

order_dispute = Table(
    "order_dispute",
    metadata,
    Column("id", Text, primary_key=True),
    Column("order_id", Text, ForeignKey("pack_order.id"), nullable=False),
    Column("cents", Big, nullable=False),
    Column("status", Text, nullable=False),
    Index("order_dispute_order", "order_id"),
    **WITHOUT_ROWID,
)

payment_event = Table(
    "payment_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    Column("received_at_us", Big, nullable=False),
    Column("handled_at_us", Big),
    Column("attempts", Big, nullable=False, server_default=text("0")),
    Column("failure", Text),
    Column("due_at_us", Big, nullable=False, server_default=text("0")),
    Index("payment_event_unhandled", "attempts", "received_at_us", sqlite_where=text("handled_at_us IS NULL")),
    **WITHOUT_ROWID,
)
"""The inbox of the payment provider's events: see `domain.payments`. `due_at_us` is the time of the next attempt."""

payment_reconciliation = Table(
    "payment_reconciliation", metadata, Column("at_us", Big, primary_key=True), **WITHOUT_ROWID
)
"""One row: the time of the last complete reconciliation with the provider."""

debt = Table(
    "debt",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("token_class", Text, primary_key=True, server_default="standard"),
    Column("tokens", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""Tokens that were refunded or disputed after they were spent. The next purchase pays them off first."""

redeem_code = Table(
    "redeem_code",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("shown", Text, nullable=False),
    Column("token_class", Text, nullable=False, server_default="standard"),
    Column("tokens", Big, nullable=False),
    Column("uses_max", Big, nullable=False),
    Column("uses", Big, nullable=False, server_default=text("0")),
    Column("expires_at_us", Big),
    Column("reason", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    Index("redeem_code_usable", "expires_at_us", sqlite_where=text("uses < uses_max")),
    **WITHOUT_ROWID,
)

redemption = Table(
    "redemption",
    metadata,
    Column("digest", LargeBinary, ForeignKey("redeem_code.digest"), primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("redeemed_at_us", Big, nullable=False),
    **WITHOUT_ROWID,
)
