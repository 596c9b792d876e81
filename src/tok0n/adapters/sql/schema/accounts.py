"""The tables of accounts, their wallets and their API keys."""

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from tok0n.adapters.sql.schema.columns import STRICT, WITHOUT_ROWID, Big, metadata

account = Table(
    "account",
    metadata,
    Column("id", Text, primary_key=True),
    Column("email", Text, nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    **WITHOUT_ROWID,
)

wallet = Table(
    "wallet",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("token_class", Text, primary_key=True),
    Column("posted", Big, nullable=False),
    Column("pending", Big, nullable=False),
    Column("entries", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""The tokens of an account in one token class. `entries` is the number of its last ledger entry."""

api_key = Table(
    "api_key",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Big, nullable=False, server_default=text("1")),
    Column("created_at_us", Big, nullable=False),
    Column("revoked_at_us", Big),
    Column("disabled_at_us", Big),
    Column("expires_at_us", Big),
    Column("models", Text),
    Column("endpoints", Text),
    Column("networks", Text),
    Column("requests_per_minute", Big),
    Column("note", Text, nullable=False, server_default=text("''")),
    Column("last_used_at_us", Big),
    Index("api_key_account", "account_id"),
    **WITHOUT_ROWID,
)
"""`version` grows with each change of the key, its budgets or its secrets, and of its account's status."""

key_secret = Table(
    "key_secret",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), nullable=False),
    Column("prefix", Text, nullable=False),
    Column("last_four", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    Column("ends_at_us", Big),
    Index("key_secret_key", "api_key_id"),
    **WITHOUT_ROWID,
)
"""The secrets of a key. A rotation adds one, and gives the others an end."""

key_budget = Table(
    "key_budget",
    metadata,
    Column("id", Text, primary_key=True),
    Column("api_key_id", Text, ForeignKey("api_key.id"), nullable=False),
    Column("tokens", Big, nullable=False),
    Column("period", Text, nullable=False),
    Column("token_class", Text),
    Column("time_zone", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    Index("key_budget_key", "api_key_id"),
    **WITHOUT_ROWID,
)

budget_period = Table(
    "budget_period",
    metadata,
    Column("budget_id", Text, primary_key=True),
    Column("starts_at_us", Big, primary_key=True),
    Column("ends_at_us", Big),
    Column("spent", Big, nullable=False),
    Column("pending", Big, nullable=False),
    Column("notified", Integer, nullable=False, server_default=text("0")),
    **WITHOUT_ROWID,
)
"""What the requests of one period of a budget have spent and reserved. `notified` is the percentage last mailed."""

activity = Table(
    "activity",
    metadata,
    Column("id", Big, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("api_key_id", Text, ForeignKey("api_key.id")),
    Column("action", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("created_at_us", Big, nullable=False),
    Index("activity_account", "account_id", "id"),
    **STRICT,
)
"""Each change of an account or a key: who changed it, and what it was `before` and `after`, as JSON objects."""

key_change = Table(
    "key_change",
    metadata,
    Column("number", Big, primary_key=True, autoincrement=False),
    Column("api_key_id", Text, nullable=False),
    **WITHOUT_ROWID,
)
"""The last changes of keys, or of their accounts, that matter to `CallerCache`. Triggers write and prune it."""
