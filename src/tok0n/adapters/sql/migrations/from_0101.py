"""Migrate schema 0101 to 0102, inside the caller's transaction.

0102 numbers the changes of keys, adds up the use of past days, indexes what periodic tasks read, stores the endpoints
and streams of models and requests, and names the process that made a reservation.
"""

import sqlalchemy as sa

from tok0n.adapters.sql import ddl

_ADDED = (
    "CREATE TABLE key_change ",
    "CREATE TABLE usage_day ",
    "CREATE TABLE usage_rollup ",
    "CREATE TABLE process ",
    "CREATE FUNCTION tok0n_key_changed(",
    "CREATE TRIGGER api_key_change ",
    "CREATE TRIGGER account_change ",
    "CREATE INDEX users_unverified ",
    "CREATE INDEX session_seen ",
    "CREATE INDEX session_created ",
    "CREATE INDEX mail_link_expiry ",
    "CREATE INDEX form_submission_sealed ",
)
"""How the added statements of `schema.sql` and `guards.sql` begin."""


_ALTERED = (
    "ALTER TABLE model ADD COLUMN endpoints TEXT NOT NULL DEFAULT '{{}}'",
    "ALTER TABLE model ADD COLUMN streams TEXT NOT NULL DEFAULT '{{}}'",
    """UPDATE model SET endpoints = '{{"chat":{{"verified":true}}}}' WHERE verified_at_us IS NOT NULL""",
    "ALTER TABLE model DROP COLUMN consecutive_failures",
    "ALTER TABLE model DROP COLUMN latency_ms",
    "ALTER TABLE model DROP COLUMN checks",
    "ALTER TABLE model DROP COLUMN detail",
    "ALTER TABLE request ADD COLUMN endpoint TEXT NOT NULL DEFAULT 'chat'",
    "ALTER TABLE request ADD COLUMN process_id {text}",
    "ALTER TABLE request ADD COLUMN is_stream INTEGER NOT NULL DEFAULT 0 CHECK (is_stream IN (0, 1))",
    "ALTER TABLE request ADD COLUMN first_event_ms INTEGER",
    "ALTER TABLE request ADD COLUMN client_left INTEGER NOT NULL DEFAULT 0 CHECK (client_left IN (0, 1))",
)


def upgrade(tx: sa.Connection) -> None:
    """Add the columns, tables, triggers and indexes, and replace PostgreSQL's function."""
    engine = ddl.engine_of(tx)
    for statement in _ALTERED:
        tx.exec_driver_sql(statement.format(**ddl.TYPES[engine]))
    for statement in (*ddl.tables(engine), *ddl.guards(engine)):
        if statement.startswith(_ADDED):
            tx.exec_driver_sql(statement)
    if engine == "postgresql":
        tx.exec_driver_sql("DROP FUNCTION tok0n_ledger_batch")
        tx.exec_driver_sql(ddl.batch_function())
