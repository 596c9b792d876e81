"""Who signs in, where they are signed in, the links that were mailed to them, and what an account is told of.

And an index of the requests that cost nothing: only failures write to it.
"""

from alembic import op

revision = "0005"
down_revision = "0004"

_TABLES = """
CREATE TABLE person (
    id {text} NOT NULL PRIMARY KEY,
    account_id {text} UNIQUE REFERENCES account (id),
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    verified_at_us {big},
    created_at_us {big} NOT NULL,
    time_zone TEXT NOT NULL DEFAULT 'UTC',
    is_operator INTEGER NOT NULL DEFAULT 0,
    totp_secret TEXT,
    totp_step {big} NOT NULL DEFAULT 0,
    closed_at_us {big},
    CONSTRAINT only_verified_people_have_an_account CHECK (account_id IS NULL OR verified_at_us IS NOT NULL)
) {clustered};

CREATE TABLE recovery_code (
    person_id {text} NOT NULL REFERENCES person (id),
    digest {blob} NOT NULL,
    PRIMARY KEY (person_id, digest)
) {clustered};

CREATE TABLE passkey (
    credential_id {blob} NOT NULL PRIMARY KEY,
    person_id {text} NOT NULL REFERENCES person (id),
    public_key {blob} NOT NULL,
    sign_count {big} NOT NULL,
    name TEXT NOT NULL,
    created_at_us {big} NOT NULL,
    last_used_at_us {big}
) {clustered};

CREATE INDEX passkey_person ON passkey (person_id);

CREATE TABLE session (
    digest {blob} NOT NULL PRIMARY KEY,
    person_id {text} NOT NULL REFERENCES person (id),
    created_at_us {big} NOT NULL,
    seen_at_us {big} NOT NULL,
    agent TEXT NOT NULL,
    waits INTEGER NOT NULL
) {clustered};

CREATE INDEX session_person ON session (person_id);

CREATE TABLE mail_link (
    digest {blob} NOT NULL PRIMARY KEY,
    person_id {text} REFERENCES person (id),
    purpose TEXT NOT NULL,
    email TEXT,
    expires_at_us {big} NOT NULL
) {clustered};

CREATE INDEX mail_link_person ON mail_link (person_id);

CREATE TABLE low_balance_notice (
    account_id {text} NOT NULL PRIMARY KEY REFERENCES account (id),
    below {big} NOT NULL CHECK (below > 0),
    told INTEGER NOT NULL
) {clustered};

ALTER TABLE api_key ADD COLUMN last_used_at_us {big};

CREATE INDEX request_not_billed ON request (account_id, id) WHERE status IN ('RELEASED', 'EXPIRED')
"""
_SQLITE = {"big": "INTEGER", "text": "TEXT", "blob": "BLOB", "clustered": "STRICT, WITHOUT ROWID"}
_POSTGRESQL = {"big": "BIGINT", "text": 'TEXT COLLATE "C"', "blob": "BYTEA", "clustered": ""}


def upgrade() -> None:
    """Make the tables."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _TABLES.format(**(_SQLITE if sqlite else _POSTGRESQL)).split(";"):
        op.execute(statement.strip())
