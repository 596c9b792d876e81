-- Triggers that keep the ledger append-only and let each request end once.

CREATE TRIGGER ledger_entry_is_never_edited BEFORE UPDATE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never edited'); END;

CREATE TRIGGER ledger_entry_is_never_deleted BEFORE DELETE ON ledger_entry
    BEGIN SELECT RAISE(ABORT, 'ledger entries are never deleted'); END;

CREATE TRIGGER request_ends_once BEFORE UPDATE ON request WHEN old.status <> 'PENDING'
    BEGIN SELECT RAISE(ABORT, 'a request ends once'); END;
