-- Triggers that keep the ledger append-only, let each request end once, and number the changes of keys.

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
