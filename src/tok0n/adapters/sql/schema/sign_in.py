"""The tables of users, their credentials and sessions, and of submitted forms and attempts."""

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, Table, Text, text

from tok0n.adapters.sql.schema.columns import WITHOUT_ROWID, Big, metadata

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, ForeignKey("account.id"), unique=True),
    Column("email", Text, nullable=False, unique=True),
    Column("password_hash", Text, nullable=False),
    Column("verified_at_us", Big),
    Column("created_at_us", Big, nullable=False),
    Column("time_zone", Text, nullable=False, server_default=text("'UTC'")),
    Column("is_operator", Integer, nullable=False, server_default=text("0")),
    Column("totp_secret", Text),
    Column("totp_step", Big, nullable=False, server_default=text("0")),
    Column("closed_at_us", Big),
    Column("credential_changes", Big, nullable=False, server_default=text("0")),
    Index("users_unverified", "created_at_us", sqlite_where=text("verified_at_us IS NULL")),
    **WITHOUT_ROWID,
)

recovery_code = Table(
    "recovery_code",
    metadata,
    Column("user_id", Text, ForeignKey("users.id"), primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    **WITHOUT_ROWID,
)

passkey = Table(
    "passkey",
    metadata,
    Column("credential_id", LargeBinary, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", Big, nullable=False),
    Column("name", Text, nullable=False),
    Column("created_at_us", Big, nullable=False),
    Column("last_used_at_us", Big),
    Index("passkey_user_id", "user_id"),
    **WITHOUT_ROWID,
)

session = Table(
    "session",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False),
    Column("created_at_us", Big, nullable=False),
    Column("seen_at_us", Big, nullable=False),
    Column("agent", Text, nullable=False),
    Column("waits", Integer, nullable=False),
    Column("network", Text, nullable=False, server_default=text("''")),
    Index("session_user_id", "user_id"),
    Index("session_seen", "seen_at_us"),
    Index("session_created", "created_at_us"),
    **WITHOUT_ROWID,
)
"""A session that `waits` for two-factor authentication is not signed in. `network` is the IP network of its sign-in."""

mail_link = Table(
    "mail_link",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id")),
    Column("purpose", Text, nullable=False),
    Column("email", Text),
    Column("expires_at_us", Big, nullable=False),
    Column("browser_digest", LargeBinary),
    Index("mail_link_user_id", "user_id"),
    Index("mail_link_expiry", "expires_at_us"),
    **WITHOUT_ROWID,
)
"""`email` is the new address, if the link confirms a change of address.

`browser_digest` is the digest of the cookie that the sign-up set, if a sign-up created the link.
"""

dismissed_hint = Table(
    "dismissed_hint",
    metadata,
    Column("user_id", Text, ForeignKey("users.id"), primary_key=True),
    Column("hint", Text, primary_key=True),
    **WITHOUT_ROWID,
)
"""The hints on the overview that a user has dismissed (`domain.users.Hint`)."""

welcome_grant = Table(
    "welcome_grant",
    metadata,
    Column("email_digest", LargeBinary, primary_key=True),
    Column("granted_at_us", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""The email addresses that have got welcome tokens, as SHA-256 digests. Rows are never deleted."""

welcome_day = Table(
    "welcome_day",
    metadata,
    Column("day", Big, primary_key=True),
    Column("grants", Big, nullable=False),
    **WITHOUT_ROWID,
)
"""The number of grants of welcome tokens on each UTC day, which counts from the Unix epoch."""

form_submission = Table(
    "form_submission",
    metadata,
    Column("account_id", Text, ForeignKey("account.id"), primary_key=True),
    Column("form", Text, primary_key=True),
    Column("digest", LargeBinary, primary_key=True),
    Column("submitted_at_us", Big, nullable=False),
    Column("result", Text),
    Column("sealed", LargeBinary),
    Index("form_submission_time", "submitted_at_us"),
    Index("form_submission_sealed", "submitted_at_us", sqlite_where=text("sealed IS NOT NULL")),
    **WITHOUT_ROWID,
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
    Column("since_us", Big, nullable=False),
    Column("expires_at_us", Big, nullable=False),
    Column("counted", Big, nullable=False),
    Index("attempt_expiry", "expires_at_us"),
    **WITHOUT_ROWID,
)
"""The number of attempts of a kind by a subject since `since_us` (`domain.attempts`). `subject` is a SHA-256 digest.

The count restarts after `expires_at_us`. Each counted attempt extends `expires_at_us`.
"""
