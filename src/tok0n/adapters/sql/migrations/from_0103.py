"""Migrate schema 0103 to 0104, inside the caller's transaction: new tables, and new columns of some others.

0104 sums use by quarter hours instead of hours. Hours can't be split, so the sums come from the requests. The sums
of days stay as they are, so that the audit finds a wrong one.

`from_0102` creates several tables from `schema.sql`, so this step must not change those: `from_0102` names them.
"""

import sqlalchemy as sa

from tok0n.adapters.sql import ddl
from tok0n.adapters.sql.migrations import checks

_ADDED: tuple[str, ...] = (
    "dismissed_hint",
    "welcome_grant",
    "welcome_day",
    "usage_quarter",
    "usage_span",
    "verification",
    "model_day",
    "request_outcome",
    "outcome_rollup",
    "balance_alert",
    "alert_check",
    "notice_preference",
    "notice",
    "known_device",
    "billing_details",
    "document_series",
    "document",
    "purchase_email",
    "rejected_request",
    "rejected_count",
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

INSERT INTO balance_alert (account_id, token_class, threshold_tokens, notified)
SELECT account_id, 'standard', threshold_tokens, notified FROM low_balance_notice

DROP TABLE low_balance_notice

DROP INDEX request_not_billed

CREATE INDEX request_not_billed ON request (account_id, id, status, model, api_key_id, code)
    WHERE status IN ('RELEASED', 'EXPIRED')

ALTER TABLE session ADD COLUMN network TEXT NOT NULL DEFAULT ''

CREATE INDEX request_slow ON request (account_id, id)
    WHERE status = 'SETTLED' AND CASE WHEN resolved_at_us - created_at_us > 900000000 THEN 1 END = 1
"""
"""The statements that change existing tables, in both engines. Blank lines separate them."""

_USE = """
INSERT INTO usage_quarter (account_id, quarter, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)
SELECT account_id, resolved_at_us / 900000000, api_key_id, model, count(*), sum(prompt_tokens), sum(completion_tokens),
    sum(charged)
FROM request WHERE status = 'SETTLED' GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4

INSERT INTO usage_span
    (account_id, span_quarters, quarter, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)
SELECT account_id, length, quarter / length * length, api_key_id, model, sum(requests), sum(prompt_tokens),
    sum(completion_tokens), sum(charged)
FROM (SELECT 4 AS length UNION ALL SELECT 24) AS lengths CROSS JOIN usage_quarter GROUP BY 1, 2, 3, 4, 5

INSERT INTO usage_span
    (account_id, span_quarters, quarter, api_key_id, model, requests, prompt_tokens, completion_tokens, charged)
SELECT account_id, 96, 96 * day, api_key_id, model, requests, prompt_tokens, completion_tokens, charged FROM usage_day

DROP TABLE usage_hour

DROP TABLE usage_day
"""


_FASTER_CHECKS = (
    (
        "request",
        "status",
        " CHECK (status IN ('PENDING', 'SETTLED', 'RELEASED', 'EXPIRED'))",
        """
        CHECK (status = 'SETTLED' OR status = 'PENDING' OR status = 'RELEASED' OR status = 'EXPIRED')""",
    ),
    (
        "ledger_entry",
        "kind",
        "CHECK (kind IN ('purchase', 'grant', 'usage', 'refund', 'dispute', 'adjustment'))",
        """CHECK (kind = 'usage' OR kind = 'purchase' OR kind = 'grant' OR kind = 'refund'
        OR kind = 'dispute' OR kind = 'adjustment')""",
    ),
)
"""The table, the column, and the text of its check before and after. Both allow the same values."""


def _replace_checks(tx: sa.Connection, engine: ddl.Engine) -> None:
    """Replace checks by faster ones. SQLite can only do so in the text of the table, which its documentation allows."""
    if engine == "postgresql":
        for table, column, _, new in _FASTER_CHECKS:
            tx.exec_driver_sql(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{column}_check, ADD {new.strip()}")
        return
    tx.exec_driver_sql("PRAGMA writable_schema = ON")
    for table, _, old, new in _FASTER_CHECKS:
        tx.exec_driver_sql("UPDATE sqlite_schema SET sql = replace(sql, ?, ?) WHERE name = ?", (old, new, table))
    tx.exec_driver_sql("PRAGMA writable_schema = RESET")


def upgrade(tx: sa.Connection) -> None:
    """Migrate the database, while no server runs. Raises `OperatorError` if one runs on PostgreSQL."""
    engine = ddl.engine_of(tx)
    checks.require_no_server(tx)
    if engine == "postgresql":
        tx.exec_driver_sql("LOCK TABLE account, request, usage_hour, usage_day IN ACCESS EXCLUSIVE MODE")
    for table in _ADDED:
        for statement in ddl.statements_of(engine, table):
            tx.exec_driver_sql(statement)
    ddl.execute_all(tx, engine, _CHANGES)
    _replace_checks(tx, engine)
    ddl.execute_all(tx, engine, _USE)
    if engine == "postgresql":
        tx.exec_driver_sql("DROP FUNCTION tok0n_ledger_batch")
        tx.exec_driver_sql(ddl.batch_function())
    for statement in ddl.guards_0104(engine):
        tx.exec_driver_sql(statement)
