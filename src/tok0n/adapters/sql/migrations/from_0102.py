"""Migrate schema 0102 to 0103, inside the caller's transaction.

0103 has a wallet for each token class of an account, numbers the entries of each wallet, and keeps the secrets and the
budgets of API keys in tables of their own. Everything in a database of 0102 is of the class `standard`. Requests in
progress stay PENDING.

SQLite can't drop a column that a constraint uses, or add one without a default, so it copies those tables. The
connection must not enforce foreign keys meanwhile, because a table that others refer to is dropped; a check of all
foreign keys follows. PostgreSQL alters each table in place, which keeps the privileges that an operator has granted.
"""

import contextlib
import sqlite3
from collections import Counter
from collections.abc import Iterator

import sqlalchemy as sa

from tok0n.adapters.sql import ddl
from tok0n.adapters.sql.migrations import checks

_ADDED = ("wallet", "key_secret", "key_budget", "budget_period", "activity")
_COMMON = """
INSERT INTO wallet (account_id, token_class, posted, pending, entries)
SELECT id, 'standard', posted, pending, coalesce(entries, 0)
FROM account LEFT JOIN (SELECT account_id, count(*) AS entries FROM ledger_entry GROUP BY account_id) AS counted
    ON account_id = id

INSERT INTO key_secret (digest, api_key_id, prefix, last_four, created_at_us)
SELECT digest, id, prefix, last_four, created_at_us FROM api_key

INSERT INTO key_budget (id, api_key_id, tokens, period, time_zone, created_at_us)
SELECT 'bud_' || substr(id, 5), id, budget, 'total', 'UTC', created_at_us FROM api_key WHERE budget IS NOT NULL

INSERT INTO budget_period (budget_id, starts_at_us, spent, pending, notified)
SELECT 'bud_' || substr(id, 5), 0, spent, pending,
    CASE WHEN spent >= budget THEN 100 WHEN 5 * spent >= 4 * budget THEN 80 ELSE 0 END
FROM api_key WHERE budget IS NOT NULL

ALTER TABLE request ADD COLUMN token_class {text} NOT NULL DEFAULT 'standard'

ALTER TABLE request ADD COLUMN budget_periods TEXT

ALTER TABLE pack_order ADD COLUMN token_class {text} NOT NULL DEFAULT 'standard'

ALTER TABLE redeem_code ADD COLUMN token_class {text} NOT NULL DEFAULT 'standard'

UPDATE request SET budget_periods = '[["bud_' || substr(api_key_id, 5) || '",0,null]]'
WHERE api_key_id IN (SELECT api_key_id FROM key_budget)
"""
"""The statements of both engines, which run while no trigger guards the tables.

A budget that is nearly spent already counts as notified.
"""

_OLD_SQLITE_GUARDS = (
    *("ledger_entry_is_never_edited", "ledger_entry_is_never_deleted", "request_ends_once"),
    *("api_key_change", "account_change"),
)
_ENTRY = "id, account_id, kind, amount, posted_after, request_id, created_at_us, order_id, reverses_request_id"
_KEY = "id, account_id, name, created_at_us, revoked_at_us, expires_at_us, models, last_used_at_us"
_COPIED = {
    "account": ("id, email, status, created_at_us", "id, email, status, created_at_us"),
    "api_key": (_KEY, _KEY),
    "debt": ("account_id, tokens", "account_id, tokens"),
    "ledger_entry": (
        f"{_ENTRY}, number, reason",
        f"{_ENTRY}, tok0n_number(account_id), CASE WHEN reverses_request_id IS NULL THEN reason END",
    ),
}
"""The tables that SQLite copies: the columns of the new table, and their values from the old one.

The first column is that of the primary key. A reversal names its request, and needs no reason.
"""

_COPY = "INSERT INTO new_{table} ({columns}) SELECT {values} FROM {table} ORDER BY {key}"
"""The order appends each row, and lets `tok0n_number` see the entries of an account in their order."""

