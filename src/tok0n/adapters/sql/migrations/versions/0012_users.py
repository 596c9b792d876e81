"""People become users, and the columns of low-balance alerts say what they hold."""

from alembic import op

revision = "0012"
down_revision = "0011"

_REFERENCING = ("recovery_code", "passkey", "session", "mail_link")


def upgrade() -> None:
    """Rename the table and the columns."""
    op.execute("ALTER TABLE person RENAME TO users")
    for table in _REFERENCING:
        op.execute(f"ALTER TABLE {table} RENAME COLUMN person_id TO user_id")
    for table in _REFERENCING[1:]:
        op.execute(f"DROP INDEX {table}_person")
        op.execute(f"CREATE INDEX {table}_user_id ON {table} (user_id)")
    op.execute("ALTER TABLE low_balance_notice RENAME COLUMN below TO threshold_tokens")
    op.execute("ALTER TABLE low_balance_notice RENAME COLUMN told TO notified")
