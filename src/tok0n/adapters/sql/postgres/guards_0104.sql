-- What schema 0104 adds to `guards.sql`: triggers that keep documents as they were issued, and no foreign keys on use.

CREATE TRIGGER document_is_never_edited BEFORE UPDATE OR DELETE ON document
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('documents are never edited or deleted');

CREATE TRIGGER document_is_never_emptied BEFORE TRUNCATE ON document
    EXECUTE FUNCTION tok0n_refuse('document is never emptied');

ALTER TABLE usage_quarter DROP CONSTRAINT usage_quarter_account_id_fkey;

ALTER TABLE usage_quarter DROP CONSTRAINT usage_quarter_api_key_id_fkey;

ALTER TABLE usage_span DROP CONSTRAINT usage_span_account_id_fkey;

ALTER TABLE usage_span DROP CONSTRAINT usage_span_api_key_id_fkey;
