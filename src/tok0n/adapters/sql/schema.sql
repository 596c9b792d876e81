-- The tables and indexes of both engines. `ddl.py` fills in the types that differ: big is a 64-bit integer, text an
-- id that sorts by its bytes, clustered a table stored in its primary key. A blank line ends a statement.
-- On the path of a request, checks use OR: for IN with more than two values, SQLite fills a temporary table each time.

CREATE TABLE account (
    id {text} NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('open', 'suspended', 'closed')),
    created_at_us {big} NOT NULL
) {clustered};

CREATE TABLE wallet (
    account_id {text} NOT NULL REFERENCES account (id),
    token_class {text} NOT NULL,
    posted {big} NOT NULL,
    pending {big} NOT NULL,
    entries {big} NOT NULL CHECK (entries >= 0),
    PRIMARY KEY (account_id, token_class),
    CONSTRAINT balance_is_never_negative CHECK (0 <= pending AND pending <= posted)
) {clustered};

CREATE TABLE api_key (
    id {text} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    version {big} NOT NULL DEFAULT 1 CHECK (version > 0),
    created_at_us {big} NOT NULL,
    revoked_at_us {big},
    disabled_at_us {big},
    expires_at_us {big},
    models TEXT,
    endpoints TEXT,
    networks TEXT,
    requests_per_minute {big} CHECK (requests_per_minute > 0),
    note TEXT NOT NULL DEFAULT '',
    last_used_at_us {big}
) {clustered};

CREATE INDEX api_key_account ON api_key (account_id);

CREATE TABLE key_secret (
    digest {blob} NOT NULL PRIMARY KEY,
    api_key_id {text} NOT NULL REFERENCES api_key (id),
    prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    created_at_us {big} NOT NULL,
    ends_at_us {big}
) {clustered};

CREATE INDEX key_secret_key ON key_secret (api_key_id);

CREATE TABLE key_budget (
    id {text} NOT NULL PRIMARY KEY,
    api_key_id {text} NOT NULL REFERENCES api_key (id),
    tokens {big} NOT NULL CHECK (tokens > 0),
    period TEXT NOT NULL CHECK (period IN ('total', 'day', 'week', 'month')),
    token_class {text},
    time_zone TEXT NOT NULL,
    created_at_us {big} NOT NULL
) {clustered};

CREATE INDEX key_budget_key ON key_budget (api_key_id);

CREATE TABLE budget_period (
    budget_id {text} NOT NULL,
    starts_at_us {big} NOT NULL,
    ends_at_us {big},
    spent {big} NOT NULL CHECK (spent >= 0),
    pending {big} NOT NULL CHECK (pending >= 0),
    notified INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (budget_id, starts_at_us)
) {clustered};

CREATE TABLE activity (
    id {identity},
    account_id {text} NOT NULL REFERENCES account (id),
    api_key_id {text} REFERENCES api_key (id),
    action TEXT NOT NULL,
    actor TEXT NOT NULL,
    before TEXT,
    after TEXT,
    created_at_us {big} NOT NULL
) {strict};

CREATE INDEX activity_account ON activity (account_id, id);

CREATE TABLE key_change (
    number {big} NOT NULL PRIMARY KEY,
    api_key_id {text} NOT NULL
) {clustered};

