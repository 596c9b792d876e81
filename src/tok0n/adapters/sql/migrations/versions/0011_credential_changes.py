"""Count the changes of each person's credentials: a sign-in that began before a change does not finish after it."""

from alembic import op

revision = "0011"
down_revision = "0009"


def upgrade() -> None:
    """Add the column."""
    big = "INTEGER" if op.get_bind().dialect.name == "sqlite" else "BIGINT"
    op.execute(f"ALTER TABLE person ADD COLUMN credential_changes {big} NOT NULL DEFAULT 0")
