CREATE TABLE account (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('open', 'suspended', 'closed')),
    created_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE wallet (
    account_id TEXT NOT NULL REFERENCES account (id),
    token_class TEXT NOT NULL,
    posted INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    entries INTEGER NOT NULL CHECK (entries >= 0),
    PRIMARY KEY (account_id, token_class),
    CONSTRAINT balance_is_never_negative CHECK (0 <= pending AND pending <= posted)
) STRICT, WITHOUT ROWID;

CREATE TABLE api_key (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at_us INTEGER NOT NULL,
    revoked_at_us INTEGER,
    disabled_at_us INTEGER,
    expires_at_us INTEGER,
    models TEXT,
    endpoints TEXT,
    networks TEXT,
    requests_per_minute INTEGER CHECK (requests_per_minute > 0),
    note TEXT NOT NULL DEFAULT '',
    last_used_at_us INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX api_key_account ON api_key (account_id);

CREATE TABLE key_secret (
    digest BLOB NOT NULL PRIMARY KEY,
    api_key_id TEXT NOT NULL REFERENCES api_key (id),
    prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    ends_at_us INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX key_secret_key ON key_secret (api_key_id);

CREATE TABLE key_budget (
    id TEXT NOT NULL PRIMARY KEY,
    api_key_id TEXT NOT NULL REFERENCES api_key (id),
    tokens INTEGER NOT NULL CHECK (tokens > 0),
    period TEXT NOT NULL CHECK (period IN ('total', 'day', 'week', 'month')),
    token_class TEXT,
    time_zone TEXT NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX key_budget_key ON key_budget (api_key_id);

CREATE TABLE budget_period (
    budget_id TEXT NOT NULL,
    starts_at_us INTEGER NOT NULL,
    ends_at_us INTEGER,
    spent INTEGER NOT NULL CHECK (spent >= 0),
    pending INTEGER NOT NULL CHECK (pending >= 0),
    notified INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (budget_id, starts_at_us)
) STRICT, WITHOUT ROWID;

CREATE TABLE activity (
    id INTEGER NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    api_key_id TEXT REFERENCES api_key (id),
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    before TEXT,
    after TEXT,
    created_at_us INTEGER NOT NULL
) STRICT;

CREATE INDEX activity_account ON activity (account_id, id);

CREATE TABLE key_change (
    number INTEGER NOT NULL PRIMARY KEY,
    api_key_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE request (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    api_key_id TEXT NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL DEFAULT 'chat',
    token_class TEXT NOT NULL DEFAULT 'standard',
    budget_periods TEXT,
    status TEXT NOT NULL CHECK (status IN ('PENDING', 'SETTLED', 'RELEASED', 'EXPIRED')),
    reserved INTEGER NOT NULL CHECK (reserved > 0),
    charged INTEGER NOT NULL,
    shortfall INTEGER NOT NULL CHECK (shortfall >= 0),
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    total_tokens INTEGER,
    details TEXT,
    code TEXT,
    dispatched INTEGER NOT NULL CHECK (dispatched IN (0, 1)),
    process_id TEXT,
    upstream_ms INTEGER,
    created_at_us INTEGER NOT NULL,
    expires_at_us INTEGER NOT NULL,
    resolved_at_us INTEGER,
    is_stream INTEGER NOT NULL DEFAULT 0 CHECK (is_stream IN (0, 1)),
    first_event_ms INTEGER,
    client_left INTEGER NOT NULL DEFAULT 0 CHECK (client_left IN (0, 1)),
    CONSTRAINT only_settled_requests_are_charged CHECK ((status = 'SETTLED') = (charged > 0) AND charged >= 0),
    CONSTRAINT every_used_token_is_charged_or_lost CHECK (status <> 'SETTLED' OR charged + shortfall = total_tokens)
) STRICT, WITHOUT ROWID;

CREATE INDEX request_account ON request (account_id, id);

CREATE INDEX request_not_billed ON request (account_id, id) WHERE status IN ('RELEASED', 'EXPIRED');

CREATE INDEX request_pending ON request (expires_at_us) WHERE status = 'PENDING';

CREATE TABLE process (
    id TEXT NOT NULL PRIMARY KEY,
    lease_ends_at_us INTEGER NOT NULL,
    renewed_since_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE pack_order (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    pack_id TEXT NOT NULL,
    pack_name TEXT NOT NULL,
    token_class TEXT NOT NULL DEFAULT 'standard',
    tokens INTEGER NOT NULL CHECK (tokens > 0),
    price_cents INTEGER NOT NULL CHECK (price_cents > 0),
    currency TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    checkout_id TEXT UNIQUE,
    payment_id TEXT UNIQUE,
    is_complete INTEGER NOT NULL DEFAULT 0,
    paid_cents INTEGER CHECK (paid_cents >= 0),
    paid_at_us INTEGER,
    refunded_cents INTEGER NOT NULL DEFAULT 0,
    outcome TEXT,
    purchase_applied INTEGER NOT NULL DEFAULT 0,
    refund_applied INTEGER NOT NULL DEFAULT 0,
    dispute_applied INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT an_order_is_credited_once CHECK (purchase_applied IN (0, tokens)),
    CONSTRAINT no_more_is_taken_than_was_given CHECK (
        refund_applied >= 0 AND dispute_applied >= 0 AND refund_applied + dispute_applied <= purchase_applied
    )
) STRICT, WITHOUT ROWID;

CREATE INDEX pack_order_account ON pack_order (account_id, id);

CREATE TABLE ledger_entry (
    id INTEGER NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    token_class TEXT NOT NULL DEFAULT 'standard',
    number INTEGER NOT NULL CHECK (number > 0),
    kind TEXT NOT NULL CHECK (kind IN ('purchase', 'grant', 'usage', 'refund', 'dispute', 'adjustment')),
    amount INTEGER NOT NULL CHECK (amount <> 0),
    posted_after INTEGER NOT NULL CHECK (posted_after >= 0),
    request_id TEXT UNIQUE REFERENCES request (id),
    reason TEXT,
    author TEXT,
    created_at_us INTEGER NOT NULL,
    order_id TEXT REFERENCES pack_order (id),
    reverses_request_id TEXT,
    CONSTRAINT usage_names_its_request CHECK ((kind = 'usage') = (request_id IS NOT NULL)),
    CONSTRAINT usage_only_takes CHECK (kind <> 'usage' OR amount < 0)
) STRICT;

CREATE INDEX ledger_entry_account ON ledger_entry (account_id, id);

CREATE INDEX ledger_entry_order ON ledger_entry (order_id) WHERE order_id IS NOT NULL;

CREATE UNIQUE INDEX ledger_entry_reversal ON ledger_entry (reverses_request_id) WHERE reverses_request_id IS NOT NULL;

CREATE TABLE usage_hour (
    account_id TEXT NOT NULL REFERENCES account (id),
    hour INTEGER NOT NULL,
    api_key_id TEXT NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
    requests INTEGER NOT NULL CHECK (requests > 0),
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    charged INTEGER NOT NULL CHECK (charged > 0),
    PRIMARY KEY (account_id, hour, api_key_id, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_day (
    account_id TEXT NOT NULL REFERENCES account (id),
    day INTEGER NOT NULL,
    api_key_id TEXT NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    charged INTEGER NOT NULL,
    PRIMARY KEY (account_id, day, api_key_id, model)
) STRICT, WITHOUT ROWID;

CREATE TABLE usage_rollup (
    day INTEGER NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE operator_request (
    id TEXT NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE model (
    id TEXT NOT NULL PRIMARY KEY,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    fingerprint TEXT NOT NULL,
    verified_at_us INTEGER,
    checked_at_us INTEGER,
    endpoints TEXT NOT NULL DEFAULT '{}',
    streams TEXT NOT NULL DEFAULT '{}'
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT UNIQUE REFERENCES account (id),
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    verified_at_us INTEGER,
    created_at_us INTEGER NOT NULL,
    time_zone TEXT NOT NULL DEFAULT 'UTC',
    is_operator INTEGER NOT NULL DEFAULT 0,
    totp_secret TEXT,
    totp_step INTEGER NOT NULL DEFAULT 0,
    closed_at_us INTEGER,
    credential_changes INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT only_verified_people_have_an_account CHECK (account_id IS NULL OR verified_at_us IS NOT NULL)
) STRICT, WITHOUT ROWID;

CREATE INDEX users_unverified ON users (created_at_us) WHERE verified_at_us IS NULL;

CREATE TABLE recovery_code (
    user_id TEXT NOT NULL REFERENCES users (id),
    digest BLOB NOT NULL,
    PRIMARY KEY (user_id, digest)
) STRICT, WITHOUT ROWID;

CREATE TABLE passkey (
    credential_id BLOB NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    public_key BLOB NOT NULL,
    sign_count INTEGER NOT NULL,
    name TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    last_used_at_us INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX passkey_user_id ON passkey (user_id);

CREATE TABLE session (
    digest BLOB NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    created_at_us INTEGER NOT NULL,
    seen_at_us INTEGER NOT NULL,
    agent TEXT NOT NULL,
    waits INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX session_user_id ON session (user_id);

CREATE INDEX session_seen ON session (seen_at_us);

CREATE INDEX session_created ON session (created_at_us);

CREATE TABLE mail_link (
    digest BLOB NOT NULL PRIMARY KEY,
    user_id TEXT REFERENCES users (id),
    purpose TEXT NOT NULL,
    email TEXT,
    expires_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX mail_link_user_id ON mail_link (user_id);

CREATE INDEX mail_link_expiry ON mail_link (expires_at_us);

CREATE TABLE low_balance_notice (
    account_id TEXT NOT NULL PRIMARY KEY REFERENCES account (id),
    threshold_tokens INTEGER NOT NULL CHECK (threshold_tokens > 0),
    notified INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE order_dispute (
    id TEXT NOT NULL PRIMARY KEY,
    order_id TEXT NOT NULL REFERENCES pack_order (id),
    cents INTEGER NOT NULL CHECK (cents >= 0),
    status TEXT NOT NULL CHECK (status IN ('open', 'won', 'lost'))
) STRICT, WITHOUT ROWID;

CREATE INDEX order_dispute_order ON order_dispute (order_id);

CREATE TABLE payment_event (
    id TEXT NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    event TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    handled_at_us INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    failure TEXT,
    due_at_us INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE INDEX payment_event_unhandled ON payment_event (attempts, received_at_us) WHERE handled_at_us IS NULL;

CREATE TABLE payment_reconciliation (
    at_us INTEGER NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;

CREATE TABLE debt (
    account_id TEXT NOT NULL REFERENCES account (id),
    token_class TEXT NOT NULL DEFAULT 'standard',
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    PRIMARY KEY (account_id, token_class)
) STRICT, WITHOUT ROWID;

CREATE TABLE redeem_code (
    digest BLOB NOT NULL PRIMARY KEY,
    shown TEXT NOT NULL,
    token_class TEXT NOT NULL DEFAULT 'standard',
    tokens INTEGER NOT NULL CHECK (tokens > 0),
    uses_max INTEGER NOT NULL CHECK (uses_max > 0),
    uses INTEGER NOT NULL DEFAULT 0 CHECK (uses BETWEEN 0 AND uses_max),
    expires_at_us INTEGER,
    reason TEXT NOT NULL,
    created_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE redemption (
    digest BLOB NOT NULL REFERENCES redeem_code (digest),
    account_id TEXT NOT NULL REFERENCES account (id),
    redeemed_at_us INTEGER NOT NULL,
    PRIMARY KEY (digest, account_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    kind TEXT NOT NULL,
    subject BLOB NOT NULL,
    since_us INTEGER NOT NULL,
    expires_at_us INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    PRIMARY KEY (kind, subject)
) STRICT, WITHOUT ROWID;

CREATE INDEX attempt_expiry ON attempt (expires_at_us);

CREATE TABLE form_submission (
    account_id TEXT NOT NULL REFERENCES account (id),
    form TEXT NOT NULL,
    digest BLOB NOT NULL,
    submitted_at_us INTEGER NOT NULL,
    result TEXT,
    sealed BLOB,
    PRIMARY KEY (account_id, form, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX form_submission_time ON form_submission (submitted_at_us);

CREATE INDEX form_submission_sealed ON form_submission (submitted_at_us) WHERE sealed IS NOT NULL;

CREATE TRIGGER ledger_entry_is_never_edited BEFORE UPDATE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never edited'); END;

CREATE TRIGGER ledger_entry_is_never_deleted BEFORE DELETE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never deleted'); END;

CREATE TRIGGER request_ends_once BEFORE UPDATE ON request WHEN old.status <> 'PENDING'
    BEGIN SELECT RAISE(ABORT, 'a request ends once'); END;

CREATE TRIGGER api_key_needs_a_new_version BEFORE UPDATE OF revoked_at_us, disabled_at_us, expires_at_us, models, endpoints,
        networks, requests_per_minute ON api_key WHEN new.version <= old.version
    BEGIN SELECT RAISE(ABORT, 'a changed key needs a new version'); END;

CREATE TRIGGER api_key_change AFTER UPDATE OF version ON api_key BEGIN
    INSERT INTO key_change SELECT coalesce(max(number), 0) + 1, new.id FROM key_change;
    DELETE FROM key_change WHERE number <= (SELECT max(number) FROM key_change) - 10000;
END;

CREATE TRIGGER account_change AFTER UPDATE OF status ON account BEGIN
    UPDATE api_key SET version = version + 1 WHERE account_id = new.id;
END;

CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);

INSERT INTO alembic_version VALUES ('0103');
