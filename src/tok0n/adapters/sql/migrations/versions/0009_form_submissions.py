"""Submitted forms, so that a repeated one creates nothing, and the time of a payment event's next attempt."""

from alembic import op

revision = "0009"
down_revision = "0008"

_TABLES = """
CREATE TABLE form_submission (
    account_id {text} NOT NULL REFERENCES account (id),
    form {text} NOT NULL,
    digest {blob} NOT NULL,
    submitted_at_us {big} NOT NULL,
    result TEXT,
    sealed {blob},
    PRIMARY KEY (account_id, form, digest)
) {clustered};

CREATE INDEX form_submission_time ON form_submission (submitted_at_us);

ALTER TABLE payment_event ADD COLUMN due_at_us {big} NOT NULL DEFAULT 0
"""
_SQLITE = {"big": "INTEGER", "text": "TEXT", "blob": "BLOB", "clustered": "STRICT, WITHOUT ROWID"}
_POSTGRESQL = {"big": "BIGINT", "text": 'TEXT COLLATE "C"', "blob": "BYTEA", "clustered": ""}


def upgrade() -> None:
    """Create the table and the column."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _TABLES.format(**(_SQLITE if sqlite else _POSTGRESQL)).split(";"):
        op.execute(statement.strip())