CREATE TABLE request (
    id {text} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL REFERENCES account (id),
    api_key_id {text} NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL DEFAULT 'chat',
    token_class {text} NOT NULL DEFAULT 'standard',
    budget_periods TEXT,
    status TEXT NOT NULL
        CHECK (status = 'SETTLED' OR status = 'PENDING' OR status = 'RELEASED' OR status = 'EXPIRED'),
    reserved {big} NOT NULL CHECK (reserved > 0),
    charged {big} NOT NULL,
    shortfall {big} NOT NULL CHECK (shortfall >= 0),
    prompt_tokens {big},
    completion_tokens {big},
    total_tokens {big},
    details TEXT,
    code TEXT,
    dispatched INTEGER NOT NULL CHECK (dispatched IN (0, 1)),
    process_id {text},
    upstream_ms INTEGER,
    created_at_us {big} NOT NULL,
    expires_at_us {big} NOT NULL,
    resolved_at_us {big},
    is_stream INTEGER NOT NULL DEFAULT 0 CHECK (is_stream IN (0, 1)),
    first_event_ms INTEGER,
    client_left INTEGER NOT NULL DEFAULT 0 CHECK (client_left IN (0, 1)),
    CONSTRAINT only_settled_requests_are_charged CHECK ((status = 'SETTLED') = (charged > 0) AND charged >= 0),
    CONSTRAINT every_used_token_is_charged_or_lost CHECK (status <> 'SETTLED' OR charged + shortfall = total_tokens)
) {clustered};

CREATE INDEX request_account ON request (account_id, id);

CREATE INDEX request_not_billed ON request (account_id, id, status, model, api_key_id, code)
    WHERE status IN ('RELEASED', 'EXPIRED');

CREATE INDEX request_slow ON request (account_id, id)
    WHERE status = 'SETTLED' AND CASE WHEN resolved_at_us - created_at_us > 900000000 THEN 1 END = 1;

CREATE INDEX request_pending ON request (expires_at_us) WHERE status = 'PENDING';

CREATE TABLE process (
    id {text} NOT NULL PRIMARY KEY,
    lease_ends_at_us {big} NOT NULL,
    renewed_since_us {big} NOT NULL
) {clustered};

CREATE TABLE pack_order (
    id {text} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL REFERENCES account (id),
    pack_id TEXT NOT NULL,
    pack_name TEXT NOT NULL,
    token_class {text} NOT NULL DEFAULT 'standard',
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
    quantity {big} NOT NULL DEFAULT 1,
    billing TEXT,
    tax_cents {big},
    decline_code TEXT,
    CONSTRAINT an_order_is_credited_once CHECK (purchase_applied IN (0, tokens)),
    CONSTRAINT no_more_is_taken_than_was_given CHECK (
        refund_applied >= 0 AND dispute_applied >= 0 AND refund_applied + dispute_applied <= purchase_applied
    )
) {clustered};

CREATE INDEX pack_order_account ON pack_order (account_id, id);

CREATE TABLE billing_details (
    account_id {text} NOT NULL PRIMARY KEY REFERENCES account (id),
    details TEXT NOT NULL
) {clustered};

CREATE TABLE document_series (
    is_live INTEGER NOT NULL CHECK (is_live IN (0, 1)),
    prefix {text} NOT NULL,
    year {big} NOT NULL,
    last {big} NOT NULL CHECK (last > 0),
    PRIMARY KEY (is_live, prefix, year)
) {clustered};

CREATE TABLE document (
    is_live INTEGER NOT NULL,
    number {text} NOT NULL,
    account_id {text} NOT NULL REFERENCES account (id),
    order_id {text} NOT NULL REFERENCES pack_order (id),
    kind TEXT NOT NULL CHECK (kind IN ('invoice', 'receipt', 'credit_note')),
    cents {big} NOT NULL CHECK (cents >= 0),
    issued_at_us {big} NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (is_live, number)
) {clustered};

CREATE INDEX document_of_order ON document (order_id);

CREATE UNIQUE INDEX document_of_sale ON document (order_id) WHERE kind <> 'credit_note';

CREATE TABLE purchase_email (
    order_id {text} NOT NULL PRIMARY KEY REFERENCES pack_order (id),
    claimed_at_us {big}
) {clustered};

CREATE INDEX purchase_email_due ON purchase_email (order_id) WHERE claimed_at_us IS NULL;

