"""Orders, what is known of their payments, what accounts owe, and codes that are redeemed for tokens."""

from alembic import op

revision = "0006"
down_revision = "0005"

_TABLES = """
CREATE TABLE pack_order (
    id {text} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL REFERENCES account (id),
    pack_id TEXT NOT NULL,
    pack_name TEXT NOT NULL,
    tokens {big} NOT NULL CHECK (tokens > 0),
    price_cents {big} NOT NULL CHECK (price_cents > 0),
    currency TEXT NOT NULL,
    created_at_us {big} NOT NULL,
    checkout_id {text} UNIQUE,
    payment_id {text} UNIQUE,
    is_complete INTEGER NOT NULL DEFAULT 0,
    paid_cents {big} CHECK (paid_cents >= 0),
    paid_at_us {big},
    refunded_cents {big} NOT NULL DEFAULT 0,
    outcome TEXT,
    purchase_applied {big} NOT NULL DEFAULT 0,
    refund_applied {big} NOT NULL DEFAULT 0,
    dispute_applied {big} NOT NULL DEFAULT 0,
    CONSTRAINT an_order_is_credited_once CHECK (purchase_applied IN (0, tokens)),
    CONSTRAINT no_more_is_taken_than_was_given CHECK (
        refund_applied >= 0 AND dispute_applied >= 0 AND refund_applied + dispute_applied <= purchase_applied
    )
) {clustered};

CREATE INDEX pack_order_account ON pack_order (account_id, id);

CREATE TABLE order_dispute (
    id {text} NOT NULL PRIMARY KEY,
    order_id {text} NOT NULL REFERENCES pack_order (id),
    cents {big} NOT NULL CHECK (cents >= 0),
    status TEXT NOT NULL CHECK (status IN ('open', 'won', 'lost'))
) {clustered};

CREATE INDEX order_dispute_order ON order_dispute (order_id);

CREATE TABLE payment_event (
    id {text} NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    event TEXT NOT NULL,
    created_at_us {big} NOT NULL,
    received_at_us {big} NOT NULL,
    handled_at_us {big},
    attempts {big} NOT NULL DEFAULT 0,
    failure TEXT
) {clustered};

CREATE INDEX payment_event_unhandled ON payment_event (attempts, received_at_us) WHERE handled_at_us IS NULL;

CREATE TABLE payment_reconciliation (
    at_us {big} NOT NULL PRIMARY KEY
) {clustered};

CREATE TABLE debt (
    account_id {text} NOT NULL PRIMARY KEY REFERENCES account (id),
    tokens {big} NOT NULL CHECK (tokens >= 0)
) {clustered};

CREATE TABLE redeem_code (
    digest {blob} NOT NULL PRIMARY KEY,
    shown TEXT NOT NULL,
    tokens {big} NOT NULL CHECK (tokens > 0),
    uses_max {big} NOT NULL CHECK (uses_max > 0),
    uses {big} NOT NULL DEFAULT 0 CHECK (uses BETWEEN 0 AND uses_max),
    expires_at_us {big},
    reason TEXT NOT NULL,
    created_at_us {big} NOT NULL
) {clustered};

CREATE TABLE redemption (
    digest {blob} NOT NULL REFERENCES redeem_code (digest),
    account_id {text} NOT NULL REFERENCES account (id),
    redeemed_at_us {big} NOT NULL,
    PRIMARY KEY (digest, account_id)
) {clustered};

ALTER TABLE ledger_entry ADD COLUMN order_id {text} REFERENCES pack_order (id);

CREATE INDEX ledger_entry_order ON ledger_entry (order_id) WHERE order_id IS NOT NULL
"""
_SQLITE = {"big": "INTEGER", "text": "TEXT", "blob": "BLOB", "clustered": "STRICT, WITHOUT ROWID"}
_POSTGRESQL = {"big": "BIGINT", "text": 'TEXT COLLATE "C"', "blob": "BYTEA", "clustered": ""}


def upgrade() -> None:
    """Make the tables."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _TABLES.format(**(_SQLITE if sqlite else _POSTGRESQL)).split(";"):
        op.execute(statement.strip())
