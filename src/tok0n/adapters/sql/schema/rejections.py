"""The tables of rejected requests, apart from the ledger. They hold no text of a client."""

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text

from tok0n.adapters.sql.schema.columns import WITHOUT_ROWID, Big, metadata

rejected_request = Table(
    "rejected_request",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("api_key_id", Text, ForeignKey("api_key.id"), nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text),
    Column("http_status", Integer, nullable=False),
    Column("code", Text, nullable=False),
    Column("param", Text),
    Column("template", Text, nullable=False),
    Column("arguments", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    Index("rejected_request_account", "account_id", "id"),
    Index("rejected_request_key", "api_key_id", "id"),
    Index("rejected_request_model", "account_id", "model", "id"),
    **WITHOUT_ROWID,
)
"""`template` and `arguments` are the fields of `CompactMessage`. `arguments` is a JSON list."""

rejected_count = Table(
    "rejected_count",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("quarter", Big, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("code", Text, primary_key=True),
    Column("requests", Big, nullable=False),
    Column("stored", Big, nullable=False),
    Index("rejected_count_quarter", "quarter"),
    **WITHOUT_ROWID,
)
"""The rejected requests of each quarter hour (UTC). `stored` of them have a row. An unknown model is ''."""
