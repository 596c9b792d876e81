"""The tables of alerts and notices: their preferences, and the notices that wait to be sent."""

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text

from tok0n.adapters.sql.schema.columns import STRICT, WITHOUT_ROWID, Big, metadata

balance_alert = Table(
    "balance_alert",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("token_class", Text, primary_key=True),
    Column("threshold_tokens", Big, primary_key=True),
    Column("notified", Integer, nullable=False),
    **WITHOUT_ROWID,
)
"""A balance below which the owner gets an email. `notified` is 1 from that email until the balance is higher again."""

alert_check = Table(
    "alert_check",
    metadata,
    Column("id", Big, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("alert", Text, nullable=False),
    Index("alert_check_alert", "alert", "id"),
    **STRICT,
)
"""An account whose alerts a change has made due without a new ledger entry, until they are checked."""

notice_preference = Table(
    "notice_preference",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("kind", Text, primary_key=True),
    Column("channel", Text, primary_key=True),
    Column("is_on", Integer, nullable=False),
    **WITHOUT_ROWID,
)
"""Whether an account gets a kind of notice by a channel. Without a row, it does."""

notice = Table(
    "notice",
    metadata,
    Column("id", Big, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("fields", Text, nullable=False),
    Column("email", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    Column("sent_at_us", Big),
    Index("notice_account", "account_id", "kind", "sent_at_us"),
    Index("notice_sent", "sent_at_us"),
    **STRICT,
)
"""An event to tell the owner about. Sent ones stay for an hour, because they count toward the limit of an hour."""

known_device = Table(
    "known_device",
    metadata,
    Column("user_id", Text, ForeignKey("users.id"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("seen_at_us", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""A browser in which a user has signed in, by the digest of its device cookie."""