CREATE TABLE ledger_entry (
    id {identity},
    account_id {text} NOT NULL REFERENCES account (id),
    token_class {text} NOT NULL DEFAULT 'standard',
    number {big} NOT NULL CHECK (number > 0),
    kind TEXT NOT NULL CHECK (kind = 'usage' OR kind = 'purchase' OR kind = 'grant' OR kind = 'refund'
        OR kind = 'dispute' OR kind = 'adjustment'),
    amount {big} NOT NULL CHECK (amount <> 0),
    posted_after {big} NOT NULL CHECK (posted_after >= 0),
    request_id {text} UNIQUE REFERENCES request (id),
    reason TEXT,
    author TEXT,
    created_at_us {big} NOT NULL,
    order_id {text} REFERENCES pack_order (id),
    reverses_request_id {text},
    CONSTRAINT usage_names_its_request CHECK ((kind = 'usage') = (request_id IS NOT NULL)),
    CONSTRAINT usage_only_takes CHECK (kind <> 'usage' OR amount < 0)
) {strict};

CREATE INDEX ledger_entry_account ON ledger_entry (account_id, id);

CREATE INDEX ledger_entry_order ON ledger_entry (order_id) WHERE order_id IS NOT NULL;

CREATE INDEX ledger_entry_change ON ledger_entry (account_id, token_class, number) WHERE kind <> 'usage';

CREATE UNIQUE INDEX ledger_entry_reversal ON ledger_entry (reverses_request_id) WHERE reverses_request_id IS NOT NULL;

CREATE TABLE usage_quarter (
    account_id {text} NOT NULL REFERENCES account (id),
    quarter {big} NOT NULL,
    api_key_id {text} NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
    requests {big} NOT NULL CHECK (requests > 0),
    prompt_tokens {big} NOT NULL,
    completion_tokens {big} NOT NULL,
    charged {big} NOT NULL CHECK (charged > 0),
    PRIMARY KEY (account_id, quarter, api_key_id, model)
) {clustered};

CREATE TABLE usage_span (
    account_id {text} NOT NULL REFERENCES account (id),
    span_quarters {big} NOT NULL CHECK (span_quarters IN (4, 24, 96)),
    quarter {big} NOT NULL,
    api_key_id {text} NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
    requests {big} NOT NULL,
    prompt_tokens {big} NOT NULL,
    completion_tokens {big} NOT NULL,
    charged {big} NOT NULL,
    PRIMARY KEY (account_id, span_quarters, quarter, api_key_id, model)
) {clustered};

CREATE TABLE usage_rollup (
    day {big} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL
) {clustered};

CREATE TABLE request_outcome (
    account_id {text} NOT NULL REFERENCES account (id),
    span_quarters {big} NOT NULL CHECK (span_quarters IN (1, 4, 24, 96)),
    quarter {big} NOT NULL,
    api_key_id {text} NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
    failed {big} NOT NULL,
    latencies {blob} NOT NULL,
    PRIMARY KEY (account_id, span_quarters, quarter, api_key_id, model)
) {clustered};

CREATE TABLE outcome_rollup (
    quarter {big} NOT NULL PRIMARY KEY,
    api_key_id {text} NOT NULL
) {clustered};

CREATE TABLE rejected_request (
    id {text} NOT NULL PRIMARY KEY,
    account_id {text} NOT NULL REFERENCES account (id),
    api_key_id {text} NOT NULL REFERENCES api_key (id),
    endpoint TEXT NOT NULL,
    model TEXT,
    http_status INTEGER NOT NULL CHECK (http_status BETWEEN 400 AND 599),
    code TEXT NOT NULL,
    param TEXT,
    template TEXT NOT NULL,
    arguments TEXT NOT NULL,
    created_at_us {big} NOT NULL
) {clustered};

CREATE INDEX rejected_request_account ON rejected_request (account_id, id);

CREATE INDEX rejected_request_key ON rejected_request (api_key_id, id);

CREATE INDEX rejected_request_model ON rejected_request (account_id, model, id);

CREATE TABLE rejected_count (
    account_id {text} NOT NULL REFERENCES account (id),
    quarter {big} NOT NULL,
    api_key_id {text} NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
    code TEXT NOT NULL,
    requests {big} NOT NULL CHECK (requests > 0),
    stored {big} NOT NULL CHECK (stored BETWEEN 0 AND requests),
    PRIMARY KEY (account_id, quarter, api_key_id, model, code)
) {clustered};

