"""The tables of both engines, for SQLAlchemy queries. `schema.sql` creates them.

PostgreSQL has no foreign keys on `request`, nor from `ledger_entry` to accounts and requests: the triggers of
`postgres/guards.sql` replace them. Partial indexes have their conditions for SQLite only, because PostgreSQL's would
import its dialect at every start. Amounts are LLM tokens. Columns that end in `_us` are microseconds since the Unix
epoch. No column may hold message content.
"""

from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text, text

HEAD = "0103"
"""The schema version that this code needs. A test compares it with the newest migration."""

metadata = MetaData()

_Big = BigInteger().with_variant(Integer, "sqlite")
_STRICT: dict[str, Any] = {"sqlite_strict": True}
_CLUSTERED: dict[str, Any] = {"sqlite_strict": True, "sqlite_with_rowid": False}

account = Table(
    "account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("email", Text, nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("created_at_us", _Big, nullable=False),
    **_CLUSTERED,
)

wallet = Table(
    "wallet",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("token_class", Text, primary_key=True),
    Column("posted", _Big, nullable=False),
    Column("pending", _Big, nullable=False),
    Column("entries", _Big, nullable=False),
    **_CLUSTERED,
)
"""The tokens of an account in one token class. `entries` is the number of its last ledger entry."""

api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("version", _Big, nullable=False, server_default=text("1")),
    Column("created_at_us", _Big, nullable=False),
    Column("revoked_at_us", _Big),
    Column("disabled_at_us", _Big),
    Column("expires_at_us", _Big),
    Column("models", Text),
    Column("endpoints", Text),
    Column("networks", Text),
    Column("requests_per_minute", _Big),
    Column("note", Text, nullable=False, server_default=text("''")),
    Column("last_used_at_us", _Big),
    Index("api_key_account", "account_id"),
    **_CLUSTERED,
)
"""`version` grows with each change of the key, its budgets or its secrets, and of its account's status."""

key_secret = Table(
    "key_secret",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), nullable=False),
    Column("prefix", Text, nullable=False),
    Column("last_four", Text, nullable=False),
    Column("created_at_us", _Big, nullable=False),
    Column("ends_at_us", _Big),
    Index("key_secret_key", "api_key_id"),
    **_CLUSTERED,
)
"""The secrets of a key. A rotation adds one, and gives the others an end."""

key_budget = Table(
    "key_budget",
    metadata,
    Column("id", Text, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), nullable=False),
    Column("tokens", _Big, nullable=False),
    Column("period", Text, nullable=False),
    Column("token_class", Text),
    Column("time_zone", Text, nullable=False),
    Column("created_at_us", _Big, nullable=False),
    Index("key_budget_key", "api_key_id"),
    **_CLUSTERED,
)

budget_period = Table(
    "budget_period",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("starts_at_us", _Big, primary_key=True),
    Column("ends_at_us", _Big),
    Column("spent", _Big, nullable=False),
    Column("pending", _Big, nullable=False),
    Column("notified", Integer, nullable=False, server_default=text("0")),
    **_CLUSTERED,
)
"""What the requests of one period of a budget have spent and reserved. `notified` is the percentage last mailed."""

activity = Table(
    "activity",
    metadata,
    Column("id", _Big, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("api_key_id", Text, ForeignKey("api_key.id")),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("created_at_us", _Big, nullable=False),
    Index("activity_account", "account_id", "id"),
    **_STRICT,
)
"""Each change of an account or a key: who changed it, and what it was `before` and `after`, as JSON objects."""

key_change = Table(
    "key_change",
    metadata,
    Column("number", _Big, primary_key=True, autoincrement=False),
    Column("api_key_id", Text, nullable=False),
    **_CLUSTERED,
)
"""The last changes of keys, or of their accounts, that matter to `CallerCache`. Triggers write and prune it."""

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
    Column("reserved", _Big, nullable=False),
    Column("charged", _Big, nullable=False),
    Column("shortfall", _Big, nullable=False),
    Column("prompt_tokens", _Big),
    Column("completion_tokens", _Big),
    Column("total_tokens", _Big),
    Column("details", Text),
    Column("code", Text),
    Column("dispatched", Integer, nullable=False),
    Column("process_id", Text),
    Column("upstream_ms", Integer),
    Column("created_at_us", _Big, nullable=False),
    Column("expires_at_us", _Big, nullable=False),
    Column("resolved_at_us", _Big),
    Column("is_stream", Integer, nullable=False, server_default=text("0")),
    Column("first_event_ms", Integer),
    Column("client_left", Integer, nullable=False, server_default=text("0")),
    Index("request_account", "account_id", "id"),
    Index("request_not_billed", "account_id", "id", sqlite_where=text("status IN ('RELEASED', 'EXPIRED')")),
    Index("request_pending", "expires_at_us", sqlite_where=text("status = 'PENDING'")),
    **_CLUSTERED,
)
"""`budget_periods` are the periods that the request counts in, as JSON pairs: the id of a budget, and the start."""

