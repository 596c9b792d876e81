-- Triggers that keep documents as they were issued.

CREATE TRIGGER document_is_never_edited BEFORE UPDATE OR DELETE ON document
    FOR EACH ROW EXECUTE FUNCTION tok0n_refuse('documents are never edited or deleted');

CREATE TRIGGER document_is_never_emptied BEFORE TRUNCATE ON document
    EXECUTE FUNCTION tok0n_refuse('document is never emptied');
