"""Migrate schema 0103 to 0104, inside the caller's transaction: new tables, and new columns of some others.

`from_0102` creates several tables from `schema.sql`, so this step must not change those: `from_0102` names them.
"""

import sqlalchemy as sa

from tok0n.adapters.sql import ddl

_ADDED: tuple[str, ...] = (
    "dismissed_hint",
    "welcome_grant",
    "welcome_day",
)
"""The tables that 0104 adds, in the order in which they refer to each other."""

_CHANGES = """
ALTER TABLE mail_link ADD COLUMN browser_digest {blob}

CREATE INDEX redeem_code_usable ON redeem_code (expires_at_us) WHERE uses < uses_max

CREATE INDEX IF NOT EXISTS ledger_entry_change ON ledger_entry (account_id, token_class, number) WHERE kind <> 'usage'

ALTER TABLE pack_order ADD COLUMN quantity {big} NOT NULL DEFAULT 1

ALTER TABLE pack_order ADD COLUMN billing TEXT

ALTER TABLE pack_order ADD COLUMN tax_cents {big}

ALTER TABLE pack_order ADD COLUMN decline_code TEXT
"""
"""The statements that change existing tables, in both engines. Blank lines separate them."""


def upgrade(tx: sa.Connection) -> None:
    """Migrate the database. Servers of 0103 can't use the new schema, but keep running until they are restarted."""
    engine = ddl.engine_of(tx)
    for table in _ADDED:
        for statement in ddl.statements_of(engine, table):
            tx.exec_driver_sql(statement)
    ddl.execute(tx, engine, _CHANGES)