CREATE INDEX rejected_count_quarter ON rejected_count (quarter);

CREATE TABLE operator_request (
    id TEXT NOT NULL PRIMARY KEY,
    model TEXT NOT NULL,
    created_at_us {big} NOT NULL
) {clustered};

CREATE TABLE model (
    id {text} NOT NULL PRIMARY KEY,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    fingerprint TEXT NOT NULL,
    verified_at_us {big},
    checked_at_us {big},
    endpoints TEXT NOT NULL DEFAULT '{{}}',
    streams TEXT NOT NULL DEFAULT '{{}}'
) {clustered};

CREATE TABLE users (
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
    credential_changes {big} NOT NULL DEFAULT 0,
    CONSTRAINT only_verified_people_have_an_account CHECK (account_id IS NULL OR verified_at_us IS NOT NULL)
) {clustered};

CREATE INDEX users_unverified ON users (created_at_us) WHERE verified_at_us IS NULL;

CREATE TABLE recovery_code (
    user_id {text} NOT NULL REFERENCES users (id),
    digest {blob} NOT NULL,
    PRIMARY KEY (user_id, digest)
) {clustered};

CREATE TABLE passkey (
    credential_id {blob} NOT NULL PRIMARY KEY,
    user_id {text} NOT NULL REFERENCES users (id),
    public_key {blob} NOT NULL,
    sign_count {big} NOT NULL,
    name TEXT NOT NULL,
    created_at_us {big} NOT NULL,
    last_used_at_us {big}
) {clustered};

CREATE INDEX passkey_user_id ON passkey (user_id);

CREATE TABLE session (
    digest {blob} NOT NULL PRIMARY KEY,
    user_id {text} NOT NULL REFERENCES users (id),
    created_at_us {big} NOT NULL,
    seen_at_us {big} NOT NULL,
    agent TEXT NOT NULL,
    waits INTEGER NOT NULL,
    network TEXT NOT NULL DEFAULT ''
) {clustered};

CREATE INDEX session_user_id ON session (user_id);

CREATE INDEX session_seen ON session (seen_at_us);

CREATE INDEX session_created ON session (created_at_us);

CREATE TABLE mail_link (
    digest {blob} NOT NULL PRIMARY KEY,
    user_id {text} REFERENCES users (id),
    purpose TEXT NOT NULL,
    email TEXT,
    expires_at_us {big} NOT NULL,
    browser_digest {blob}
) {clustered};

CREATE INDEX mail_link_user_id ON mail_link (user_id);

CREATE INDEX mail_link_expiry ON mail_link (expires_at_us);

CREATE TABLE dismissed_hint (
    user_id {text} NOT NULL REFERENCES users (id),
    hint {text} NOT NULL,
    PRIMARY KEY (user_id, hint)
) {clustered};

CREATE TABLE welcome_grant (
    email_digest {blob} NOT NULL PRIMARY KEY,
    granted_at_us {big} NOT NULL
) {clustered};

CREATE TABLE welcome_day (
    day {big} NOT NULL PRIMARY KEY,
    grants {big} NOT NULL CHECK (grants > 0)
) {clustered};

CREATE TABLE balance_alert (
    account_id {text} NOT NULL REFERENCES account (id),
    token_class {text} NOT NULL,
    threshold_tokens {big} NOT NULL CHECK (threshold_tokens > 0),
    notified INTEGER NOT NULL CHECK (notified IN (0, 1)),
    PRIMARY KEY (account_id, token_class, threshold_tokens)
) {clustered};

CREATE TABLE alert_check (
    id {identity},
    account_id {text} NOT NULL REFERENCES account (id),
    alert {text} NOT NULL CHECK (alert IN ('balance', 'budget'))
) {strict};

