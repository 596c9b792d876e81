"""Accounts, API keys, requests, ledger entries, models."""

from alembic import op

revision = "0001"
down_revision = None

_TABLES = """
CREATE TABLE account (
    id {text} NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('open', 'closed')),
    posted {big} NOT NULL,
    pending {big} NOT NULL,
    created_at_us {big} NOT NULL,
    CONSTRAINT balance_is_never_negative CHECK (0 <= pending AND pending <= posted)
) {clustered};

CREATE TABLE api_key (
    id {text} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    digest {blob} NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    created_at_us {big} NOT NULL,
    revoked_at_us {big}
) {clustered};

CREATE INDEX api_key_account ON api_key (account_id);

CREATE TABLE request (
    id {text} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL REFERENCES account (id),
    api_key_id {text} NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('PENDING', 'SETTLED', 'RELEASED', 'EXPIRED')),
    reserved {big} NOT NULL CHECK (reserved > 0),
    charged {big} NOT NULL,
    shortfall {big} NOT NULL CHECK (shortfall >= 0),
    prompt_tokens {big},
    completion_tokens {big},
    total_tokens {big},
    details TEXT,
    code TEXT,
    dispatched INTEGER NOT NULL CHECK (dispatched IN (0, 1)),
    upstream_ms INTEGER,
    created_at_us {big} NOT NULL,
    expires_at_us {big} NOT NULL,
    resolved_at_us {big},
    CONSTRAINT only_settled_requests_are_charged CHECK ((status = 'SETTLED') = (charged > 0) AND charged >= 0),
    CONSTRAINT every_used_token_is_charged_or_lost CHECK (status <> 'SETTLED' OR charged + shortfall = total_tokens)
) {clustered};

CREATE INDEX request_account ON request (account_id, created_at_us);

CREATE INDEX request_pending ON request (expires_at_us) WHERE status = 'PENDING';

CREATE TABLE ledger_entry (
    id {identity},
    account_id {text} NOT NULL REFERENCES account (id),
    kind TEXT NOT NULL CHECK (kind IN ('purchase', 'grant', 'usage', 'refund', 'dispute', 'adjustment')),
    amount {big} NOT NULL CHECK (amount <> 0),
    posted_after {big} NOT NULL CHECK (posted_after >= 0),
    request_id {text} UNIQUE REFERENCES request (id),
    reason TEXT,
    created_at_us {big} NOT NULL,
    CONSTRAINT usage_names_its_request CHECK ((kind = 'usage') = (request_id IS NOT NULL)),
    CONSTRAINT usage_only_takes CHECK (kind <> 'usage' OR amount < 0)
) {strict};

CREATE INDEX ledger_entry_account ON ledger_entry (account_id, id);

CREATE TABLE model (
    id {text} NOT NULL PRIMARY KEY,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    fingerprint TEXT NOT NULL,
    verified_at_us {big},
    checked_at_us {big},
    consecutive_failures INTEGER NOT NULL,
    latency_ms INTEGER,
    checks TEXT NOT NULL,
    detail TEXT NOT NULL
) {clustered}
"""

_SQLITE = {
    "big": "INTEGER",
    "text": "TEXT",
    "blob": "BLOB",
    "identity": "INTEGER NOT NULL PRIMARY KEY",
    "strict": "STRICT",
    "clustered": "STRICT, WITHOUT ROWID",
}
_POSTGRESQL = {
    "big": "BIGINT",
    "text": 'TEXT COLLATE "C"',
    "blob": "BYTEA",
    "identity": "BIGINT NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
    "strict": "",
    "clustered": "",
}

_SQLITE_GUARDS = (
    """CREATE TRIGGER ledger_entry_is_never_edited BEFORE UPDATE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never edited'); END""",
    """CREATE TRIGGER ledger_entry_is_never_deleted BEFORE DELETE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never deleted'); END""",
    """CREATE TRIGGER request_ends_once BEFORE UPDATE ON request WHEN old.status <> 'PENDING'
    BEGIN SELECT RAISE(ABORT, 'a request ends once'); END""",
)
_POSTGRESQL_GUARDS = (
    """CREATE FUNCTION tok0n_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '%', TG_ARGV[0]; END $$""",
    """CREATE TRIGGER ledger_entry_is_never_edited BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('ledger entries are never edited or deleted')""",
    """CREATE TRIGGER request_ends_once BEFORE UPDATE ON request FOR EACH ROW WHEN (old.status <> 'PENDING')
    EXECUTE FUNCTION tok0n_refuse('a request ends once')""",
)


def upgrade() -> None:
    """Make the tables, and the guards that hold what the ledger promises."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _TABLES.format(**(_SQLITE if sqlite else _POSTGRESQL)).split(";"):
        op.execute(statement.strip())
    for statement in _SQLITE_GUARDS if sqlite else _POSTGRESQL_GUARDS:
        op.execute(statement)