process = Table(
    "process",
    metadata,
    Column("id", Text, primary_key=True),
    Column("lease_ends_at_us", _Big, nullable=False),
    Column("renewed_since_us", _Big, nullable=False),
    **_CLUSTERED,
)
"""PostgreSQL: the processes that reserve tokens. The times are those of the database's clock."""

ledger_entry = Table(
    "ledger_entry",
    metadata,
    Column("id", _Big, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("token_class", Text, nullable=False, server_default="standard"),
    Column("number", _Big, nullable=False),
    Column("kind", Text, nullable=False),
    Column("amount", _Big, nullable=False),
    Column("posted_after", _Big, nullable=False),
    Column("request_id", Text, ForeignKey("request.id"), unique=True),
    Column("reason", Text),
    Column("author", Text),
    Column("created_at_us", _Big, nullable=False),
    Column("order_id", Text, ForeignKey("pack_order.id")),
    Column("reverses_request_id", Text),
    Index("ledger_entry_account", "account_id", "id"),
    Index("ledger_entry_order", "order_id", sqlite_where=text("order_id IS NOT NULL")),
    Index(
        "ledger_entry_reversal",
        "reverses_request_id",
        unique=True,
        sqlite_where=text("reverses_request_id IS NOT NULL"),
    ),
    **_STRICT,
)

usage_hour = Table(
    "usage_hour",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("hour", _Big, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("requests", _Big, nullable=False),
    Column("prompt_tokens", _Big, nullable=False),
    Column("completion_tokens", _Big, nullable=False),
    Column("charged", _Big, nullable=False),
    **_CLUSTERED,
)
"""The charges of each hour since the Unix epoch (UTC). Their sum is the sum of the usage entries."""

usage_day = Table(
    "usage_day",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("day", _Big, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), primary_key=True),
    Column("model", Text, primary_key=True),
    Column("requests", _Big, nullable=False),
    Column("prompt_tokens", _Big, nullable=False),
    Column("completion_tokens", _Big, nullable=False),
    Column("charged", _Big, nullable=False),
    **_CLUSTERED,
)
"""The sums of `usage_hour` for each past day since the Unix epoch (UTC), which a periodic task adds."""

usage_rollup = Table(
    "usage_rollup",
    metadata,
    Column("day", _Big, primary_key=True, autoincrement=False),
    Column("account_id", Text, nullable=False),
    **_CLUSTERED,
)
"""At most one row: `usage_day` is complete for all days before `day`, and for accounts up to `account_id` on `day`."""

operator_request = Table(
    "operator_request",
    metadata,
    Column("id", Text, primary_key=True),
    Column("model", Text, nullable=False),
    Column("created_at_us", _Big, nullable=False),
    **_CLUSTERED,
)
"""The operator's own requests of the last minutes. They prevent concurrent verifications, and refill a limiter."""

model = Table(
    "model",
    metadata,
    Column("id", Text, primary_key=True),
    Column("enabled", Integer, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("verified_at_us", _Big),
    Column("checked_at_us", _Big),
    Column("endpoints", Text, nullable=False, server_default="{}"),
    Column("streams", Text, nullable=False, server_default="{}"),
    **_CLUSTERED,
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), unique=True),
    Column("email", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("verified_at_us", _Big),
    Column("created_at_us", _Big, nullable=False),
    Column("time_zone", Text, nullable=False, server_default=text("'UTC'")),
    Column("is_operator", Integer, nullable=False, server_default=text("0")),
    Column("totp_secret", Text),
    Column("totp_step", _Big, nullable=False, server_default=text("0")),
    Column("closed_at_us", _Big),
    Column("credential_changes", _Big, nullable=False, server_default=text("0")),
    Index("users_unverified", "created_at_us", sqlite_where=text("verified_at_us IS NULL")),
    **_CLUSTERED,
)

recovery_code = Table(
    "recovery_code",
    metadata,
    Column("user_id", Text, ForeignKey("users.id"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    **_CLUSTERED,
)

passkey = Table(
    "passkey",
    metadata,
    Column("credential_id", LargeBinary, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", _Big, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at_us", _Big, nullable=False),
    Column("last_used_at_us", _Big),
    Index("passkey_user_id", "user_id"),
    **_CLUSTERED,
)

session = Table(
    "session",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False),
    Column("created_at_us", _Big, nullable=False),
    Column("seen_at_us", _Big, nullable=False),
    Column("agent", Text, nullable=False),
    Column("waits", Integer, nullable=False),
    Index("session_user_id", "user_id"),
    Index("session_seen", "seen_at_us"),
    Index("session_created", "created_at_us"),
    **_CLUSTERED,
)
"""A session that `waits` for two-factor authentication is not signed in."""

mail_link = Table(
    "mail_link",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id")),
    Column("purpose", Text, nullable=False),
    Column("email", Text),
    Column("expires_at_us", _Big, nullable=False),
    Index("mail_link_user_id", "user_id"),
    Index("mail_link_expiry", "expires_at_us"),
    **_CLUSTERED,
)
"""`email` is the new address, if the link confirms a change of address."""

low_balance_notice = Table(
    "low_balance_notice",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("threshold_tokens", _Big, nullable=False),
    Column("notified", Integer, nullable=False),
    **_CLUSTERED,
)

pack_order = Table(
    "pack_order",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("pack_id", Text, nullable=False),
    Column("pack_name", Text, nullable=False),
    Column("token_class", Text, nullable=False, server_default="standard"),
    Column("tokens", _Big, nullable=False),
    Column("price_cents", _Big, nullable=False),
    Column("currency", Text, nullable=False),
    Column("created_at_us", _Big, nullable=False),
    Column("checkout_id", Text, unique=True),
    Column("payment_id", Text, unique=True),
    Column("is_complete", Integer, nullable=False, server_default=text("0")),
    Column("paid_cents", _Big),
    Column("paid_at_us", _Big),
    Column("refunded_cents", _Big, nullable=False, server_default=text("0")),
    Column("outcome", Text),
    Column("purchase_applied", _Big, nullable=False, server_default=text("0")),
    Column("refund_applied", _Big, nullable=False, server_default=text("0")),
    Column("dispute_applied", _Big, nullable=False, server_default=text("0")),
    Index("pack_order_account", "account_id", "id"),
    **_CLUSTERED,
)
"""`*_applied` are the tokens that the ledger has for the order (`domain.orders.Applied`)."""

order_dispute = Table(
    "order_dispute",
    metadata,
    Column("id", Text, primary_key=True),
    Column("order_id", Text, ForeignKey("pack_order.id"), nullable=False),
    Column("cents", _Big, nullable=False),
    Column("status", Text, nullable=False),
    Index("order_dispute_order", "order_id"),
    **_CLUSTERED,
)

payment_event = Table(
    "payment_event",
    metadata,
    Column("id", Text, primary_key=True),
    Column("type", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("created_at_us", _Big, nullable=False),
    Column("received_at_us", _Big, nullable=False),
    Column("handled_at_us", _Big),
    Column("attempts", _Big, nullable=False, server_default=text("0")),
    Column("failure", Text),
    Column("due_at_us", _Big, nullable=False, server_default=text("0")),
    Index("payment_event_unhandled", "attempts", "received_at_us", sqlite_where=text("handled_at_us IS NULL")),
    **_CLUSTERED,
)
"""The inbox of the payment provider's events (`domain.payments.Event`). `due_at_us` is the time of the next attempt."""

payment_reconciliation = Table(
    "payment_reconciliation", metadata, Column("at_us", _Big, primary_key=True), **_CLUSTERED
)
"""One row: the time of the last complete reconciliation with the provider."""

debt = Table(
    "debt",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("token_class", Text, primary_key=True, server_default="standard"),
    Column("tokens", _Big, nullable=False),
    **_CLUSTERED,
)
"""Tokens that were refunded or disputed after they were spent. The next purchase pays them off first."""

redeem_code = Table(
    "redeem_code",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("shown", Text, nullable=False),
    Column("token_class", Text, nullable=False, server_default="standard"),
    Column("tokens", _Big, nullable=False),
    Column("uses_max", _Big, nullable=False),
    Column("uses", _Big, nullable=False, server_default=text("0")),
    Column("expires_at_us", _Big),
    Column("reason", Text, nullable=False),
    Column("created_at_us", _Big, nullable=False),
    **_CLUSTERED,
)

redemption = Table(
    "redemption",
    metadata,
    Column("digest", LargeBinary, ForeignKey("redeem_code.digest"), primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("redeemed_at_us", _Big, nullable=False),
    **_CLUSTERED,
)

form_submission = Table(
    "form_submission",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("form", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("submitted_at_us", _Big, nullable=False),
    Column("result", Text),
    Column("sealed", LargeBinary),
    Index("form_submission_time", "submitted_at_us"),
    Index("form_submission_sealed", "submitted_at_us", sqlite_where=text("sealed IS NOT NULL")),
    **_CLUSTERED,
)
"""Forms submitted in the last 24 hours, to detect repeated submissions (`domain.forms`).

`result` identifies the object that the first submission created, or is NULL while that runs. `sealed` is a secret that
only the browser's `form_id` decrypts.
"""

attempt = Table(
    "attempt",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("subject", LargeBinary, primary_key=True),
    Column("since_us", _Big, nullable=False),
    Column("expires_at_us", _Big, nullable=False),
    Column("counted", _Big, nullable=False),
    Index("attempt_expiry", "expires_at_us"),
    **_CLUSTERED,
)
"""The number of attempts of a kind by a subject since `since_us` (`domain.attempts`). `subject` is a SHA-256 digest.

The count restarts after `expires_at_us`. Each counted attempt extends `expires_at_us`.
"""
