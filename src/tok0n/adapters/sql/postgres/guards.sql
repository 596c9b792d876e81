-- Triggers that keep the ledger append-only, let each request end once, and number the changes of keys.
-- PostgreSQL checks no foreign key of the hot path (docs/adr/0012): `tok0n_ledger_batch` reads the account and the key
-- itself, and rows that are referred to are never deleted and keep their ids.

ALTER TABLE request DROP CONSTRAINT request_account_id_fkey;

ALTER TABLE request DROP CONSTRAINT request_api_key_id_fkey;

ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_account_id_fkey;

ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_request_id_fkey;

CREATE FUNCTION tok0n_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION '%', TG_ARGV[0]; END $$;

CREATE TRIGGER ledger_entry_is_never_edited BEFORE UPDATE OR DELETE ON ledger_entry
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('ledger entries are never edited or deleted');

CREATE TRIGGER request_ends_once BEFORE UPDATE ON request FOR EACH ROW WHEN (old.status <> 'PENDING')
    EXECUTE FUNCTION tok0n_refuse('a request ends once');

CREATE TRIGGER account_is_never_deleted BEFORE DELETE ON account
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('rows of account are never deleted');

CREATE TRIGGER account_keeps_its_id BEFORE UPDATE OF id ON account
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('rows of account keep their id');

CREATE TRIGGER api_key_is_never_deleted BEFORE DELETE ON api_key
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('rows of api_key are never deleted');

CREATE TRIGGER api_key_keeps_its_id BEFORE UPDATE OF id ON api_key
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('rows of api_key keep their id');

CREATE TRIGGER request_is_never_deleted BEFORE DELETE ON request
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('rows of request are never deleted');

CREATE TRIGGER request_keeps_its_id BEFORE UPDATE OF id ON request
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('rows of request keep their id');

CREATE TRIGGER account_is_never_emptied BEFORE TRUNCATE ON account
    EXECUTE FUNCTION tok0n_refuse('account is never emptied');

CREATE TRIGGER api_key_is_never_emptied BEFORE TRUNCATE ON api_key
    EXECUTE FUNCTION tok0n_refuse('api_key is never emptied');

CREATE TRIGGER request_is_never_emptied BEFORE TRUNCATE ON request
    EXECUTE FUNCTION tok0n_refuse('request is never emptied');

CREATE TRIGGER ledger_entry_is_never_emptied BEFORE TRUNCATE ON ledger_entry
    EXECUTE FUNCTION tok0n_refuse('ledger_entry is never emptied');

CREATE TRIGGER wallet_is_never_emptied BEFORE TRUNCATE ON wallet
    EXECUTE FUNCTION tok0n_refuse('wallet is never emptied');

CREATE TRIGGER wallet_is_never_deleted BEFORE DELETE ON wallet
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('rows of wallet are never deleted');

CREATE TRIGGER wallet_keeps_its_id BEFORE UPDATE OF account_id, token_class ON wallet
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('rows of wallet keep their id');

CREATE TRIGGER api_key_needs_a_new_version BEFORE UPDATE OF revoked_at_us, disabled_at_us, expires_at_us, models, endpoints,
        networks, requests_per_minute ON api_key FOR EACH ROW WHEN (NEW.version <= OLD.version)
    EXECUTE FUNCTION tok0n_refuse('a changed key needs a new version');

CREATE FUNCTION tok0n_periods(periods text) RETURNS TABLE (id text, starts bigint, ends bigint)
    LANGUAGE sql IMMUTABLE AS $$
        SELECT p ->> 0, (p ->> 1)::bigint, (p ->> 2)::bigint FROM jsonb_array_elements(periods::jsonb) AS p
    $$;

-- The lock lasts until the commit, so changes are committed in the order of their numbers.
CREATE FUNCTION tok0n_key_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_advisory_xact_lock(hashtextextended('tok0n key_change', 0));
        INSERT INTO key_change SELECT coalesce(max(number), 0) + 1, NEW.id FROM key_change;
        DELETE FROM key_change WHERE number <= (SELECT max(number) FROM key_change) - 10000;
        RETURN NULL;
    END $$;

CREATE FUNCTION tok0n_account_changed() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE api_key SET version = version + 1 WHERE account_id = NEW.id;
        RETURN NULL;
    END $$;

CREATE TRIGGER api_key_change AFTER UPDATE OF version ON api_key
    FOR EACH ROW EXECUTE FUNCTION tok0n_key_changed();

CREATE TRIGGER account_change AFTER UPDATE OF status ON account
    FOR EACH ROW EXECUTE FUNCTION tok0n_account_changed();
