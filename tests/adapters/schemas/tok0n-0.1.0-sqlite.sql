BEGIN TRANSACTION;
CREATE TABLE account (
    id TEXT NOT NULL PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL CHECK (status IN ('open', 'closed')),
    posted INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    created_at_us INTEGER NOT NULL,
    CONSTRAINT balance_is_never_negative CHECK (0 <= pending AND pending <= posted)
) STRICT, WITHOUT ROWID;
INSERT INTO "account" VALUES('acct_5fe093251ad31604479f','ada@example.com','open',10310,500,1800000000000000);
INSERT INTO "account" VALUES('acct_e5d1d0c9d72098b06b87','bob@example.com','open',5,0,1800000000000000);
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0007');
CREATE TABLE api_key (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    name TEXT NOT NULL,
    digest BLOB NOT NULL UNIQUE,
    prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    revoked_at_us INTEGER
, expires_at_us INTEGER, budget INTEGER CHECK (budget > 0), spent INTEGER NOT NULL DEFAULT 0 CHECK (spent >= 0), pending INTEGER NOT NULL DEFAULT 0 CHECK (pending >= 0), models TEXT, last_used_at_us INTEGER) STRICT, WITHOUT ROWID;
INSERT INTO "api_key" VALUES('key_27f5e9da449186422ccf','acct_5fe093251ad31604479f','limited',X'6C696D69746564','tk0n_bbbb','0002',1800000000000000,NULL,NULL,1000,130,300,NULL,NULL);
INSERT INTO "api_key" VALUES('key_5a8e5eec37d9078895c5','acct_5fe093251ad31604479f','plain',X'706C61696E','tk0n_aaaa','0001',1800000000000000,NULL,NULL,NULL,0,0,NULL,NULL);
CREATE TABLE debt (
    account_id TEXT NOT NULL PRIMARY KEY REFERENCES account (id),
    tokens INTEGER NOT NULL CHECK (tokens >= 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE ledger_entry (
    id INTEGER NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    kind TEXT NOT NULL CHECK (kind IN ('purchase', 'grant', 'usage', 'refund', 'dispute', 'adjustment')),
    amount INTEGER NOT NULL CHECK (amount <> 0),
    posted_after INTEGER NOT NULL CHECK (posted_after >= 0),
    request_id TEXT UNIQUE REFERENCES request (id),
    reason TEXT,
    created_at_us INTEGER NOT NULL, order_id TEXT REFERENCES pack_order (id),
    CONSTRAINT usage_names_its_request CHECK ((kind = 'usage') = (request_id IS NOT NULL)),
    CONSTRAINT usage_only_takes CHECK (kind <> 'usage' OR amount < 0)
) STRICT;
INSERT INTO "ledger_entry" VALUES(1,'acct_5fe093251ad31604479f','grant',10000,10000,NULL,'opening grant',1800000000000000,NULL);
INSERT INTO "ledger_entry" VALUES(2,'acct_e5d1d0c9d72098b06b87','grant',5,5,NULL,'opening grant',1800000000000000,NULL);
INSERT INTO "ledger_entry" VALUES(3,'acct_5fe093251ad31604479f','grant',500,10500,NULL,'welcome',1800000000000000,NULL);
INSERT INTO "ledger_entry" VALUES(4,'acct_5fe093251ad31604479f','usage',-60,10440,'req_00000000000000000000000000000001',NULL,1800000000001000,NULL);
INSERT INTO "ledger_entry" VALUES(5,'acct_5fe093251ad31604479f','usage',-130,10310,'req_00000000000000000000000000000002',NULL,1800000000001000,NULL);
INSERT INTO "ledger_entry" VALUES(6,'acct_5fe093251ad31604479f','usage',-70,10240,'req_00000000000000000000000000000003',NULL,1800000000001000,NULL);
INSERT INTO "ledger_entry" VALUES(7,'acct_5fe093251ad31604479f','adjustment',70,10310,NULL,'reversal of req_00000000000000000000000000000003: its answer was not given',1800000000002000,NULL);
CREATE TABLE low_balance_notice (
    account_id TEXT NOT NULL PRIMARY KEY REFERENCES account (id),
    below INTEGER NOT NULL CHECK (below > 0),
    told INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "low_balance_notice" VALUES('acct_5fe093251ad31604479f',1000,0);
CREATE TABLE mail_link (
    digest BLOB NOT NULL PRIMARY KEY,
    person_id TEXT REFERENCES person (id),
    purpose TEXT NOT NULL,
    email TEXT,
    expires_at_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "mail_link" VALUES(X'6C696E6B32','user_de56834ed202fc45a4dc','reset',NULL,1800001000000000);
CREATE TABLE model (
    id TEXT NOT NULL PRIMARY KEY,
    enabled INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    fingerprint TEXT NOT NULL,
    verified_at_us INTEGER,
    checked_at_us INTEGER,
    consecutive_failures INTEGER NOT NULL,
    latency_ms INTEGER,
    checks TEXT NOT NULL,
    detail TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE operator_request (
            id TEXT NOT NULL PRIMARY KEY,
            model TEXT NOT NULL,
            created_at_us INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
CREATE TABLE order_dispute (
    id TEXT NOT NULL PRIMARY KEY,
    order_id TEXT NOT NULL REFERENCES pack_order (id),
    cents INTEGER NOT NULL CHECK (cents >= 0),
    status TEXT NOT NULL CHECK (status IN ('open', 'won', 'lost'))
) STRICT, WITHOUT ROWID;
CREATE TABLE pack_order (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    pack_id TEXT NOT NULL,
    pack_name TEXT NOT NULL,
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
CREATE TABLE passkey (
    credential_id BLOB NOT NULL PRIMARY KEY,
    person_id TEXT NOT NULL REFERENCES person (id),
    public_key BLOB NOT NULL,
    sign_count INTEGER NOT NULL,
    name TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    last_used_at_us INTEGER
) STRICT, WITHOUT ROWID;
CREATE TABLE payment_event (
    id TEXT NOT NULL PRIMARY KEY,
    type TEXT NOT NULL,
    event TEXT NOT NULL,
    created_at_us INTEGER NOT NULL,
    received_at_us INTEGER NOT NULL,
    handled_at_us INTEGER,
    attempts INTEGER NOT NULL DEFAULT 0,
    failure TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE payment_reconciliation (
    at_us INTEGER NOT NULL PRIMARY KEY
) STRICT, WITHOUT ROWID;
CREATE TABLE person (
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
    CONSTRAINT only_verified_people_have_an_account CHECK (account_id IS NULL OR verified_at_us IS NOT NULL)
) STRICT, WITHOUT ROWID;
INSERT INTO "person" VALUES('user_de56834ed202fc45a4dc','acct_5fe093251ad31604479f','ada@example.com','scrypt$x',1800000000000001,1800000000000000,'UTC',0,'S',1,NULL);
CREATE TABLE recovery_code (
    person_id TEXT NOT NULL REFERENCES person (id),
    digest BLOB NOT NULL,
    PRIMARY KEY (person_id, digest)
) STRICT, WITHOUT ROWID;
INSERT INTO "recovery_code" VALUES('user_de56834ed202fc45a4dc',X'636F646531');
INSERT INTO "recovery_code" VALUES('user_de56834ed202fc45a4dc',X'636F646532');
CREATE TABLE redeem_code (
    digest BLOB NOT NULL PRIMARY KEY,
    shown TEXT NOT NULL,
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
CREATE TABLE request (
    id TEXT NOT NULL PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES account (id),
    api_key_id TEXT NOT NULL REFERENCES api_key (id),
    model TEXT NOT NULL,
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
    upstream_ms INTEGER,
    created_at_us INTEGER NOT NULL,
    expires_at_us INTEGER NOT NULL,
    resolved_at_us INTEGER,
    CONSTRAINT only_settled_requests_are_charged CHECK ((status = 'SETTLED') = (charged > 0) AND charged >= 0),
    CONSTRAINT every_used_token_is_charged_or_lost CHECK (status <> 'SETTLED' OR charged + shortfall = total_tokens)
) STRICT, WITHOUT ROWID;
INSERT INTO "request" VALUES('req_00000000000000000000000000000001','acct_5fe093251ad31604479f','key_5a8e5eec37d9078895c5','demo','SETTLED',100,60,0,1,59,60,NULL,NULL,1,12,1800000000000001,1800001000000000,1800000000001000);
INSERT INTO "request" VALUES('req_00000000000000000000000000000002','acct_5fe093251ad31604479f','key_27f5e9da449186422ccf','demo','SETTLED',100,130,0,1,129,130,NULL,NULL,1,12,1800000000000002,1800001000000000,1800000000001000);
INSERT INTO "request" VALUES('req_00000000000000000000000000000003','acct_5fe093251ad31604479f','key_5a8e5eec37d9078895c5','demo','SETTLED',80,70,0,1,69,70,NULL,NULL,1,12,1800000000000003,1800001000000000,1800000000001000);
INSERT INTO "request" VALUES('req_00000000000000000000000000000004','acct_5fe093251ad31604479f','key_5a8e5eec37d9078895c5','demo','RELEASED',50,0,0,NULL,NULL,NULL,NULL,'upstream_error',1,NULL,1800000000000004,1800001000000000,1800000000001500);
INSERT INTO "request" VALUES('req_00000000000000000000000000000005','acct_5fe093251ad31604479f','key_5a8e5eec37d9078895c5','demo','PENDING',200,0,0,NULL,NULL,NULL,NULL,NULL,1,NULL,1800000000000005,1800001000000000,NULL);
INSERT INTO "request" VALUES('req_00000000000000000000000000000006','acct_5fe093251ad31604479f','key_27f5e9da449186422ccf','demo','PENDING',300,0,0,NULL,NULL,NULL,NULL,NULL,1,NULL,1800000000000006,1800001000000000,NULL);
CREATE TABLE session (
    digest BLOB NOT NULL PRIMARY KEY,
    person_id TEXT NOT NULL REFERENCES person (id),
    created_at_us INTEGER NOT NULL,
    seen_at_us INTEGER NOT NULL,
    agent TEXT NOT NULL,
    waits INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "session" VALUES(X'73657373696F6E','user_de56834ed202fc45a4dc',1800000000000000,1800000000000000,'Firefox',0);
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
) STRICT, WITHOUT ROWID
;
INSERT INTO "usage_hour" VALUES('acct_5fe093251ad31604479f',500000,'key_27f5e9da449186422ccf','demo',1,1,129,130);
INSERT INTO "usage_hour" VALUES('acct_5fe093251ad31604479f',500000,'key_5a8e5eec37d9078895c5','demo',2,2,128,130);
CREATE INDEX api_key_account ON api_key (account_id);
CREATE INDEX request_pending ON request (expires_at_us) WHERE status = 'PENDING';
CREATE INDEX ledger_entry_account ON ledger_entry (account_id, id);
CREATE TRIGGER ledger_entry_is_never_edited BEFORE UPDATE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never edited'); END;
CREATE TRIGGER ledger_entry_is_never_deleted BEFORE DELETE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never deleted'); END;
CREATE TRIGGER request_ends_once BEFORE UPDATE ON request WHEN old.status <> 'PENDING'
    BEGIN SELECT RAISE(ABORT, 'a request ends once'); END;
CREATE INDEX request_account ON request (account_id, id);
CREATE INDEX passkey_person ON passkey (person_id);
CREATE INDEX session_person ON session (person_id);
CREATE INDEX mail_link_person ON mail_link (person_id);
CREATE INDEX request_not_billed ON request (account_id, id) WHERE status IN ('RELEASED', 'EXPIRED');
CREATE INDEX pack_order_account ON pack_order (account_id, id);
CREATE INDEX order_dispute_order ON order_dispute (order_id);
CREATE INDEX payment_event_unhandled ON payment_event (attempts, received_at_us) WHERE handled_at_us IS NULL;
CREATE INDEX ledger_entry_order ON ledger_entry (order_id) WHERE order_id IS NOT NULL;
COMMIT;
