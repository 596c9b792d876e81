"""Attempts at second factors, codes, passwords and passkeys, counted for all processes."""

from alembic import op

revision = "0008"
down_revision = "0007"

_TABLES = """
CREATE TABLE attempt (
    kind {text} NOT NULL,
    subject {blob} NOT NULL,
    since_us {big} NOT NULL,
    expires_at_us {big} NOT NULL,
    counted {big} NOT NULL,
    PRIMARY KEY (kind, subject)
) {clustered};

CREATE INDEX attempt_expiry ON attempt (expires_at_us)
"""
_SQLITE = {"big": "INTEGER", "text": "TEXT", "blob": "BLOB", "clustered": "STRICT, WITHOUT ROWID"}
_POSTGRESQL = {"big": "BIGINT", "text": 'TEXT COLLATE "C"', "blob": "BYTEA", "clustered": ""}


def upgrade() -> None:
    """Create the table."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _TABLES.format(**(_SQLITE if sqlite else _POSTGRESQL)).split(";"):
        op.execute(statement.strip())
