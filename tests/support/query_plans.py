"""Explain the statements that a block runs, and find those that scan a whole table which grows with history.

Reading all quarter hours of an account, or all periods of a budget, counts as a scan too.
"""

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

GROWING = (
    *("request", "ledger_entry", "account", "wallet", "usage_quarter"),
    *("api_key", "key_secret", "key_budget", "budget_period", "activity", "pack_order"),
    *("users", "session", "mail_link", "form_submission", "attempt", "redeem_code"),
    *("balance_alert", "alert_check", "notice", "notice_preference", "known_device"),
    *("document", "purchase_email", "billing_details"),
)
"""The tables that no periodic statement may scan."""

SMALL_INDEXES = ("request_pending", "ledger_entry_reversal", "purchase_email_due")
"""Partial indexes whose entries don't grow with history. Reading one whole is no scan."""

_TABLES = "|".join(GROWING)
_SQLITE_WHOLE_HISTORY = re.compile(
    r"SEARCH (?:(?:usage_quarter|u) USING .*\(account_id=\?\)|budget_period USING .*\(budget_id=\?\))"
)
_SQLITE_SCAN = re.compile(rf"SCAN (?:{_TABLES}|[a-z])\b(?!.*(?:{'|'.join(SMALL_INDEXES)}))")
_POSTGRES_SCAN = re.compile(rf"Seq Scan on ({_TABLES})\b")
_POSTGRES_WHOLE_HISTORY = {
    "usage_quarter_pkey": re.compile(r"Index Cond: (?=.*account_id = )(?!.*\bquarter\b)"),
    "budget_period_pkey": re.compile(r"Index Cond: (?=.*budget_id = )(?!.*\bstarts_at_us\b)"),
}
_POSTGRES_INDEX = re.compile(rf"Index (?:Only )?Scan (?:Backward )?using (\w+) on (?:{_TABLES})\b|Index Scan on (\w+)")


@contextlib.contextmanager
def explained() -> Iterator[list[str]]:
    """Collect the statements with a scan, each with its plan."""
    scans: list[str] = []
    is_explaining = False

    def explain(connection: sa.Connection, cursor: Any, statement: str, parameters: Any, *context: Any) -> None:
        nonlocal is_explaining
        del cursor
        is_many = context[-1]
        if is_explaining or not statement.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "INSERT", "WITH")):
            return
        is_explaining = True
        first = parameters[0] if is_many else parameters
        keyword = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
        plan = [str(row[-1]) for row in connection.exec_driver_sql(keyword + statement, first)]
        is_explaining = False
        if _has_scan(plan, is_sqlite=connection.dialect.name == "sqlite"):
            scans.append("\n".join([statement, *plan]))

    sa.event.listen(sa.Engine, "before_cursor_execute", explain)
    try:
        yield scans
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", explain)


@contextlib.contextmanager
def recorded() -> Iterator[list[str]]:
    """Collect the statements that a block runs."""
    statements: list[str] = []

    def record(connection: sa.Connection, cursor: Any, statement: str, *context: Any) -> None:
        del connection, cursor, context
        statements.append(statement)

    sa.event.listen(sa.Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", record)


def scans_of(tx: sa.Connection, statements: Iterable[str]) -> list[str]:
    """Return the statements with a scan, each with its plan. They have no parameters."""
    is_sqlite = tx.dialect.name == "sqlite"
    scans: list[str] = []
    for statement in statements:
        rows = tx.exec_driver_sql(("EXPLAIN QUERY PLAN " if is_sqlite else "EXPLAIN ") + statement)
        plan = [str(row[-1]) for row in rows]
        if _has_scan(plan, is_sqlite=is_sqlite):
            scans.append("\n".join([statement, *plan]))
    return scans


def _has_scan(plan: list[str], *, is_sqlite: bool) -> bool:
    if is_sqlite:
        return any(_SQLITE_SCAN.search(line) or _SQLITE_WHOLE_HISTORY.search(line) for line in plan)
    for number, line in enumerate(plan):
        if _POSTGRES_SCAN.search(line):
            return True
        found = _POSTGRES_INDEX.search(line)
        conditions = plan[number + 1 : number + 2]
        index = found and (found[1] or found[2])
        if index and index not in SMALL_INDEXES and "Index Cond" not in "".join(conditions):
            return True
        whole_history = _POSTGRES_WHOLE_HISTORY.get(index or "")
        if whole_history and whole_history.search("".join(conditions)):
            return True
    return False