CREATE INDEX alert_check_alert ON alert_check (alert, id);

CREATE TABLE notice_preference (
    account_id {text} NOT NULL REFERENCES account (id),
    kind {text} NOT NULL,
    channel {text} NOT NULL,
    is_on INTEGER NOT NULL CHECK (is_on IN (0, 1)),
    PRIMARY KEY (account_id, kind, channel)
) {clustered};

CREATE TABLE notice (
    id {identity},
    account_id {text} NOT NULL REFERENCES account (id),
    kind {text} NOT NULL,
    event TEXT NOT NULL,
    fields TEXT NOT NULL,
    email TEXT NOT NULL,
    created_at_us {big} NOT NULL,
    sent_at_us {big}
) {strict};

CREATE INDEX notice_account ON notice (account_id, kind, sent_at_us);

CREATE INDEX notice_sent ON notice (sent_at_us);

CREATE TABLE known_device (
    user_id {text} NOT NULL REFERENCES users (id),
    digest {blob} NOT NULL,
    seen_at_us {big} NOT NULL,
    PRIMARY KEY (user_id, digest)
) {clustered};

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
    failure TEXT,
    due_at_us {big} NOT NULL DEFAULT 0
) {clustered};

CREATE INDEX payment_event_unhandled ON payment_event (attempts, received_at_us) WHERE handled_at_us IS NULL;

CREATE TABLE payment_reconciliation (
    at_us {big} NOT NULL PRIMARY KEY
) {clustered};

CREATE TABLE debt (
    account_id {text} NOT NULL REFERENCES account (id),
    token_class {text} NOT NULL DEFAULT 'standard',
    tokens {big} NOT NULL CHECK (tokens >= 0),
    PRIMARY KEY (account_id, token_class)
) {clustered};

CREATE TABLE redeem_code (
    digest {blob} NOT NULL PRIMARY KEY,
    shown TEXT NOT NULL,
    token_class {text} NOT NULL DEFAULT 'standard',
    tokens {big} NOT NULL CHECK (tokens > 0),
    uses_max {big} NOT NULL CHECK (uses_max > 0),
    uses {big} NOT NULL DEFAULT 0 CHECK (uses BETWEEN 0 AND uses_max),
    expires_at_us {big},
    reason TEXT NOT NULL,
    created_at_us {big} NOT NULL
) {clustered};

CREATE INDEX redeem_code_usable ON redeem_code (expires_at_us) WHERE uses < uses_max;

CREATE TABLE redemption (
    digest {blob} NOT NULL REFERENCES redeem_code (digest),
    account_id {text} NOT NULL REFERENCES account (id),
    redeemed_at_us {big} NOT NULL,
    PRIMARY KEY (digest, account_id)
) {clustered};

CREATE TABLE attempt (
    kind {text} NOT NULL,
    subject {blob} NOT NULL,
    since_us {big} NOT NULL,
    expires_at_us {big} NOT NULL,
    counted {big} NOT NULL,
    PRIMARY KEY (kind, subject)
) {clustered};

CREATE INDEX attempt_expiry ON attempt (expires_at_us);

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

CREATE INDEX form_submission_sealed ON form_submission (submitted_at_us) WHERE sealed IS NOT NULL;

CREATE TABLE verification (
    model TEXT NOT NULL,
    at_us {big} NOT NULL,
    endpoint TEXT NOT NULL,
    is_stream INTEGER NOT NULL CHECK (is_stream IN (0, 1)),
    code TEXT,
    latency_ms {big},
    first_event_ms {big},
    PRIMARY KEY (model, at_us, endpoint, is_stream)
) {clustered};

CREATE INDEX verification_time ON verification (at_us);

CREATE TABLE model_day (
    day {big} NOT NULL,
    model TEXT NOT NULL,
    settled {big} NOT NULL CHECK (settled >= 0),
    failed {big} NOT NULL CHECK (failed >= 0),
    latencies TEXT NOT NULL,
    PRIMARY KEY (day, model)
) {clustered};

