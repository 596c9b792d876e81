"""Migrate schema 0007 (Tok0n 0.1.0) or 0012 to schema 0101, inside the caller's transaction.

Audits the ledger before and after, and fails if it finds differences.
"""

import sqlalchemy as sa

from tok0n.adapters.sql import audit, ddl
from tok0n.domain.errors import OperatorError

SUPPORTED = ("0007", "0012")

_TO_0012 = (
    (
        "CREATE TABLE attempt (kind {text} NOT NULL, subject {blob} NOT NULL, since_us {big} NOT NULL,"
        " expires_at_us {big} NOT NULL, counted {big} NOT NULL, PRIMARY KEY (kind, subject)) {clustered}"
    ),
    "CREATE INDEX attempt_expiry ON attempt (expires_at_us)",
    (
        "CREATE TABLE form_submission (account_id {text} NOT NULL REFERENCES account (id), form {text} NOT NULL,"
        " digest {blob} NOT NULL, submitted_at_us {big} NOT NULL, result TEXT, sealed {blob},"
        " PRIMARY KEY (account_id, form, digest)) {clustered}"
    ),
    "CREATE INDEX form_submission_time ON form_submission (submitted_at_us)",
    "ALTER TABLE payment_event ADD COLUMN due_at_us {big} NOT NULL DEFAULT 0",
    "ALTER TABLE person ADD COLUMN credential_changes {big} NOT NULL DEFAULT 0",
    "ALTER TABLE person RENAME TO users",
    "ALTER TABLE recovery_code RENAME COLUMN person_id TO user_id",
    "ALTER TABLE passkey RENAME COLUMN person_id TO user_id",
    "ALTER TABLE session RENAME COLUMN person_id TO user_id",
    "ALTER TABLE mail_link RENAME COLUMN person_id TO user_id",
    "DROP INDEX passkey_person",
    "DROP INDEX session_person",
    "DROP INDEX mail_link_person",
    "CREATE INDEX passkey_user_id ON passkey (user_id)",
    "CREATE INDEX session_user_id ON session (user_id)",
    "CREATE INDEX mail_link_user_id ON mail_link (user_id)",
    "ALTER TABLE low_balance_notice RENAME COLUMN below TO threshold_tokens",
    "ALTER TABLE low_balance_notice RENAME COLUMN told TO notified",
)
_ADD_REVERSALS = (
    "ALTER TABLE ledger_entry ADD COLUMN reverses_request_id {text}",
    (
        "CREATE UNIQUE INDEX ledger_entry_reversal ON ledger_entry (reverses_request_id)"
        " WHERE reverses_request_id IS NOT NULL"
    ),
)
_NAME_REVERSED_REQUESTS = """
UPDATE ledger_entry SET reverses_request_id = (
    SELECT request.id FROM request WHERE request.account_id = ledger_entry.account_id
        AND ledger_entry.reason = 'reversal of ' || request.id || ': its answer was not given')
WHERE kind = 'adjustment' AND reason LIKE 'reversal of %: its answer was not given'
"""
_RENAME_CONSTRAINTS = """
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT conrelid::regclass AS of_table, conname AS old,
            replace(replace(regexp_replace(conname, '^person_', 'users_'), '_person_id_', '_user_id_'),
                'low_balance_notice_below_', 'low_balance_notice_threshold_tokens_') AS new
        FROM pg_constraint WHERE connamespace = current_schema()::regnamespace
    LOOP
        IF found.old <> found.new THEN
            EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', found.of_table, found.old, found.new);
        END IF;
    END LOOP;
END $$
"""


def upgrade(tx: sa.Connection, revision: str) -> None:
    """Migrate from `revision`, one of `SUPPORTED`, to schema 0101.

    Raises `OperatorError` if the audit finds a difference. The caller then rolls back.
    """
    engine = ddl.engine_of(tx)
    if engine == "postgresql":
        # The hot path locks in this order too, which prevents deadlocks.
        tx.exec_driver_sql("LOCK TABLE account, api_key, request, ledger_entry IN ACCESS EXCLUSIVE MODE")
    _execute(tx, engine, _ADD_REVERSALS)  # first, because the audit reads the column
    _require_clean(tx, "before")
    if revision == "0007":
        _execute(tx, engine, _TO_0012)
    if engine == "sqlite":
        _finish_sqlite(tx)
    else:
        _finish_postgresql(tx)
    _require_clean(tx, "after")


def _execute(tx: sa.Connection, engine: ddl.Engine, statements: tuple[str, ...]) -> None:
    for statement in statements:
        tx.exec_driver_sql(statement.format(**ddl.TYPES[engine]))


def _finish_sqlite(tx: sa.Connection) -> None:
    guard = next(statement for statement in ddl.guards("sqlite") if "ledger_entry_is_never_edited" in statement)
    tx.exec_driver_sql("DROP TRIGGER ledger_entry_is_never_edited")
    tx.exec_driver_sql(_NAME_REVERSED_REQUESTS)
    tx.exec_driver_sql(guard)


def _finish_postgresql(tx: sa.Connection) -> None:
    tx.exec_driver_sql("ALTER TABLE ledger_entry DISABLE TRIGGER ledger_entry_is_never_edited")
    tx.exec_driver_sql(_NAME_REVERSED_REQUESTS)
    tx.exec_driver_sql("ALTER TABLE ledger_entry ENABLE TRIGGER ledger_entry_is_never_edited")
    tx.exec_driver_sql(_RENAME_CONSTRAINTS)
    tx.exec_driver_sql("DROP FUNCTION tok0n_batch")
    tx.exec_driver_sql(ddl.batch_function())


def _require_clean(tx: sa.Connection, when: str) -> None:
    differences = audit.audit(tx, has_daily_use=False).differences
    if differences:
        first = differences[0]
        raise OperatorError(
            f"The ledger audit {when} the migration found {len(differences)} differences, so nothing was changed."
            f" The first: {first.subject}: {first.what} (expected {first.expected}, found {first.found})."
            " Restore a backup, or run tok0n ledger audit with the version that wrote this database."
        )
