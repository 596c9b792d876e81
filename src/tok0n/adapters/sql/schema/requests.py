"""The tables of requests, ledger entries and use."""

from sqlalchemy import Column, ForeignKey, Index, Integer, Table, Text, text

from tok0n.adapters.sql.schema.columns import STRICT, WITHOUT_ROWID, Big, metadata

request = Table(
    "request",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("api_key_id", Text, ForeignKey("api_key.id"), nullable=False),
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False, server_default="chat"),
    Column("token_class", Text, nullable=False, server_default="standard"),
    Column("budget_periods", Text),
    Column("status", Text, nullable=False),
    Column("reserved", Big, nullable=False),
    Column("charged", Big, nullable=False),
    Column("shortfall", Big, nullable=False),
    Column("prompt_tokens", Big),
    Column("completion_tokens", Big),
    Column("total_tokens", Big),
    Column("details", Text),
    Column("code", Text),
    Column("dispatched", Integer, nullable=False),
    Column("process_id", Text),
    Column("upstream_ms", Integer),
    Column("created_at_us", Big, nullable=False),
    Column("expires_at_us", Big, nullable=False),
    Column("resolved_at_us", Big),
    Column("is_stream", Integer, nullable=False, server_default=text("0")),
    Column("first_event_ms", Integer),
    Column("client_left", Integer, nullable=False, server_default=text("0")),
    Index("request_account", "account_id", "id"),
    Index(
        "request_not_billed",
        *("account_id", "id", "status", "model", "api_key_id", "code"),
        sqlite_where=text("status IN ('RELEASED', 'EXPIRED')"),
    ),
    Index(
        "request_slow",
        "account_id",
        "id",
        sqlite_where=text("status = 'SETTLED' AND CASE WHEN resolved_at_us - created_at_us > 900000000 THEN 1 END = 1"),
    ),
    Index("request_pending", "expires_at_us", sqlite_where=text("status = 'PENDING'")),
    **WITHOUT_ROWID,
)
"""`budget_periods` are the periods that the request counts in, as JSON pairs: the id of a budget, and the start."""

process = Table(
    "process",
    metadata,
    Column("id", Text, primary_key=True),
    Column("lease_ends_at_us", Big, nullable=False),
    Column("renewed_since_us", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""PostgreSQL: the processes that reserve tokens. The times are those of the database's clock."""

ledger_entry = Table(
    "ledger_entry",
    metadata,
    Column("id", Big, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("token_class", Text, nullable=False, server_default="standard"),
    Column("number", Big, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", Big, nullable=False),
    Column("posted_after", Big, nullable=False),
    Column("request_id", Text, ForeignKey("request.id"), unique=True),
    Column("reason", Text),
    Column("author", Text),
    Column("created_at_us", Big, nullable=False),
    Column("order_id", Text, ForeignKey("pack_order.id")),
    Column("reverses_request_id", Text),
    Index("ledger_entry_account", "account_id", "id"),
    Index("ledger_entry_order", "order_id", sqlite_where=text("order_id IS NOT NULL")),
    Index("ledger_entry_change", "account_id", "token_class", "number", sqlite_where=text("kind <> 'usage'")),
    Index(
        "ledger_entry_reversal",
        "reverses_request_id",
        unique=True,
        sqlite_where=text("reverses_request_id IS NOT NULL"),
    ),
    **STRICT,
)

usage_quarter = Table(
    "usage_quarter",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("quarter", Big, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("requests", Big, nullable=False),
    Column("prompt_tokens", Big, nullable=False),
    Column("completion_tokens", Big, nullable=False),
    Column("charged", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""The charges of each quarter hour since the Unix epoch (UTC). Their sum is the sum of the usage entries."""

usage_span = Table(
    "usage_span",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("span_quarters", Big, primary_key=True),
    Column("quarter", Big, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("requests", Big, nullable=False),
    Column("prompt_tokens", Big, nullable=False),
    Column("completion_tokens", Big, nullable=False),
    Column("charged", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""The sums of `usage_quarter` for past UTC days, which a periodic task adds.

A row covers a span of `span_quarters` (4, 24 or 96) quarter hours from `quarter`, so that local days of every time zone
are sums of few rows.
"""

usage_rollup = Table(
    "usage_rollup",
    metadata,
    Column("day", Big, primary_key=True, autoincrement=False),
    Column("account_id", Text, nullable=False),
    **WITHOUT_ROWID,
)
"""At most one row: `usage_span` is complete for all days before `day`, and for accounts up to `account_id` on `day`."""

operator_request = Table(
    "operator_request",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""The operator's own requests of the last minutes. They prevent concurrent verifications, and refill a limiter."""

model = Table(
    "model",
    metadata,
    Column("id", Text, primary_key=True),
    Column("enabled", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("verified_at_us", Big),
    Column("checked_at_us", Big),
    Column("endpoints", Text, nullable=False, server_default="{}"),
    Column("streams", Text, nullable=False, server_default="{}"),
    **WITHOUT_ROWID,
)