_POSTGRES = """
ALTER TABLE account DROP COLUMN posted, DROP COLUMN pending

ALTER TABLE account DROP CONSTRAINT account_status_check

ALTER TABLE account ADD CONSTRAINT account_status_check CHECK (status IN ('open', 'suspended', 'closed'))

ALTER TABLE api_key DROP COLUMN digest, DROP COLUMN prefix, DROP COLUMN last_four, DROP COLUMN budget,
    DROP COLUMN spent, DROP COLUMN pending, ADD COLUMN version {big} NOT NULL DEFAULT 1 CHECK (version > 0),
    ADD COLUMN disabled_at_us {big}, ADD COLUMN endpoints TEXT, ADD COLUMN networks TEXT,
    ADD COLUMN requests_per_minute {big} CHECK (requests_per_minute > 0), ADD COLUMN note TEXT NOT NULL DEFAULT ''

ALTER TABLE debt ADD COLUMN token_class {text} NOT NULL DEFAULT 'standard', DROP CONSTRAINT debt_pkey

ALTER TABLE debt ADD PRIMARY KEY (account_id, token_class)

ALTER TABLE ledger_entry ADD COLUMN token_class {text} NOT NULL DEFAULT 'standard',
    ADD COLUMN number {big} CHECK (number > 0), ADD COLUMN author TEXT

DROP INDEX ledger_entry_account

UPDATE ledger_entry AS e SET number = n.number, reason = CASE WHEN reverses_request_id IS NULL THEN reason END
FROM (SELECT id, row_number() OVER (PARTITION BY account_id ORDER BY id) AS number FROM ledger_entry) AS n
WHERE n.id = e.id

ALTER TABLE ledger_entry ALTER COLUMN number SET NOT NULL

CREATE INDEX ledger_entry_account ON ledger_entry (account_id, id)
"""
"""The update of `ledger_entry` adds every row to each index, so one that the audit doesn't need is created after it.

The others must exist before, because PostgreSQL doesn't let a transaction use an index on rows that it has updated.
"""


def upgrade(tx: sa.Connection) -> None:
    """Migrate the database, while no server runs.

    Raises `OperatorError` if a server runs on PostgreSQL, or if the check of the foreign keys finds a difference. Then
    the caller rolls back.
    """
    if ddl.engine_of(tx) == "sqlite":
        _upgrade_sqlite(tx)
    else:
        _upgrade_postgres(tx)


def _upgrade_sqlite(tx: sa.Connection) -> None:
    for name in _OLD_SQLITE_GUARDS:
        tx.exec_driver_sql(f"DROP TRIGGER {name}")
    _create(tx, "sqlite", *_ADDED)
    ddl.execute_all(tx, "sqlite", _COMMON)
    with _numbering(tx):
        for table, (columns, values) in _COPIED.items():
            create, *indexes = ddl.statements_of("sqlite", table)
            tx.exec_driver_sql(create.replace(f"TABLE {table} ", f"TABLE new_{table} ", 1))
            key = columns.split(",", 1)[0]
            tx.exec_driver_sql(_COPY.format(table=table, columns=columns, values=values, key=key))
            tx.exec_driver_sql(f"DROP TABLE {table}")
            tx.exec_driver_sql(f"ALTER TABLE new_{table} RENAME TO {table}")
            for index in indexes:
                tx.exec_driver_sql(index)
    for guard in ddl.guards("sqlite"):
        tx.exec_driver_sql(guard)
    dangling = tx.exec_driver_sql("PRAGMA foreign_key_check").first()
    if dangling is not None:
        raise checks.failed(f"A row of the table {dangling[0]} refers to a row of {dangling[2]} that does not exist.")


@contextlib.contextmanager
def _numbering(tx: sa.Connection) -> Iterator[None]:
    """Provide the SQL function `tok0n_number`, which counts the calls for an account.

    A window function would sort all entries in memory.
    """
    numbers: Counter[str] = Counter()

    def next_number(account_id: str) -> int:
        numbers[account_id] += 1
        return numbers[account_id]

    connection = tx.connection.driver_connection
    assert isinstance(connection, sqlite3.Connection)
    connection.create_function("tok0n_number", 1, next_number)
    yield
    connection.create_function("tok0n_number", 1, None)


def _upgrade_postgres(tx: sa.Connection) -> None:
    checks.require_no_server(tx)
    # The hot path locks in this order too, which prevents deadlocks.
    tx.exec_driver_sql(
        "LOCK TABLE account, api_key, request, pack_order, ledger_entry, debt, redeem_code IN ACCESS EXCLUSIVE MODE"
    )
    tx.exec_driver_sql("DROP FUNCTION tok0n_ledger_batch")
    tx.exec_driver_sql("DROP FUNCTION tok0n_refuse, tok0n_key_changed CASCADE")  # with all triggers
    _create(tx, "postgresql", *_ADDED)
    ddl.execute_all(tx, "postgresql", _COMMON)
    ddl.execute_all(tx, "postgresql", _POSTGRES)
    for guard in ddl.guards("postgresql"):
        if not guard.startswith("ALTER TABLE"):  # 0102 has no such foreign keys either.
            tx.exec_driver_sql(guard)
    tx.exec_driver_sql(ddl.batch_function())


def _create(tx: sa.Connection, engine: ddl.Engine, *tables: str) -> None:
    for table in tables:
        for statement in ddl.statements_of(engine, table):
            tx.exec_driver_sql(statement)
