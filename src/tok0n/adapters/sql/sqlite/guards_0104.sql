-- What schema 0104 adds to `guards.sql`: triggers that keep documents as they were issued.

CREATE TRIGGER document_is_never_edited BEFORE UPDATE ON document
    BEGIN SELECT RAISE(ABORT, 'documents are never edited'); END;

CREATE TRIGGER document_is_never_deleted BEFORE DELETE ON document
    BEGIN SELECT RAISE(ABORT, 'documents are never deleted'); END;
